"""Tokenised rows are stored without padding, as flat token ids with the offsets of sequences and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Int
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
        marks: of each sequence the index, within it, of the token whose state is read; None where no token is marked.
        answers: which tokens are of an answer that is scored; None where none is.
        cut: how many sequences were longer than allowed and were cut.
    """

    ids: Int[Tensor, "T"]
    types: Int[Tensor, "T"]
    starts: Int[Tensor, "S_plus_1"]
    rows: Int[Tensor, "B_plus_1"]
    words: Int[Tensor, "T"] | None = None
    chars: Int[Tensor, "T 2"] | None = None
    cut: int = 0
    marks: Int[Tensor, "S"] | None = None
    answers: Bool[Tensor, "T"] | None = None

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
        return self._taken(tokens, sequences, starts, rows)

    def part(self, first: int, last: int) -> Tokens:
        """Rows `first` to `last - 1`."""
        if first == 0 and last == self.count:
            return self
        rows = self.rows[first : last + 1]
        starts = self.starts[rows[0] : rows[-1] + 1]
        sequences, tokens = slice(int(rows[0]), int(rows[-1])), slice(int(starts[0]), int(starts[-1]))
        return self._taken(tokens, sequences, starts - starts[0], rows - rows[0])

    @property
    def singly(self) -> Tokens:
        """The same sequences, each as a row of its own."""
        return replace(self, rows=torch.arange(self.sequences + 1), cut=0)

    def _taken(
        self,
        tokens: Tensor | slice,
        sequences: Tensor | slice,
        starts: Int[Tensor, "R_plus_1"],
        rows: Int[Tensor, "N_plus_1"],
    ) -> Tokens:
        """Some of the tokens and sequences, with new offsets."""
        places = {**dict.fromkeys(A_TOKEN, tokens), **dict.fromkeys(A_SEQUENCE, sequences)}
        fields = {name: getattr(self, name) for name in places}
        taken = {name: value[places[name]] for name, value in fields.items() if value is not None}
        return Tokens(starts=starts, rows=rows, **taken)


SOFT = -1
"""The id of a token in whose place a vector of the sequence's prompt stands."""
A_TOKEN = ("ids", "types", "words", "chars", "answers")
A_SEQUENCE = ("marks",)
"""The fields of `Tokens` that have a value a token, and a value a sequence."""


def gather(
    starts: Int[Tensor, "M_plus_1"], index: Int[Tensor, "N"]
) -> tuple[Int[Tensor, "R"], Int[Tensor, "N_plus_1"]]:
    """The members of the ranges in `index`, end to end, and the offsets of the ranges among them."""
    lengths = starts.diff()[index]
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    shift = (starts[index] - offsets[:-1]).repeat_interleave(lengths)
    return torch.arange(int(offsets[-1])) + shift, offsets


def concatenate(parts: Sequence[Tokens]) -> Tokens:
    """Join the rows of several batches; fields that only some batches have are -1 (or false) in the others."""
    if len(parts) == 1:
        return parts[0]
    fields = {name: _joined(parts, name) for name in (*A_TOKEN, *A_SEQUENCE)}
    return Tokens(
        starts=_chain([part.starts for part in parts]),
        rows=_chain([part.rows for part in parts]),
        cut=sum(part.cut for part in parts),
        **{name: value for name, value in fields.items() if value is not None},
    )


def _joined(parts: Sequence[Tokens], name: str) -> Tensor | None:
    """A field of several batches end to end; None where no batch has it."""
    known: list[Tensor] = [value for part in parts if (value := getattr(part, name)) is not None]
    if not known:
        return None
    missing = False if known[0].dtype == torch.bool else -1
    values = []
    for part in parts:
        value = getattr(part, name)
        count = len(part.ids) if name in A_TOKEN else part.sequences
        values.append(known[0].new_full((count, *known[0].shape[1:]), missing) if value is None else value)
    return torch.cat(values)


def _chain(offsets: Sequence[Int[Tensor, "..."]]) -> Int[Tensor, "..."]:
    """The offsets of concatenated lists, each shifted by the total before it."""
    within = torch.ones(sum(map(len, offsets)), dtype=torch.bool)
    within[torch.tensor([0, *map(len, offsets[:-1])]).cumsum(0)] = False  # a list's first is no length
    lengths = torch.cat(list(offsets)).diff(prepend=torch.zeros(1, dtype=torch.long))[within]
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))


def with_answers(
    tokens: Tokens, answers: Sequence[Sequence[tuple[int, ...]]], inside: Int[Tensor, "B"] | None, kind: int
) -> Tokens:
    """Rows of one sequence each, each with every one of its answers: a sequence for an answer, one where it has none.

    Args:
        inside: of each row the token in whose place its answers stand; None: they stand behind all.
        kind: the segment id of answers.
    """
    options = [answer for own in answers for answer in own or ((),)]
    distinct = {answer: place for place, answer in enumerate(dict.fromkeys(options))}
    own = torch.tensor([token for answer in distinct for token in answer], dtype=torch.long)
    which, sizes = torch.tensor([distinct[answer] for answer in options]), torch.tensor(list(map(len, distinct)))
    counts = torch.tensor([max(1, len(own)) for own in answers])
    before = tokens.lengths if inside is None else inside
    replaced = torch.tensor([inside is not None and len(own) > 0 for own in answers]).long()
    starts = tokens.starts[:-1]
    firsts, lengths = (
        [part.repeat_interleave(counts) for part in parts]
        for parts in ((starts, starts + before + replaced), (before, tokens.lengths - before - replaced))
    )
    first = torch.stack([firsts[0], (len(tokens.ids) + sizes.cumsum(0) - sizes)[which], firsts[1]], 1)
    length = torch.stack([lengths[0], sizes[which], lengths[1]], 1)
    ends = length.flatten().cumsum(0)
    shift = (first.flatten() - ends + length.flatten()).repeat_interleave(length.flatten())
    index = torch.arange(len(shift)) + shift
    return Tokens(
        ids=torch.cat([tokens.ids, own])[index],
        types=torch.cat([tokens.types, torch.full_like(own, kind)])[index],
        starts=torch.nn.functional.pad(length.sum(1).cumsum(0), (1, 0)),
        rows=torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
        cut=tokens.cut,
        marks=None if tokens.marks is None else tokens.marks.repeat_interleave(counts),
        answers=index >= len(tokens.ids),
    )
