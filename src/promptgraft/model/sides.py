"""The sides of a sequence-to-sequence model: what its encoder reads, each text once, and what its decoder writes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.backbone import Batch
from promptgraft.model.tokens import Tokens


@dataclass(frozen=True)
class Sides:
    """The sequences of a batch, parted before the first token of the answer.

    Attributes:
        sources: for the encoder, sequences without answers.
        source_of: of every sequence of the batch, its source.
        answers: for the decoder, the tokens of the answers; none for sequences without one.
        starts: offsets of the sequences among these.
        scored: which of these are flagged.
        marked: of every sequence, how many tokens of its answer are read before the marked state.
    """

    sources: Batch
    source_of: Int[Tensor, "S"]
    answers: Int[Tensor, "N"]
    starts: Int[Tensor, "S_plus_1"]
    scored: Bool[Tensor, "N"]
    marked: Int[Tensor, "S"]


def part(batch: Batch, *, once: bool) -> Sides:
    """Part the sequences of a batch.

    Args:
        once: whether sources that are alike, with the same prompt, are one.

    Raises:
        RunError: a sequence has nothing for the encoder.
    """
    tokens = batch.tokens
    sequence = torch.arange(tokens.sequences).repeat_interleave(tokens.lengths)
    place = torch.arange(len(tokens.ids)) - tokens.starts[sequence]
    flagged = torch.zeros_like(tokens.ids, dtype=torch.bool) if tokens.answers is None else tokens.answers
    first = torch.where(flagged, place, tokens.lengths[sequence])
    read = tokens.lengths.scatter_reduce(0, sequence, first, "amin")
    if bool((read == 0).any()):
        raise RunError("a row has an answer and no text before it", do="give every row a text")
    of_source = place < read[sequence]
    source = Tokens(tokens.ids[of_source], tokens.types[of_source], _offsets(read), torch.arange(tokens.sequences + 1))
    chosen, source_of = _distinct(source, batch.prompt_of) if once else (torch.arange(tokens.sequences),) * 2
    owner = None if batch.prompt_of is None else batch.prompt_of[chosen]
    sources = Batch(source if len(chosen) == tokens.sequences else source.select(chosen), owner)
    marks = torch.zeros_like(read) if tokens.marks is None else tokens.marks - read + 1
    ids, starts = tokens.ids[~of_source], _offsets(tokens.lengths - read)
    return Sides(sources, source_of, ids, starts, flagged[~of_source], marks.clamp_min(0))


def _distinct(source: Tokens, prompt_of: Int[Tensor, "S"] | None) -> tuple[Int[Tensor, "M"], Int[Tensor, "S"]]:
    """The first sequence of each text and prompt, and of every sequence its place among these."""
    owners = [0] * source.sequences if prompt_of is None else prompt_of.tolist()
    texts = [tuple(ids.tolist()) for ids in source.ids.tensor_split(source.starts[1:-1])]
    number: dict[tuple[int, tuple[int, ...]], int] = {}
    source_of = [number.setdefault(key, len(number)) for key in zip(owners, texts, strict=True)]
    first = {source: sequence for sequence, source in reversed(list(enumerate(source_of)))}
    return torch.tensor([first[source] for source in range(len(number))]), torch.tensor(source_of)


def _offsets(lengths: Int[Tensor, "S"]) -> Int[Tensor, "S_plus_1"]:
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
