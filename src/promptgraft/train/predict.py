"""Hidden states and scores of many rows are computed without gradient, under several prompts at once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.backbone import Backbone, Batch, Read, Writes
from promptgraft.model.device import tokens_at_once
from promptgraft.model.tokens import Tokens, concatenate, gather
from promptgraft.prompt.prompt import Prompt, PromptStack, stack
from promptgraft.prompt.reading import ANSWERED
from promptgraft.readout.features import features, width_of
from promptgraft.readout.readout import device_of
from promptgraft.train.run import Tuned
from promptgraft.train.together import Readers, readers, score_together

# Tokens in one forward: large enough to keep the matrix products busy, small enough that the activations of
# a layer stay in the processor's cache (measured flat between 1,024 and 8,192 on two cores).
FORWARD_TOKENS = 4096


@dataclass(frozen=True)
class Question:
    """Rows to be scored by one tuned model; where it has others beside it, they are shown the rows alike."""

    tuned: Tuned
    tokens: Tokens


def hidden_states(
    backbone: Backbone, tokens: Tokens, prompts: PromptStack | None, prompt_of: Int[Tensor, "S"] | None, read: Read
) -> Float[Tensor, "N H"]:
    """Hidden states of all sequences, computed in batches of similar length, in the order of the input.

    They come back to the processor, where there is room for any number. The answers of a row stay together where the
    backbone reads once what they begin with.

    Returns: `[S, H]`, `[T, H]` where `read` is `tokens`, or `[N, 1]` of N answers' tokens where it is `answer`.
    """
    rows = (
        tokens if read == "answer" and isinstance(backbone, Writes) and backbone.speech == "causal" else tokens.singly
    )
    lengths = rows.lengths if rows.count == rows.sequences else answered_lengths(rows)
    parts: list[Tensor] = []
    places: list[Tensor] = []
    with torch.no_grad():
        for index in batches_by_length(lengths, tokens_at_once(backbone, FORWARD_TOKENS)):
            sequences, _ = gather(rows.rows, index)
            batch = Batch(rows.select(index), None if prompt_of is None else prompt_of[sequences])
            parts.append(backbone.forward(batch, prompts, read).cpu())
            places.append(places_of(tokens, sequences, read))
    if not parts:
        width = 1 if read in ANSWERED else width_of(backbone, "mark" if read == "mark" else "pooled", "cross")
        return torch.zeros(0, width)
    states = torch.cat(parts)
    result = torch.empty_like(states)
    result[torch.cat(places)] = states
    return result


def answered_lengths(tokens: Tokens) -> Int[Tensor, "B"]:
    """How many tokens of a row's sequences are read where its answers share their text."""
    assert tokens.answers is not None, "only rows with answers share a text"
    answers = _sums(tokens.answers, tokens.starts)
    texts = tokens.lengths - answers
    row_of = torch.arange(tokens.count).repeat_interleave(tokens.rows.diff())
    longest = torch.zeros(tokens.count, dtype=torch.long).scatter_reduce_(0, row_of, texts, "amax")
    return longest + _sums(answers, tokens.rows)


def _sums(values: Tensor, ends: Int[Tensor, "N_plus_1"]) -> Int[Tensor, "N"]:
    """The sums of values between the ends."""
    return torch.nn.functional.pad(values.long().cumsum(0), (1, 0))[ends].diff()


def places_of(tokens: Tokens, index: Int[Tensor, "M"], read: Read) -> Int[Tensor, "N"]:
    """Where the states of some sequences stand among those of all."""
    if read != "tokens" and read not in ANSWERED:
        return index
    places, _ = gather(tokens.starts, index)
    if read == "tokens":
        return places
    assert tokens.answers is not None, "only rows with answers have log-probabilities"
    return (tokens.answers.long().cumsum(0) - 1)[places[tokens.answers[places]]]


def batches_by_length(lengths: Int[Tensor, "S"], budget: int) -> Iterator[Int[Tensor, "N"]]:
    """Indices of sequences, longest first, in groups of at most `budget` tokens."""
    order = lengths.argsort(descending=True, stable=True)
    group = (lengths[order].cumsum(0) - 1) // budget
    yield from order.split(torch.bincount(group).tolist()) if len(order) else ()


