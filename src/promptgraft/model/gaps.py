"""Gaps in texts, which T5 was trained to fill: a token stands for each (Raffel et al. 2020, section 3.1.4)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.plain_text import PlainReader
from promptgraft.model.tokenize import Tokenizer
from promptgraft.model.tokens import Tokens
from promptgraft.model.writing import Decode, Rules, Writing


@dataclass(frozen=True)
class FilledGaps:
    """What was written into the gaps of texts.

    Attributes:
        spans: of each text the words of each of its gaps; empty where none were written.
        read, written: tokens.
    """

    spans: tuple[tuple[str, ...], ...]
    read: int
    written: int


class GapWriting(Writing):
    """Answers whose tokens are kept, since gaps are told apart by tokens that no text shows."""

    def __init__(self, count: int, rules: Rules, decode: Decode) -> None:
        super().__init__(count, rules, decode)
        self.written: list[list[int]] = [[] for _ in range(count)]

    def add(self, scores: Float[Tensor, "S V"]) -> Int[Tensor, "S"]:
        is_open = [text is None for text in self.texts]
        chosen = super().add(scores)
        for row, token in enumerate(chosen.tolist()):
            if is_open[row]:
                self.written[row].append(token)
        return chosen


def gap_tokens(tokenizer: Tokenizer, count: int) -> tuple[int, ...] | None:
    """The tokens that stand for the first gaps of a text; None where the model knows no gaps."""
    tokens = [tokenizer.engine.token_to_id(f"<extra_id_{number}>") for number in range(count)]
    known = tuple(token for token in tokens if token is not None)
    return known if len(known) == count else None


def with_gaps(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], gaps: Sequence[int], limit: int) -> Tokens:
    """Texts in pieces, with the token of each gap between them, as the encoder reads them."""
    reader, (before, after) = PlainReader(tokenizer), tokenizer.frames.single.gaps
    rows = []
    for pieces in texts:
        ids = list(before)
        for number, piece in enumerate(reader.read(list(pieces))):
            ids += [*([gaps[number - 1]] if number else []), *piece.ids]
        rows.append([*ids, *after][-limit:])
    flat = torch.tensor([token for ids in rows for token in ids], dtype=torch.long)
    starts = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return Tokens(flat, torch.zeros_like(flat), starts, torch.arange(len(rows) + 1))


def between(ids: Sequence[int], gaps: Sequence[int], ends: Collection[int]) -> list[list[int]]:
    """The tokens behind each gap's own, up to the next one or an end; none where a gap was not filled."""
    result: list[list[int]] = [[] for _ in gaps]
    place = -1
    for token in ids:
        if token in ends:
            break
        if token in gaps:
            place = gaps.index(token)
        elif place >= 0:
            result[place].append(token)
    return result
