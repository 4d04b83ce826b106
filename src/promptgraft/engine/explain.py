"""What is in an artefact's prompt and what it does: nearest words, attention, what each vector is worth, texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from promptgraft.engine.attended import AttentionShares, attention_shares
from promptgraft.engine.changed import Changes, changed
from promptgraft.engine.left_out import LeftOut, left_out
from promptgraft.engine.near_words import NearWords, near_words
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.unread import texts_as_places, unread_note
from promptgraft.prompt.card import Card, PromptCard
from promptgraft.task.task import Example
from promptgraft.train.predict import Question, answer
from promptgraft.train.run import Tuned

ExplainTell = Callable[[str, int, int], None]
"""Is told what is looked at now, how many pieces are done, and of how many."""


@dataclass(frozen=True)
class ExplainedMember:
    """A model of an artefact, its prompt explained.

    Attributes:
        name: what it is.
        share: its part of the spread of all members' scores over the answers; None of one alone.
        prompt: the form of its prompt; None where it has none.
        template: the words that it reads rows in.
        words, attention, left_out: None where there are none; the notes say why.
    """

    name: str
    share: float | None
    prompt: PromptCard | None
    template: str | None
    words: NearWords | None = None
    attention: AttentionShares | None = None
    left_out: LeftOut | None = None


@dataclass(frozen=True)
class Explained:
    """What was found out about an artefact.

    Attributes:
        members: its models; one for most.
        rows, labelled: rows that were asked, and how many of these have a label.
        changes: of the answers without the prompt; None without rows or prompt.
    """

    card: Card
    members: tuple[ExplainedMember, ...]
    rows: int
    labelled: int
    changes: Changes | None
    notes: tuple[str, ...]

    @property
    def has_prompt(self) -> bool:
        """Whether there are vectors to explain."""
        return any(member.prompt is not None for member in self.members)


@dataclass(frozen=True)
class ExplainedRows:
    """The rows that an artefact is asked.

    Attributes:
        questions, scores: every member with the rows as it is shown them, and its scores.
    """

    examples: tuple[Example, ...] = ()
    labelled: int = 0
    questions: tuple[Question, ...] = ()
    scores: tuple[Tensor, ...] = ()


def explain(predictor: Predictor, examples: Sequence[Example] = (), tell: ExplainTell | None = None) -> Explained:
    """Explain the prompts of an artefact.

    Args:
        examples: rows to ask; where some are labelled, the others are left out. Without any, words and norms are told.
    """
    members, card = predictor.tuned.members, predictor.artefact.card
    if all(member.prompt is None for member in members):
        note = f"{card.method} has no prompt, so there are no vectors to explain; {_instead(members, card)}"
        plain = tuple(ExplainedMember(_name(member), None, None, member.reading.template) for member in members)
        return Explained(card, plain, 0, 0, None, (note,))
    asked, notes = _asked(predictor, examples)
    explained = []
    for number in range(len(members)):
        if tell is not None:
            tell(f"member {number + 1} of {len(members)}", number, len(members) + 1)
        member, more = _member(predictor, asked, number)
        explained.append(member)
        notes += more
    if tell is not None:
        tell("texts", len(members), len(members) + 1)
    changes = changed(predictor, asked.examples, asked.questions, asked.scores) if asked.questions else None
    return Explained(card, tuple(explained), len(asked.examples), asked.labelled, changes, tuple(dict.fromkeys(notes)))


def _instead(members: Sequence[Tuned], card: Card) -> str:
    """What gives vectors, where an artefact has none."""
    tune = f"promptgraft tune TASK --model {card.backbone.name}"
    if all(member.reading.template is None for member in members):
        return f"`{tune}` makes some"
    try_on = f"promptgraft templates try TASK --model {card.backbone.name}"
    return f"`{tune} --template ...` starts some from its words, `{try_on} --template ...` shows these on rows"


def _asked(predictor: Predictor, examples: Sequence[Example]) -> tuple[ExplainedRows, list[str]]:
    """Ask every member for the rows, and say what is left out for want of rows or labels."""
    labelled = [example for example in examples if example.label is not None]
    notes = []
    if labelled and len(labelled) < len(examples):
        count = len(examples) - len(labelled)
        notes.append(
            "1 row without a label is left out" if count == 1 else f"{count} rows without a label are left out"
        )
    if not examples:
        return ExplainedRows(), ["no rows were given (--file), so that only words and norms are told"]
    if not labelled:
        notes.append("no row has a label, so that it is not told what leaving out a vector costs")
    rows = tuple(labelled or examples)
    questions = predictor.questions(rows)
    unread = predictor.unread(rows, questions)
    places = texts_as_places(rows)
    notes += [unread_note(numbers, len(rows), model, places) for model, numbers in unread.items()]
    scored = bool(labelled) or not predictor.tuned.readout.writes
    scores = answer(predictor.backbone, questions) if scored else []
    return ExplainedRows(rows, len(labelled), tuple(questions), tuple(scores)), notes


def _member(predictor: Predictor, asked: ExplainedRows, number: int) -> tuple[ExplainedMember, list[str]]:
    """Explain one member, with notes on what cannot be told of it."""
    member = predictor.tuned.members[number]
    backbone, template = member.model or predictor.backbone, member.reading.template
    share = _share(asked.scores, number) if len(asked.scores) > 1 else None
    if member.prompt is None:
        return ExplainedMember(_name(member), share, None, template), []
    notes = []
    words = near_words(backbone, member.prompt)
    if words is None:
        notes.append(f"the vocabulary of {backbone.name} has no whole words, so that none is nearest")
    attention = attention_shares(predictor.backbone, asked.questions[number]) if asked.questions else None
    if asked.questions and attention is None:
        notes.append(f"{backbone.name} runs through transformers, where attention is not read off")
    left = None
    if asked.labelled:
        left = left_out(predictor.backbone, asked.questions, asked.scores, number, asked.examples, predictor.task)
    form = PromptCard.of(member.prompt)
    return ExplainedMember(_name(member), share, form, template, words, attention, left), notes


def _share(members: Sequence[Tensor], number: int) -> float:
    """A member's part of the spread of all members' scores over the answers."""
    spreads = []
    for scores in members:
        finite = scores.double().masked_fill(~scores.isfinite(), float("nan"))
        centred = finite - finite.nanmean(-1, keepdim=True) if scores.ndim > 1 else finite - finite.mean()
        spreads.append(float(centred.square().nanmean().sqrt()))
    return spreads[number] / (sum(spreads) or 1.0)


def _name(member: Tuned) -> str:
    """What a member is, in words."""
    prompt, reader = member.prompt, "" if member.model is None else f" read by {member.model.name}"
    if prompt is not None:
        return f"{prompt.depth} prompt of {prompt.length} vector{'' if prompt.length == 1 else 's'}{reader}"
    return f"words of a template{reader}" if member.reading.template is not None else f"no prompt{reader}"
