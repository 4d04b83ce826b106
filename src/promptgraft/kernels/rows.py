"""Which packed rows attend to which: the geometry of one attention call, worked out once a batch.

The plain path pads inside attention only. Sequences are sorted by length and cut into a few buckets, each padded
to its own longest; a slot is one head of one position, so that one `index_select` both pads and separates heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# 2^22 scores are 16 MiB in fp32: about what stays in the caches between the two products of a bucket.
BUCKET_SCORES = 1 << 22
# Fewer sequences than this are not worth a bucket of their own: small products waste more than padding does.
BUCKET_SEQUENCES = 8


@dataclass(frozen=True)
class Bucket:
    """b sequences of similar length, padded to the longest of them.

    Attributes:
        queries: rows of the queries; 0 where padded.
        query_valid: which of them are real.
        keys: rows of [prompt table; tokens], prompts in the first columns; 0 where padded.
        key_valid: which of them are real.
        bias: what to add to scores: minus infinity where the key is padding, else 0; None where none is.
        prompts: index of each sequence's prompt; zeros without prompts.
    """

    queries: Int[Tensor, "b m"]
    query_valid: Bool[Tensor, "b m"]
    keys: Int[Tensor, "b n"]
    key_valid: Bool[Tensor, "b n"]
    bias: Float[Tensor, "b 1 1 n"] | None
    prompts: Int[Tensor, "b"]


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
    sizes: list[int]


@dataclass(frozen=True)
class Limits:
    """Lengths that a GPU's kernels are launched for.

    Attributes:
        queries, tokens: of the longest sequence.
        prompt: of the longest prompt that a sequence has.
        table: of the longest prompt of all.
    """

    queries: int
    tokens: int
    prompt: int
    table: int


@dataclass(frozen=True)
class Rows:
    """S packed sequences, their queries, and the deep prompt each of them has.

    Attributes:
        starts: keys and values of sequence s are rows `starts[s]:starts[s + 1]`.
        queries: queries of sequence s are rows `queries[s]:queries[s + 1]` of the queries; the same as `starts`
            unless only some rows are read.
        heads: attention heads.
        prompt_starts: prompt k is rows `prompt_starts[k]:prompt_starts[k + 1]` of the prompt table; None without.
        prompt_of: for every sequence the index of its prompt; None without.
        known: the limits where they are known already, since a GPU would have to be waited for.
    """

    starts: Int[Tensor, "S_plus_1"]
    queries: Int[Tensor, "S_plus_1"]
    heads: int
    prompt_starts: Int[Tensor, "K_plus_1"] | None = None
    prompt_of: Int[Tensor, "S"] | None = None
    known: Limits | None = None

    @cached_property
    def limits(self) -> Limits:
        """The longest of everything."""
        if self.known is not None:
            return self.known
        table = 0 if self.prompt_starts is None else int(self.prompt_starts.diff().max())
        return Limits(_longest(self.queries), _longest(self.starts), self.longest_prompt, table)

    @cached_property
    def longest_prompt(self) -> int:
        """P of the longest prompt that a sequence has."""
        if self.prompt_starts is None or self.prompt_of is None or not len(self.prompt_of):
            return 0
        return int(self.prompt_starts.diff()[self.prompt_of].max())

    @cached_property
    def table_rows(self) -> int:
        """N, rows of the prompt table."""
        return 0 if self.prompt_starts is None else int(self.prompt_starts[-1])

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """The sequences in buckets of similar length, longest first."""
        lengths, order = self.starts.diff().sort(descending=True, stable=True)
        sizes, buckets, first = lengths.tolist(), [], 0
        limit = max(BUCKET_SEQUENCES, -(-len(sizes) // BUCKET_SEQUENCES))
        while first < len(sizes):
            scores = self.heads * sizes[first] * (sizes[first] + self.longest_prompt)
            last = first + max(1, min(limit, BUCKET_SCORES // scores))
            buckets.append(self._bucket(order[first:last]))
            first = last
        return tuple(buckets)

    def _bucket(self, sequences: Int[Tensor, "b"]) -> Bucket:
        queries, query_valid = padded(self.queries, sequences)
        keys, key_valid = padded(self.starts, sequences)
        prompts = torch.zeros_like(sequences)
        if self.prompt_starts is not None and self.prompt_of is not None:
            prompts = self.prompt_of[sequences]
            of_prompts, valid = padded(self.prompt_starts, prompts, self.longest_prompt)
            keys = torch.cat([of_prompts, torch.where(key_valid, keys + self.table_rows, 0)], 1)
            key_valid = torch.cat([valid, key_valid], 1)
        bias = None if bool(key_valid.all()) else torch.where(key_valid, 0.0, -torch.inf)[:, None, None]
        return Bucket(queries, query_valid, keys, key_valid, bias, prompts)

    @cached_property
    def query_slots(self) -> Slots:
        """Slots of all buckets' queries."""
        rectangles = [(bucket.queries, bucket.query_valid) for bucket in self.buckets]
        return arrange(rectangles, self.heads, int(self.queries[-1]))

    @cached_property
    def key_slots(self) -> Slots:
        """Slots of all buckets' keys, prompts included."""
        rectangles = [(bucket.keys, bucket.key_valid) for bucket in self.buckets]
        return arrange(rectangles, self.heads, self.table_rows + int(self.starts[-1]))

    @cached_property
    def token_slots(self) -> Int[Tensor, "cells"]:
        """For every head of every token the slot that holds it as a key."""
        return self.key_slots.back[self.table_rows * self.heads :]


def _longest(starts: Int[Tensor, "M_plus_1"]) -> int:
    return int(starts.diff().max()) if len(starts) > 1 else 0


def padded(
    starts: Int[Tensor, "M_plus_1"], index: Int[Tensor, "b"], longest: int | None = None
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Members of the ranges named by `index` as a rectangle (0 where padded), and which of it is real."""
    first, lengths = starts[index][:, None], (starts[index + 1] - starts[index])[:, None]
    columns = torch.arange(int(lengths.max()) if longest is None else longest, device=starts.device)
    valid = columns < lengths
    return torch.where(valid, first + columns, 0), valid


def arrange(rectangles: Sequence[tuple[Int[Tensor, "_ _"], Bool[Tensor, "_ _"]]], heads: int, rows: int) -> Slots:
    """Arrange rectangles of rows as `[b, heads, m]` slots, one after the other."""
    head = torch.arange(heads, device=rectangles[0][0].device)[:, None]
    take = [(index[:, None] * heads + head).flatten() for index, _ in rectangles]
    valid = torch.cat([real[:, None].expand(-1, heads, -1).flatten() for _, real in rectangles])
    flat = torch.cat(take)
    used = valid.nonzero().flatten()
    back = torch.zeros(rows * heads, dtype=torch.long, device=flat.device)
    back[flat[used]] = used
    return Slots(flat, back, (~valid).nonzero().flatten(), [len(one) for one in take])
