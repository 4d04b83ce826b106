"""`distil` puts what a long template says into a prompt, and says what was lost and what a pass costs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.api.checking import check_given, check_roles
from promptgraft.api.finding import FoundWords, fitting, opened_template
from promptgraft.api.opening import open_task, texts_alone
from promptgraft.api.tuning import Outcome, tune
from promptgraft.arguments import checked
from promptgraft.bank.bank import Bank
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.progress import Progress
from promptgraft.engine.view import JobView
from promptgraft.engine.worded import AUTO, words_given
from promptgraft.errors import TaskError, UsageError, within_memory
from promptgraft.method.distil import all_columns
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.prompt.reading import Reading
from promptgraft.readout.matched import ROWS_AT_ONCE, Matched
from promptgraft.readout.verbalizer import Verbalizer
from promptgraft.task.frames import TaskData
from promptgraft.task.task import Example, Task
from promptgraft.template.known import KnownTemplate
from promptgraft.template.parts import Wording
from promptgraft.template.remainder import remainder
from promptgraft.template.words import words_for

MOST_JUDGED = 200
"""Rows on which what was lost is counted."""


@dataclass(frozen=True)
class KeptAnswers:
    """What a model keeps of the answers in a long template, without its words.

    Attributes:
        agreement: share of rows with the answer of the long template: the class, or where there are none the word.
        divergence: KL from the words of the long template, in nats a row.
        accuracy: share of right classes; None without labels.
    """

    agreement: float
    divergence: float
    accuracy: float | None


@dataclass(frozen=True)
class Distilled:
    """A distilled prompt, and how well it replaces the long template.

    Attributes:
        long, short: the templates.
        rows: number of rows that it is evaluated on; they were not trained on if there are others.
        tokens: mean number of tokens of a row in the long and in the short template.
        plain: answers of the short template without the prompt.
        kept: answers of the short template with the prompt.
        accuracy: of the long template; None without labels.
    """

    outcome: Outcome
    long: str
    short: str
    rows: int
    tokens: tuple[float, float]
    plain: KeptAnswers
    kept: KeptAnswers
    accuracy: float | None

    @property
    def lines(self) -> Iterator[str]:
        """Sentences on what was lost and what a pass now costs."""
        prompt = self.outcome.artefact.prompt
        vectors = 0 if prompt is None else prompt.length
        before, after = self.tokens
        yield f"a row has {after:.0f} tokens beside {vectors} key-value pairs, where it had {before:.0f}"
        yield (
            f"{self.kept.agreement:.0%} of {self.rows} rows are answered as in the long template "
            f"({self.plain.agreement:.0%} without the prompt)"
        )
        yield f"KL over all words {self.kept.divergence:.3f} nats ({self.plain.divergence:.3f} without the prompt)"
        if self.accuracy is not None and self.kept.accuracy is not None and self.plain.accuracy is not None:
            yield (
                f"right: {self.accuracy:.1%} in the long template, {self.kept.accuracy:.1%} with the prompt, "
                f"{self.plain.accuracy:.1%} without either"
            )


@checked
@within_memory()
def distil(
    template: str,
    model: Backbone | str | Path,
    data: Task | TaskData,
    *,
    to: str = "",
    columns: Mapping[str, str] | None = None,
    length: int = 16,
    out: str | Path | None = None,
    bank: Bank | str | Path | None = None,
    name: str | None = None,
    replace: bool = False,
    shots: int | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Distilled:
    """Train a prompt with which a model answers as in a long template, without its instruction or demonstrations.

    Args:
        template: the long template: a name of the library, a text with slots, or the folder of a search; `{demos:16}`
            is filled with rows of the task.
        data: a task, or a file of texts without labels.
        to: the short template; default: the line of the long one that contains the fields.
        columns: of a file, by what they contain: `text`, `pair`, `label`; default: by their usual names.
        length: number of key-value pairs of the prompt.
        shots: labelled rows that are drawn for each class; None: all.
        recipe: values of `Recipe` that differ from the defaults.
    Raises:
        UsageError: something that is no template, or a template with nothing to leave out.
    """
    check_given(
        model, recipe={**recipe, "length": length}, name=name, columns=columns, out=out, seeds=(seed,),
        shots=shots, device=device,
    )  # fmt: skip
    known, found = opened_template(template)
    long = known.template
    short = opened_template(to)[0].template if to else remainder(long)
    task = texts_of(data, columns, str(recipe.get("verbalizer") or ""))
    if str(short) == str(long):
        raise UsageError("the template has no instruction or demonstrations", do="give a shorter one with --to")
    if found is not None:
        found = fitting(found, task)
        task = task.noted(*found.notes)
    values: dict[str, Any] = {**_brought(known, found, task, recipe), **recipe}
    outcome = tune(
        task,
        model,
        method="distil",
        options={"long": str(long)},
        out=out,
        bank=bank,
        name=name,
        replace=replace,
        shots=shots,
        seeds=(seed,),
        device=device,
        progress=progress,
        template=str(short),
        length=length,
        **values,
    )
    view = LocalEngine(outcome.predictor.backbone).view(outcome.best.job)
    return _judged(outcome, view, str(long), str(short))


def _brought(known: KnownTemplate, found: FoundWords | None, task: Task, given: Collection[str]) -> dict[str, object]:
    """What the long template brings to a recipe, unless it is given: the words to start from, and those of labels."""
    words = " ".join(part.text.strip() for part in known.template.parts if isinstance(part, Wording)).strip()
    values: dict[str, object] = {"init": "text", "init_text": words} if words and "init" not in given else {}
    if "verbalizer" not in given:
        values["verbalizer"] = _verbalizer(known, task) if found is None else found.verbalizer
    return values


def _verbalizer(known: KnownTemplate, task: Task) -> str:
    """The words of the labels that the long template brings, which its text alone would not say."""
    if not task.facts.one_class or not known.words:
        return ""
    return ",".join(f"{label}={'|'.join(words)}" for label, words in words_for(known, task).words.items())


@checked
def texts_of(data: Task | TaskData, columns: Mapping[str, str] | None = None, verbalizer: str = "") -> Task:
    """The task, or one of the texts of a file without labels.

    Args:
        columns: of a file, by what they hold; default: by their usual names.
        verbalizer: the words of labels, which name the labels of a file that has none.
    Raises:
        UsageError: what a column is said to hold is nothing that rows have.
        TaskError: it can be read neither way.
    """
    check_roles(columns)
    named: dict[str, Any] = dict(columns or {})
    try:
        return open_task(data, **named)
    except TaskError as problem:
        labels = {} if verbalizer == AUTO else _as_described(verbalizer)
        return open_task(data, labels=labels, **named) if labels else texts_alone(data, named, problem)


def _as_described(verbalizer: str) -> dict[str, str]:
    """Label -> its words, which say what it means."""
    return {label: ", ".join(words) for label, words in words_given(verbalizer).items()}


def _judged(outcome: Outcome, view: JobView, long: str, short: str) -> Distilled:
    """Count what was lost on rows that were not trained on, where there are any."""
    task, tuned = view.task, outcome.predictor.tuned
    rows = (task.test or task.validation or task.train or task.splits.get("unlabelled", ()))[:MOST_JUDGED]
    before = view.in_full(long, rows)
    after = view.tokens_of(rows, Reading("mark", template=short))
    teacher = view.shared.states(before, None, "mark")
    plain, prompted = (view.shared.states(after, prompt, "mark") for prompt in (None, tuned.prompt))
    readout = tuned.readout if isinstance(tuned.readout, Verbalizer) else None
    matched = Matched(*all_columns(view.backbone), teacher.float())
    wanted = _answers(teacher, matched, readout)
    gold = _gold(rows, task) if readout is not None else None

    def kept(states: Float[Tensor, "N E"]) -> KeptAnswers:
        answers = _answers(states, matched, readout)
        with torch.no_grad():
            divergence = float(matched.loss(states.float(), torch.arange(len(states))).mean())
        return KeptAnswers(float((answers == wanted).float().mean()), divergence, _right(answers, gold))

    tokens = float(before.lengths.float().mean()), float(after.lengths.float().mean())
    return Distilled(outcome, long, short, len(rows), tokens, kept(plain), kept(prompted), _right(wanted, gold))


def _answers(states: Float[Tensor, "N E"], matched: Matched, readout: Verbalizer | None) -> Tensor:
    """The class of each row, or the likeliest word."""
    with torch.no_grad():
        if readout is not None:
            return (states.float() @ readout.columns.T + readout.offset).argmax(-1)
        return torch.cat([matched.words(part).argmax(-1) for part in states.split(ROWS_AT_ONCE)])


def _gold(rows: tuple[Example, ...], task: Task) -> Tensor | None:
    """The class of each row; None where some have no label."""
    if not task.facts.one_class or any(row.label is None for row in rows):
        return None
    return torch.tensor([task.classes.index(str(row.label)) for row in rows])


def _right(answers: Tensor, gold: Tensor | None) -> float | None:
    return None if gold is None else float((answers == gold).float().mean())