def pooled(backbone: Backbone, prompt: Prompt | None, tokens: Tokens, read: Read) -> Float[Tensor, "N H"]:
    """Hidden states of rows that all have the same prompt (or none)."""
    return pooled_each(backbone, () if prompt is None else (prompt,), tokens, read)


def pooled_each(backbone: Backbone, prompts: Sequence[Prompt], tokens: Tokens, read: Read) -> Float[Tensor, "N H"]:
    """Hidden states of the same rows under each prompt, in shared batches; without a prompt where there is none.

    Args:
        prompts: of one kind.
    Returns: those under the first prompt, then the next.
    """
    if not prompts:
        return hidden_states(backbone, tokens, None, None, read)
    owner = torch.arange(len(prompts)).repeat_interleave(tokens.sequences)
    return hidden_states(backbone, concatenate([tokens] * len(prompts)), stack(prompts), owner, read)


def answer(backbone: Backbone, questions: Sequence[Question]) -> list[Tensor]:
    """Compute the scores of each question; models of one company (`Tuned.company`) share batches."""
    if any(question.tuned.others for question in questions):
        return _answer_members(backbone, questions)
    companies: dict[Hashable, list[int]] = {}
    for place, question in enumerate(questions):
        companies.setdefault(question.tuned.company, []).append(place)
    scores: dict[int, Tensor] = {}
    for places in companies.values():
        company = [questions[place] for place in places]
        models, rows = [question.tuned for question in company], [question.tokens.count for question in company]
        tokens = concatenate([question.tokens for question in company])
        weights = models[0].weights
        model = models[0].model or (backbone if weights is None else backbone.with_weights(weights))
        scores |= zip(places, answer_packed(model, stacked(models, rows), tokens, rows), strict=True)
    return [scores[place] for place in range(len(questions))]


def _answer_members(backbone: Backbone, questions: Sequence[Question]) -> list[Tensor]:
    """Compute the scores of models that have others beside them: the sum over all of a question's members."""
    members = [[Question(model, question.tokens) for model in question.tuned.members] for question in questions]
    scores = iter(answer(backbone, [question for group in members for question in group]))
    return [add_scores([next(scores) for _ in group]) for group in members]


def add_scores(scores: Sequence[Tensor]) -> Tensor:
    """The sum of several models' scores of the same rows."""
    return torch.stack(list(scores)).sum(0) if len(scores) > 1 else scores[0]


@dataclass(frozen=True)
class Stacked:
    """Models that score together, prepared once so that they can score again.

    Attributes:
        prompts: the models' prompts in one table; None where they have none.
    """

    models: Sequence[Tuned]
    prompts: PromptStack | None
    readers: Sequence[Readers]


def stacked(models: Sequence[Tuned], rows: Sequence[int]) -> Stacked:
    """Prepare models to score `rows` rows each; other numbers of rows take a little longer."""
    prompts = [model.prompt for model in models if model.prompt is not None]
    with torch.no_grad():
        return Stacked(models, stack(prompts) if prompts else None, readers(models, rows))


def answer_packed(backbone: Backbone, asked: Stacked, tokens: Tokens, rows: Sequence[int]) -> list[Tensor]:
    """Compute the scores of each model's rows in one packed batch.

    Args:
        rows: how many of the rows are the first model's, the second's, ...
    """
    sequences = tokens.rows[torch.tensor([0, *rows]).cumsum(0)].diff()
    owner = torch.arange(len(rows)).repeat_interleave(sequences) if asked.prompts is not None else None
    states = hidden_states(backbone, tokens, asked.prompts, owner, asked.models[0].read)
    with torch.no_grad():
        scored = score_together(asked.models, rows, tokens, states, asked.readers)
        return [scores.cpu() for group in scored for scores in group.each()]


def answer_one(backbone: Backbone, tuned: Tuned, tokens: Tokens) -> Tensor:
    """Compute the scores of one tuned model."""
    return answer(backbone, [Question(tuned, tokens)])[0]


def score(tuned: Tuned, states: Float[Tensor, "N H"], tokens: Tokens) -> Tensor:
    """Compute scores from hidden states, on the readout's device."""
    states = states.to(device_of(tuned.readout))
    if tuned.readout.reads == "tokens":
        return tuned.readout.scores(states, tokens)
    return tuned.readout.scores(features(states, tokens, tuned.reading.encoding), tokens)
