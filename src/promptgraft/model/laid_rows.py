"""Rows are laid out as places in a pool of tokens that were read once, from which numpy takes them in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Int

from promptgraft.model.filled import FilledReader
from promptgraft.model.template_plan import Ids, JointPart
from promptgraft.model.tokens import Tokens, with_answers
from promptgraft.task.draws import Array

UNREAD = -1


def _none() -> Int[Array, "0"]:
    return np.zeros(0, np.int64)


@dataclass
class PartTokens:
    """The tokens of a part for the rows, whole or cut, that it was read for, end to end.

    Attributes:
        first, length: of each row; a length of -1 where it was not read yet.
    """

    first: Int[Array, "B"] = field(default_factory=_none)
    length: Int[Array, "B"] = field(default_factory=_none)
    ids: Int[Array, "T"] = field(default_factory=_none)

    def unread(self, rows: Int[Array, "N"]) -> Int[Array, "M"]:
        """The rows among these that it was not read for yet."""
        missing = max(0, int(rows.max(initial=UNREAD)) + 1 - len(self.first))
        self.first = np.pad(self.first, (0, missing))
        self.length = np.pad(self.length, (0, missing), constant_values=UNREAD)
        return np.unique(rows[self.length[rows] == UNREAD])

    def add(self, rows: Int[Array, "N"], read: Sequence[Sequence[int]]) -> None:
        """Note the tokens of rows."""
        lengths = np.array([len(ids) for ids in read], np.int64)
        self.first[rows] = len(self.ids) + lengths.cumsum() - lengths
        self.length[rows] = lengths
        self.ids = np.concatenate([self.ids, *(np.array(ids, np.int64) for ids in read)])


@dataclass
class CutRows:
    """Rows that are cut so that they fit.

    Attributes:
        numbers: a row and for how many tokens of it there is room -> its number among these.
        texts: of each what is left of its contents; none where one of them is cut to nothing, so that the template
            reads otherwise.
    """

    numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    texts: list[tuple[str, ...]] = field(default_factory=list)
    parts: dict[JointPart, PartTokens] = field(default_factory=dict)


@dataclass
class TokenPool:
    """Arrays of tokens end to end, each once."""

    arrays: list[Int[Array, "T"]] = field(default_factory=list)
    size: int = 0
    _starts: dict[int, int] = field(default_factory=dict)

    def start(self, ids: Int[Array, "T"]) -> int:
        """Where an array begins."""
        if id(ids) not in self._starts:
            self._starts[id(ids)] = self.size
            self.arrays.append(ids)
            self.size += len(ids)
        return self._starts[id(ids)]


@dataclass(frozen=True)
class ReadAnswers:
    """The tokens of the answers that a row is read with.

    Attributes:
        longest: tokens of the longest.
        is_cut: whether one of them is longer than an answer may be.
    """

    ids: tuple[Ids, ...]
    longest: int
    is_cut: bool

    @classmethod
    def of(cls, options: Sequence[Sequence[int]], *, is_cut: bool) -> ReadAnswers:
        """The answers with these tokens."""
        return cls(tuple(map(tuple, options)), max(map(len, options), default=0), is_cut)


@dataclass(frozen=True)
class LaidRows:
    """Where the tokens of a template's rows lie in a pool.

    Attributes:
        first, length: of each part of each row.
        mark: of each row the index of the token that is read.
        is_cut: which rows are cut, or their answers.
        answers: the tokens of each answer that a row is read with.
        places: of each row among those that are asked about.
    """

    first: Int[Array, "P N"]
    length: Int[Array, "P N"]
    mark: Int[Array, "N"]
    is_cut: Bool[Array, "N"]
    answers: list[tuple[Ids, ...]]
    places: Int[Array, "N"]

    @classmethod
    def of(cls, parts: int, answers: Sequence[ReadAnswers], places: Int[Array, "N"]) -> LaidRows:
        """For so many parts of rows with these answers, nothing yet."""
        first, length = np.zeros((2, parts, len(answers)), np.int64)
        is_cut = np.array([own.is_cut for own in answers], bool)
        return cls(first, length, np.zeros_like(places), is_cut, [own.ids for own in answers], places)

    @property
    def cut(self) -> int:
        """How many sequences are cut: a row is one for each of its answers."""
        return sum(max(1, len(self.answers[row])) for row in np.flatnonzero(self.is_cut))


def packed(laid: Sequence[LaidRows], pool: TokenPool, reader: FilledReader) -> list[Tokens]:
    """The tokens of several templates, taken from a pool in one go."""
    if not laid:
        return []
    first, length = (np.concatenate([getattr(entry, name).T.ravel() for entry in laid]) for name in ("first", "length"))
    shift = first - length.cumsum() + length
    ids = np.concatenate(pool.arrays)[np.arange(length.sum()) + shift.repeat(length)]
    sizes = [entry.length.sum(0) for entry in laid]
    starts = np.concatenate([[0], np.concatenate(sizes).cumsum()])
    types = _types(starts, len(ids), reader)
    result, at = [], 0
    for entry, own in zip(laid, sizes, strict=True):
        begin, end = starts[at], starts[at + len(own)]
        tokens = Tokens(
            ids=torch.from_numpy(ids[begin:end]),
            types=torch.from_numpy(types[begin:end]),
            starts=torch.from_numpy(starts[at : at + len(own) + 1] - begin),
            rows=torch.arange(len(own) + 1),
            cut=entry.cut,
            marks=None if (entry.mark == UNREAD).any() else torch.from_numpy(entry.mark),
        )
        result.append(_answered(tokens, entry.answers, reader) if any(entry.answers) else tokens)
        at += len(own)
    return result


def _answered(tokens: Tokens, answers: Sequence[Sequence[Ids]], reader: FilledReader) -> Tokens:
    """A sequence for every row with each of its answers, in the place of the mask or behind all."""
    inside = tokens.marks if reader.speech == "masked" else None
    return with_answers(tokens, answers, inside, reader.tokenizer.frames.single.text_types[0])


def _types(starts: Int[Array, "S_plus_1"], count: int, reader: FilledReader) -> Int[Array, "T"]:
    """The segment ids of tokens: those of the special tokens around each sequence, and of texts."""
    frame = reader.tokenizer.frames.single
    before, after = (kinds[: len(gap)] for kinds, gap in zip(frame.gap_types, reader.around, strict=True))
    types = np.full(count, frame.text_types[0], np.int64)
    for place, kind in enumerate(before):
        types[starts[:-1] + place] = kind
    for place, kind in enumerate(reversed(after), 1):
        types[starts[1:] - place] = kind
    return types
