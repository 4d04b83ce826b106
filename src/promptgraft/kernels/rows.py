"""Which packed rows attend to which: the geometry of one attention call, worked out once a batch.

The plain path pads inside attention only. Sequences are sorted by length and cut into a few buckets, each padded
to its own longest; a slot is one head of one position, so that one `index_select` both pads and separates heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

# 2^22 scores are 16 MiB in fp32: about what stays in the caches between the two products of a bucket.
BUCKET_SCORES = 1 << 22


@dataclass(frozen=True)
class Rows:
    """S packed sequences, their queries, and the deep prompt each of them has.

    Attributes:
        starts: keys and values of sequence s are rows `starts[s]:starts[s + 1]`.
        queries: queries of sequence s are rows `queries[s]:queries[s + 1]` of the queries; the same as `starts`
            unless only some rows are read.
        heads: attention heads.
        prompt_starts: prompt k is rows `prompt_starts[k]:prompt_starts[k + 1]` of the prompt table; None without.
        prompt_of: for every sequence the index of its prompt.
    """

    starts: Int[Tensor, "S_plus_1"]
    queries: Int[Tensor, "S_plus_1"]
    heads: int
    prompt_starts: Int[Tensor, "K_plus_1"] | None = None
    prompt_of: Int[Tensor, "S"] | None = None

    @cached_property
    def prompt_lengths(self) -> Int[Tensor, "S"]:
        """P of every sequence; zeros without prompts."""
        if self.prompt_starts is None or self.prompt_of is None:
            return torch.zeros_like(self.starts[:-1])
        return self.prompt_starts.diff()[self.prompt_of]

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """The sequences in buckets of similar length, longest first."""
        if len(self.starts) == 1:
            return ()
        lengths, order = self.starts.diff().sort(descending=True, stable=True)
        prompt = int(self.prompt_lengths.max())
        buckets, first, sizes = [], 0, lengths.tolist()
        limit = max(8, -(-len(sizes) // 16))
        while first < len(sizes):
            room = BUCKET_SCORES // max(1, self.heads * sizes[first] * (sizes[first] + prompt))
            last = first + max(1, min(limit, room))
            buckets.append(self._bucket(order[first:last], prompt))
            first = last
        return tuple(buckets)

    def _bucket(self, sequences: Int[Tensor, "b"], prompt: int) -> Bucket:
        tokens, token_valid = padded(self.starts, sequences)
        query, query_valid = padded(self.queries, sequences)
        if self.prompt_starts is None or self.prompt_of is None:
            return Bucket(sequences, query, query_valid, tokens, token_valid, 0, None)
        which = self.prompt_of[sequences]
        rows, valid = padded(self.prompt_starts, which, prompt)
        shifted = torch.where(token_valid, tokens + self.prompt_starts[-1], 0)
        keys, key_valid = torch.cat([rows, shifted], 1), torch.cat([valid, token_valid], 1)
        return Bucket(sequences, query, query_valid, keys, key_valid, prompt, which)

    @cached_property
    def query_slots(self) -> Slots:
        """Slots of all buckets' queries."""
        return slots([(bucket.queries, bucket.query_valid) for bucket in self.buckets], self.heads, self.queries[-1])

    @cached_property
    def key_slots(self) -> Slots:
        """Slots of all buckets' keys; rows are counted from the first row of the prompt table."""
        table = 0 if self.prompt_starts is None else int(self.prompt_starts[-1])
        return slots([(bucket.keys, bucket.key_valid) for bucket in self.buckets], self.heads, self.starts[-1] + table)

    @cached_property
    def prompt_rows(self) -> Int[Tensor, "N"]:
        """Where each row of the prompt table is once every prompt is padded to the longest."""
        assert self.prompt_starts is not None
        lengths = self.prompt_starts.diff()
        longest = int(self.prompt_lengths.max()) if len(self.prompt_lengths) else 0
        within = torch.arange(int(lengths.sum())) - self.prompt_starts[:-1].repeat_interleave(lengths)
        which = torch.arange(len(lengths)).repeat_interleave(lengths)
        # A prompt that no sequence has may be longer than all that are in use: its rows have no slot.
        return torch.where(within < longest, which * longest + within, -1)


@dataclass(frozen=True)
class Bucket:
    """b sequences of similar length, padded to the longest of them.

    Attributes:
        queries: `[b, m]` rows of the queries; 0 where padded.
        keys: `[b, n]` rows of prompt table and tokens end to end, prompts in the first `prompt` columns.
        which: prompt of each sequence.
    """

    sequences: Int[Tensor, "b"]
    queries: Int[Tensor, "b m"]
    query_valid: Bool[Tensor, "b m"]
    keys: Int[Tensor, "b n"]
    key_valid: Bool[Tensor, "b n"]
    prompt: int
    which: Int[Tensor, "b"] | None


@dataclass(frozen=True)
class Slots:
    """A padded, head-separated arrangement of rows, and the way back.

    Attributes:
        take: for every slot the `row * heads + head` it holds.
        back: for every `row * heads + head` a slot that holds it (one of several for rows of a prompt table).
        empty: slots that are padding.
        sizes: slots of each bucket.
    """

    take: Int[Tensor, "slots"]
    back: Int[Tensor, "cells"]
    empty: Int[Tensor, "padding"]
    sizes: tuple[int, ...]


def padded(
    starts: Int[Tensor, "M_plus_1"], index: Int[Tensor, "b"], longest: int | None = None
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Members of the ranges named by `index` as a rectangle (0 where padded), and which of it is real."""
    first, lengths = starts[index, None], (starts[index + 1] - starts[index])[:, None]
    columns = torch.arange(int(lengths.max()) if longest is None else longest)
    valid = columns < lengths
    return torch.where(valid, first + columns, 0), valid


def slots(
    rectangles: list[tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]], heads: int, rows: Int[Tensor, ""] | int
) -> Slots:
    """Arrange rectangles of rows as `[b, heads, m]` slots, one after the other."""
    head = torch.arange(heads)[:, None]
    take = [(index[:, None] * heads + head).flatten() for index, _ in rectangles]
    valid = torch.cat([real[:, None].expand(-1, heads, -1).flatten() for _, real in rectangles])
    flat = torch.cat(take)
    used = valid.nonzero().flatten()
    back = torch.zeros(int(rows) * heads, dtype=torch.long)
    back[flat[used]] = used
    return Slots(flat, back, (~valid).nonzero().flatten(), tuple(len(one) for one in take))
