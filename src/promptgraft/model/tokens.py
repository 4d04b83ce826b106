"""Tokenised rows are stored without padding, as flat token ids with the offsets of sequences and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """B rows of S sequences of T tokens, all end to end.

    A row is one example. It is one sequence, except for a choice (one a choice) and a pair that is
    encoded separately (two).

    Attributes:
        ids, types: token and segment ids.
        starts: sequence s is tokens `starts[s]:starts[s + 1]`.
        rows: row b is sequences `rows[b]:rows[b + 1]`.
        words: for tagging, at the first token of a word the word's index in its row, else -1.
        chars: for span, of each token of the context its first and one-past-last character, else -1.
        cut: how many sequences were longer than allowed and were cut.
    """

    ids: Int[Tensor, "T"]
    types: Int[Tensor, "T"]
    starts: Int[Tensor, "S_plus_1"]
    rows: Int[Tensor, "B_plus_1"]
    words: Int[Tensor, "T"] | None = None
    chars: Int[Tensor, "T 2"] | None = None
    cut: int = 0

    @property
    def count(self) -> int:
        """The number B of rows."""
        return len(self.rows) - 1

    @property
    def sequences(self) -> int:
        """The number S of sequences."""
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> Int[Tensor, "S"]:
        """The number of tokens of each sequence."""
        return self.starts.diff()

    @cached_property
    def row_tokens(self) -> Int[Tensor, "B_plus_1"]:
        """Offsets of rows over tokens: row b is tokens `row_tokens[b]:row_tokens[b + 1]`."""
        return self.starts[self.rows]

    @cached_property
    def row_words(self) -> Int[Tensor, "B_plus_1"]:
        """Offsets of rows over words (tagging): row b has words `row_words[b]:row_words[b + 1]` of the flat list."""
        assert self.words is not None, "only tagging rows have words"
        ends = torch.nn.functional.pad((self.words >= 0).long().cumsum(0), (1, 0))
        return ends[self.row_tokens]

    def select(self, index: Int[Tensor, "N"]) -> Tokens:
        """The rows named by `index`, in that order."""
        sequences, rows = gather(self.rows, index)
        tokens, starts = gather(self.starts, sequences)
        words = None if self.words is None else self.words[tokens]
        chars = None if self.chars is None else self.chars[tokens]
        return Tokens(self.ids[tokens], self.types[tokens], starts, rows, words, chars)

    def part(self, first: int, last: int) -> Tokens:
        """Rows `first` to `last - 1`."""
        if first == 0 and last == self.count:
            return self
        rows = self.rows[first : last + 1]
        starts = self.starts[rows[0] : rows[-1] + 1]
        tokens = slice(int(starts[0]), int(starts[-1]))
        words = None if self.words is None else self.words[tokens]
        chars = None if self.chars is None else self.chars[tokens]
        return Tokens(self.ids[tokens], self.types[tokens], starts - starts[0], rows - rows[0], words, chars)


def gather(
    starts: Int[Tensor, "M_plus_1"], index: Int[Tensor, "N"]
) -> tuple[Int[Tensor, "R"], Int[Tensor, "N_plus_1"]]:
    """The members of the ranges in `index`, end to end, and the offsets of the ranges among them."""
    lengths = starts.diff()[index]
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    shift = (starts[index] - offsets[:-1]).repeat_interleave(lengths)
    return torch.arange(int(offsets[-1])) + shift, offsets


def concatenate(parts: Sequence[Tokens]) -> Tokens:
    """Join the rows of several batches; fields that only some batches have are -1 in the others."""
    if len(parts) == 1:
        return parts[0]
    words = [part.words for part in parts if part.words is not None]
    chars = [part.chars for part in parts if part.chars is not None]
    if words and len(words) < len(parts):
        words = [part.words if part.words is not None else torch.full_like(part.ids, -1) for part in parts]
    if chars and len(chars) < len(parts):
        chars = [part.chars if part.chars is not None else part.ids.new_full((len(part.ids), 2), -1) for part in parts]
    return Tokens(
        torch.cat([part.ids for part in parts]),
        torch.cat([part.types for part in parts]),
        _chain([part.starts for part in parts]),
        _chain([part.rows for part in parts]),
        torch.cat(words) if words else None,
        torch.cat(chars) if chars else None,
        sum(part.cut for part in parts),
    )


def _chain(offsets: Sequence[Int[Tensor, "..."]]) -> Int[Tensor, "..."]:
    """The offsets of concatenated lists, each shifted by the total before it."""
    within = torch.ones(sum(map(len, offsets)), dtype=torch.bool)
    within[torch.tensor([0, *map(len, offsets[:-1])]).cumsum(0)] = False  # a list's first is no length
    lengths = torch.cat(list(offsets)).diff(prepend=torch.zeros(1, dtype=torch.long))[within]
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
