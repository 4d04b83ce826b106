"""Frames are the special tokens around texts; framed texts are packed into `Tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from jaxtyping import Int
from tokenizers import Tokenizer as Engine
from torch import Tensor

from promptgraft.model.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Piece:
    """The tokens of one text, with the word each begins (tagging) or the characters it covers (span).

    Attributes:
        unread: the text goes on, with nothing read of its rest.
    """

    ids: list[int]
    words: list[int] | None = None
    chars: list[tuple[int, int]] | None = None
    unread: bool = False

    def first(self, count: int) -> Piece:
        """The piece with its first `count` tokens only."""
        if len(self.ids) <= count:
            return self
        count = max(count, 0)
        return Piece(self.ids[:count], self.words and self.words[:count], self.chars and self.chars[:count])


@dataclass(frozen=True, slots=True)
class FrameRow:
    """The texts of one future sequence, one or two, and whether anything was cut off."""

    text: Piece
    pair: Piece | None
    cut: bool


@dataclass(frozen=True)
class Frame:
    """Special tokens before, between and after texts, and every part's segment id."""

    gaps: tuple[tuple[int, ...], ...]
    gap_types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def special(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.gaps))


@dataclass(frozen=True)
class Frames:
    """The frames that a tokenizer puts around one text and around two.

    Attributes:
        begin: the token of a sequence that would have none: of an empty text with nothing around it.
    """

    single: Frame
    double: Frame
    begin: int = 0

    @property
    def segments(self) -> int:
        """How many segments are told apart."""
        frames = (self.single, self.double)
        return 1 + max(kind for frame in frames for kind in (*frame.text_types, *chain(*frame.gap_types)))

    @property
    def undivided(self) -> Frames:
        """The same with every token in the first segment."""
        return Frames(_undivided(self.single), _undivided(self.double), self.begin)

    @staticmethod
    def learn(engine: Engine, begin: int) -> Frames:
        """Learn the frames from what the tokenizer does with a letter.

        Args:
            begin: the token of a sequence that would have none.
        Raises:
            ValueError: a letter has no token of its own.
        """
        single, double = _frame(engine, "a"), _frame(engine, "a", "a")
        if (len(single.text_types), len(double.text_types)) != (1, 2):
            raise ValueError("it makes no token of a letter")
        return Frames(single, double, begin)


def _undivided(frame: Frame) -> Frame:
    return Frame(frame.gaps, tuple((0,) * len(gap) for gap in frame.gaps), (0,) * len(frame.text_types))


def _frame(engine: Engine, text: str, pair: str | None = None) -> Frame:
    encoded = engine.encode(text, pair)
    gaps: list[list[int]] = [[]]
    gap_types: list[list[int]] = [[]]
    text_types: list[int] = []
    inside: int | None = None
    marks = zip(encoded.ids, encoded.type_ids, encoded.special_tokens_mask, encoded.sequence_ids, strict=True)
    for token, kind, special, sequence in marks:
        if special:
            gaps[-1].append(token)
            gap_types[-1].append(kind)
        elif sequence != inside:
            inside = sequence
            text_types.append(kind)
            gaps.append([])
            gap_types.append([])
    return Frame(tuple(map(tuple, gaps)), tuple(map(tuple, gap_types)), tuple(text_types))


def longest_first(text: Piece, pair: Piece | None, limit: int, frames: Frames) -> FrameRow:
    """Cut one or two texts to `limit` tokens; of two, the longer one first, then both to half of the room."""
    if pair is None:
        room = limit - frames.single.special
        return FrameRow(text.first(room), None, len(text.ids) > room or text.unread)
    room = max(limit - frames.double.special, 0)
    long, short = len(text.ids), len(pair.ids)
    if long + short <= room:
        return FrameRow(text, pair, text.unread or pair.unread)
    half = room // 2
    if min(long, short) <= half:
        lengths = (min(long, room - short), short) if long > short else (long, room - long)
    else:
        lengths = (room - half, half) if long > short else (half, room - half)
    return FrameRow(text.first(lengths[0]), pair.first(lengths[1]), True)


def pack(rows: Sequence[Sequence[FrameRow]], frames: Frames) -> Tokens:
    """Frame all sequences and pack them end to end."""
    framed = [_framed(row, frames) for example in rows for row in example]
    ids, types, words, chars = ([sequence[part] for sequence in framed] for part in range(4))
    has_words = any(row.text.words is not None for example in rows for row in example)
    has_chars = any(row.pair is not None and row.pair.chars is not None for example in rows for row in example)
    return Tokens(
        ids=_flat(ids),
        types=_flat(types),
        starts=_offsets(list(map(len, ids))),
        rows=_offsets(list(map(len, rows))),
        words=_flat(words) if has_words else None,
        chars=_flat(chars).view(-1, 2) if has_chars else None,
        cut=sum(row.cut for example in rows for row in example),
    )


def _framed(row: FrameRow, frames: Frames) -> tuple[list[int], list[int], list[int], list[int]]:
    """The ids, segments, words and (flattened) characters of one framed sequence."""
    frame = frames.single if row.pair is None else frames.double
    ids, types = list(frame.gaps[0]), list(frame.gap_types[0])
    words, chars = [-1] * len(ids), [-1, -1] * len(ids)
    pieces = [row.text] if row.pair is None else [row.text, row.pair]
    for number, piece in enumerate(pieces):
        after = frame.gaps[number + 1]
        ids += piece.ids + list(after)
        types += [frame.text_types[number]] * len(piece.ids) + list(frame.gap_types[number + 1])
        words += (piece.words or [-1] * len(piece.ids)) + [-1] * len(after)
        chars += chain.from_iterable(piece.chars) if piece.chars else [-1, -1] * len(piece.ids)
        chars += [-1, -1] * len(after)
    if not ids:
        return [frames.begin], [frame.text_types[0]], [-1], [-1, -1]
    return ids, types, words, chars


def _flat(parts: Sequence[Sequence[int]]) -> Int[Tensor, "N"]:
    return torch.tensor(list(chain.from_iterable(parts)), dtype=torch.long)


def _offsets(lengths: Sequence[int]) -> Int[Tensor, "N_plus_1"]:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.long)
