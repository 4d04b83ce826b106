"""Which query sees which keys: blocks of queries against ranges of keys, cut so that a product fits a core's cache.

A query sees keys at several levels: its prompt, beginnings that it shares with other sequences, and its own segment up
to itself. Each level is a list of blocks, a range of queries against a range of keys, so that many queries meet a
shared beginning in one dense product, and nothing is copied for a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

KeySource = Literal["prompts", "past", "rows"]
SOURCES: tuple[KeySource, ...] = ("prompts", "past", "rows")
# Scores of one product: 4 MiB in fp32, so that they stay in a core's cache between its steps.
MOST_SCORES = 1 << 20
# On a GPU, where a product takes longer to start than to run until it is far larger.
MOST_SCORES_ON_GPU = 1 << 26
# Fewer blocks than this are not worth a bucket of their own.
BUCKET_BLOCKS = 8
# What is added to scores that a query must not see; finite, so that a query that sees nothing of a level has no NaN.
HIDDEN = -1e30


@dataclass(frozen=True)
class Level:
    """Blocks of queries that see a range of keys.

    Attributes:
        source: where the keys are: the prompts' table, kept beginnings, or the packed rows.
        blocks: of each the first query, one past the last, the first key, one past the last. Blocks of a level share
            no query and no key.
        causal: whether a query sees the keys up to itself only.
    """

    source: KeySource
    blocks: Int[Tensor, "N 4"]
    causal: bool = False

    @property
    def filled(self) -> Int[Tensor, "M 4"]:
        """The blocks that have queries and keys."""
        first, last, key, end = self.blocks.unbind(1)
        return self.blocks[(last > first) & (end > key)]

    def any(self) -> bool:
        """Whether any query sees any key."""
        return len(self.filled) > 0

    def asking(self, rows: Int[Tensor, "Q"]) -> Level:
        """The level for some of its queries alone, in ascending order."""
        ranges = torch.searchsorted(rows, self.blocks[:, :2].contiguous())
        return Level(self.source, torch.cat([ranges, self.blocks[:, 2:]], 1), self.causal)


@dataclass(frozen=True)
class QueryPiece:
    """So many queries of a bucket that one product computes, with the keys that they see.

    Attributes:
        bias: 0 or HIDDEN for every score of one head; None where all are seen.
    """

    queries: slice
    keys: slice
    bias: Float[Tensor, "b 1 m 1 n"] | None


@dataclass(frozen=True)
class BlockBucket:
    """b blocks of similar size, padded to the largest of them."""

    blocks: int
    queries: int
    keys: int
    pieces: tuple[QueryPiece, ...]


@dataclass(frozen=True)
class LevelPlan:
    """A level, cut into buckets, with the indices that arrange rows as slots (one head of keys of one row) and back.

    Attributes:
        query_slots, key_slots: for every slot the `row * key_heads + head` it holds.
        query_rows, key_rows: the rows that the level has, in the order of `query_back` and `key_back`; None: all.
        query_back, key_back: of each of these rows' heads its slot.
        padding: slots of queries that are padding.
    """

    source: KeySource
    buckets: tuple[BlockBucket, ...]
    query_slots: Int[Tensor, "_"]
    key_slots: Int[Tensor, "_"]
    query_rows: Int[Tensor, "_"] | None
    key_rows: Int[Tensor, "_"] | None
    query_back: Int[Tensor, "_"]
    key_back: Int[Tensor, "_"]
    padding: Int[Tensor, "_"]


@dataclass(frozen=True)
class Pattern:
    """Which query sees which keys; worked out once for a pass and used by all of its layers.

    Attributes:
        levels: without empty ones.
        queries, keys: how many rows there are of each.
        query_places, key_places, past_places: of each its place in its sequence.
        key_heads: heads of keys; queries have `group` times as many.
    """

    levels: tuple[Level, ...]
    query_places: Int[Tensor, "Q"]
    key_places: Int[Tensor, "R"]
    past_places: Int[Tensor, "A"]
    prompt_rows: int
    key_heads: int
    group: int
    device: torch.device
    _plans: dict[int | None, list[LevelPlan]] = field(default_factory=dict, repr=False)

    @cached_property
    def ranges(self) -> Int[Tensor, "N 6"]:
        """The filled blocks of all levels, each behind the number of its source and whether it is causal."""
        parts = []
        for level in self.levels:
            blocks = level.filled
            kind = torch.tensor([SOURCES.index(level.source), int(level.causal)])
            parts.append(torch.cat([kind.expand(len(blocks), -1), blocks], 1))
        return torch.cat(parts) if parts else torch.zeros(0, 6, dtype=torch.long)

    def plans(self, window: int | None) -> list[LevelPlan]:
        """The levels as buckets, for layers that see so many tokens."""
        if window not in self._plans:
            plans = [self._plan(level, window) for level in self.levels]
            self._plans[window] = [plan for plan in plans if plan is not None]
        return self._plans[window]

    def scores(self, window: int | None) -> int:
        """How many scores a layer has, those of padding counted."""
        return sum(
            bucket.blocks * bucket.queries * bucket.keys * self.key_heads * self.group
            for plan in self.plans(window)
            for bucket in plan.buckets
        )

    @property
    def _most(self) -> int:
        """Scores of one product."""
        return MOST_SCORES if self.device.type == "cpu" else MOST_SCORES_ON_GPU

    @cached_property
    def _counts(self) -> dict[KeySource, int]:
        return {"prompts": self.prompt_rows, "past": len(self.past_places), "rows": len(self.key_places)}

    def _places(self, source: KeySource) -> Int[Tensor, "N"] | None:
        """The places of a source's keys; None for prompts, which every token sees."""
        return {"prompts": None, "past": self.past_places, "rows": self.key_places}[source]

    def _plan(self, level: Level, window: int | None) -> LevelPlan | None:
        blocks = level.filled
        if not len(blocks):
            return None
        queries, keys = blocks[:, 1] - blocks[:, 0], blocks[:, 3] - blocks[:, 2]
        order = (keys * (int(queries.max()) + 1) + queries).argsort(descending=True, stable=True)
        limit = len(blocks) if self.device.type != "cpu" else max(BUCKET_BLOCKS, -(-len(blocks) // BUCKET_BLOCKS))
        most = self._most // (self.key_heads * self.group)
        groups = _grouped(queries[order].tolist(), keys[order].tolist(), most, limit)
        buckets, query_index, key_index, query_valid, key_valid = [], [], [], [], []
        for group in groups:
            chosen = blocks[order[group]]
            rows, row_valid = _padded(chosen[:, 0], chosen[:, 1])
            columns, column_valid = _padded(chosen[:, 2], chosen[:, 3])
            buckets.append(self._bucket(level, window, rows, columns, column_valid))
            query_index.append(rows)
            key_index.append(columns)
            query_valid.append(row_valid)
            key_valid.append(column_valid)
        query_slots, query_back, query_rows, padding = self._arranged(query_index, query_valid, len(self.query_places))
        key_slots, key_back, key_rows, _ = self._arranged(key_index, key_valid, self._counts[level.source])
        return LevelPlan(
            level.source, tuple(buckets), query_slots, key_slots, query_rows, key_rows, query_back, key_back, padding
        )

    def _arranged(
        self, index: Sequence[Tensor], valid: Sequence[Tensor], count: int
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """The slots of all buckets' rows, of each row's heads its slot, the rows among `count`, and the padding."""
        heads = torch.arange(self.key_heads)[None, :, None]
        slots = torch.cat([(rows[:, None] * self.key_heads + heads).flatten() for rows in index])
        real = torch.cat([mask[:, None].expand(-1, self.key_heads, -1).flatten() for mask in valid])
        number = torch.full((count * self.key_heads,), -1).scatter_(0, slots[real], real.nonzero().flatten())
        rows = (number[:: self.key_heads] >= 0).nonzero().flatten()
        parts = (slots, number[number >= 0], None if len(rows) == count else rows, (~real).nonzero().flatten())
        slots_, back, rows_, padding = (None if part is None else part.to(self.device) for part in parts)
        assert slots_ is not None
        assert back is not None
        assert padding is not None
        return slots_, back, rows_, padding

    def _bucket(self, level: Level, window: int | None, rows: Tensor, columns: Tensor, valid: Tensor) -> BlockBucket:
        """Cut a bucket into pieces of no more scores than is good, each with the keys that it can see."""
        blocks, queries, keys = len(rows), rows.shape[1], columns.shape[1]
        key_places = self._places(level.source)
        at = self.query_places[rows]
        of = None if key_places is None else key_places[columns]
        step = max(1, self._most // (blocks * keys * self.key_heads * self.group))
        pieces = []
        for first in range(0, queries, step):
            last = min(queries, first + step)
            seen = slice(0, keys)
            if level.causal and blocks == 1 and of is not None:
                seen = slice(0, int((of[0] <= at[0, last - 1]).sum()))
            bias = _bias(level, window, at[:, first:last], None if of is None else of[:, seen], valid[:, seen])
            pieces.append(QueryPiece(slice(first, last), seen, None if bias is None else bias.to(self.device)))
        return BlockBucket(blocks, queries, keys, tuple(pieces))


def _grouped(queries: Sequence[int], keys: Sequence[int], most_scores: int, limit: int) -> list[slice]:
    """Cut blocks, sorted by size, into buckets of so many scores a head and so many blocks at most."""
    first, groups = 0, []
    while first < len(keys):
        most = keys[first]
        widest, last = 0, first
        while last < len(keys) and last - first < limit:
            widest = max(widest, queries[last])
            small = most * widest * (last - first + 1) <= most_scores
            alike = 2 * min(queries[first], queries[last]) >= widest
            if last > first and not (small and alike):
                break
            last += 1
        groups.append(slice(first, last))
        first = last
    return groups


def _padded(first: Int[Tensor, "b"], last: Int[Tensor, "b"]) -> tuple[Tensor, Tensor]:
    """The members of every range, padded to the longest by its last, and which of them are no padding."""
    lengths = last - first
    place = torch.arange(int(lengths.max())).expand(len(first), -1)
    return first[:, None] + torch.minimum(place, lengths[:, None] - 1), place < lengths[:, None]


def _bias(level: Level, window: int | None, at: Tensor, of: Tensor | None, valid: Tensor) -> Tensor | None:
    """What is added to the scores of queries `at` their places with keys at theirs."""
    seen = valid[:, None, :].expand(-1, at.shape[1], -1)
    if of is not None and level.causal:
        seen = seen & (of[:, None, :] <= at[:, :, None])
    if of is not None and window is not None and int(at.max()) - int(of.min()) >= window:
        seen = seen & (of[:, None, :] > at[:, :, None] - window)
    if bool(seen.all()):
        return None
    return torch.zeros(seen.shape).masked_fill_(~seen, HIDDEN)[:, None, :, None, :]
