"""The geometry of an attention call says which packed rows attend to which; it is worked out once for a batch.

The plain path pads inside attention only. Sequences are sorted by length and cut into a few buckets, each padded
to its own longest; a slot is one head of one position, so that one `index_select` both pads and separates heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby, islice
from operator import mul

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
        sequences: which; those that have the same prompt stand side by side.
        keys: n, to which prompt and tokens of each are padded.
        bias: what to add to scores: minus infinity where the key is padding, else 0; None where none is.
        groups: index of each prompt that they have, and of which of them, first and one past the last.
    """

    sequences: Int[Tensor, "b"]
    keys: int
    bias: Float[Tensor, "bh 1 n"] | None
    groups: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Slots:
    """A padded, head-separated arrangement of rows, with indices to arrange them and to undo it.

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
    """The longest lengths in a batch, which decide how many GPU programs are launched.

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
class RowOrder:
    """Sequences sorted into buckets, longest first.

    Attributes:
        sequences: all of them, bucket by bucket.
        owners: of each the index of its prompt; zeros without prompts.
        counts: sequences of each bucket.
        tokens: to how many each bucket's are padded.
        even: whether none of a bucket's sequences is padded.
    """

    sequences: Int[Tensor, "S"]
    owners: list[int]
    counts: list[int]
    tokens: list[int]
    even: list[bool]


@dataclass(frozen=True)
class Keys:
    """The keys of an attention call: each sequence's tokens and deep prompt; attributes as those of `Rows`."""

    starts: Int[Tensor, "S_plus_1"]
    heads: int
    prompt_starts: Int[Tensor, "K_plus_1"] | None
    prompt_of: Int[Tensor, "S"] | None

    @cached_property
    def longest_prompt(self) -> int:
        """The length P of the longest prompt that a sequence has."""
        if self.prompt_starts is None or self.prompt_of is None or not len(self.prompt_of):
            return 0
        return int(self.prompt_starts.diff()[self.prompt_of].max())

    @cached_property
    def table_rows(self) -> int:
        """The number N of rows of the prompt table."""
        return 0 if self.prompt_starts is None else int(self.prompt_starts[-1])

    @cached_property
    def order(self) -> RowOrder:
        """The order of the sequences in buckets."""
        lengths, order = self.starts.diff().sort(descending=True, stable=True)
        sizes, counts, first = lengths.tolist(), [], 0
        limit = max(BUCKET_SEQUENCES, -(-len(sizes) // BUCKET_SEQUENCES))
        while first < len(sizes):
            scores = self.heads * sizes[first] * (sizes[first] + self.longest_prompt)
            counts.append(min(max(1, min(limit, BUCKET_SCORES // scores)), len(sizes) - first))
            first += counts[-1]
        ends = list(accumulate(counts))
        tokens = [sizes[end - count] for end, count in zip(ends, counts, strict=True)]
        even = [size == sizes[end - 1] for size, end in zip(tokens, ends, strict=True)]
        if self.prompt_starts is None or self.prompt_of is None:
            return RowOrder(order, [0] * len(sizes), counts, tokens, even)
        if len(self.prompt_starts) > 2:
            place = _bucket_of_each(counts, order.device) * len(self.prompt_starts) + self.prompt_of[order]
            order = order[place.argsort(stable=True)]
        owners, prompt_lengths = self.prompt_of[order].tolist(), self.prompt_starts.diff().tolist()
        even = [
            same and all(prompt_lengths[owner] == self.longest_prompt for owner in owners[end - count : end])
            for same, end, count in zip(even, ends, counts, strict=True)
        ]
        return RowOrder(order, owners, counts, tokens, even)

    @cached_property
    def slots(self) -> Slots:
        """The slots of all buckets' keys, prompts included."""
        order, longest = self.order, self.longest_prompt
        widths = [longest + tokens for tokens in order.tokens]
        sequence, place = _places(order, widths)
        first, length = self.starts[sequence], self.starts[sequence + 1]
        rows = first + (place - longest)
        valid, rows = rows < length, rows + self.table_rows
        if self.prompt_starts is not None and self.prompt_of is not None:
            prompt = self.prompt_of[sequence]
            of_prompt, is_prompt = self.prompt_starts[prompt] + place, place < longest
            valid = torch.where(is_prompt, of_prompt < self.prompt_starts[prompt + 1], valid)
            rows = torch.where(is_prompt, of_prompt, rows)
        return arrange(rows, valid, order.counts, widths, self.heads, self.table_rows + int(self.starts[-1]))

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """The sequences in buckets of similar length, longest first."""
        order, ends = self.order, list(accumulate(self.order.counts))
        bias = torch.zeros(len(self.slots.take), device=self.starts.device).index_fill_(0, self.slots.empty, -torch.inf)
        parts = zip(ends, order.counts, order.tokens, order.even, bias.split(self.slots.sizes), strict=True)
        return tuple(
            Bucket(
                order.sequences[end - count : end],
                self.longest_prompt + tokens,
                None if even else part.view(count * self.heads, 1, -1),
                _groups(order.owners[end - count : end]),
            )
            for end, count, tokens, even, part in parts
        )

    @cached_property
    def tokens(self) -> Int[Tensor, "cells"]:
        """The slot that holds each head of each token."""
        return self.slots.back[self.table_rows * self.heads :]


@dataclass(frozen=True)
class Rows:
    """S packed sequences with their queries and the deep prompt each of them has.

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

    @property
    def sees_all(self) -> bool:
        """Whether every query sees all keys of its sequence."""
        return True

    @property
    def biases(self) -> Sequence[Float[Tensor, "bh _ n"] | None]:
        """Of each bucket what is added to scores: minus infinity where a query does not see a key."""
        return [bucket.bias for bucket in self.keys.buckets]

    def asking(self, queries: Int[Tensor, "S_plus_1"], known: Limits | None) -> Rows:
        """The same sequences with other queries; both share the geometry of the keys."""
        rows = replace(self, queries=queries, known=known)
        vars(rows)["keys"] = self.keys
        return rows

    @cached_property
    def keys(self) -> Keys:
        """The geometry of the keys."""
        return Keys(self.starts, self.heads, self.prompt_starts, self.prompt_of)

    @cached_property
    def limits(self) -> Limits:
        """The longest sequences and prompts."""
        if self.known is not None:
            return self.known
        table = 0 if self.prompt_starts is None else int(self.prompt_starts.diff().max())
        return Limits(_longest(self.queries), _longest(self.starts), self.keys.longest_prompt, table)

    @cached_property
    def query_slots(self) -> Slots:
        """The slots of all buckets' queries."""
        if self.queries is self.starts:
            widths = self.keys.order.tokens
        else:
            lengths = iter(self.queries.diff()[self.keys.order.sequences].tolist())
            widths = [max(islice(lengths, count)) for count in self.keys.order.counts]
        sequence, place = _places(self.keys.order, widths)
        rows = self.queries[sequence] + place
        valid = rows < self.queries[sequence + 1]
        return arrange(rows, valid, self.keys.order.counts, widths, self.heads, int(self.queries[-1]))


def _longest(starts: Int[Tensor, "M_plus_1"]) -> int:
    return int(starts.diff().max()) if len(starts) > 1 else 0


def padded(
    starts: Int[Tensor, "M_plus_1"], index: Int[Tensor, "b"], longest: int | None = None
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Lay the members of the ranges in `index` out as a rectangle; return it with a mask of what is not padding."""
    first, lengths = starts[index][:, None], (starts[index + 1] - starts[index])[:, None]
    columns = torch.arange(int(lengths.max()) if longest is None else longest, device=starts.device)
    valid = columns < lengths
    return torch.where(valid, first + columns, 0), valid


def arrange(
    rows: Int[Tensor, "R"],
    valid: Bool[Tensor, "R"],
    counts: Sequence[int],
    widths: Sequence[int],
    heads: int,
    total: int,
) -> Slots:
    """Arrange rows as `[b, heads, m]` slots, one bucket after the other.

    Args:
        rows: of every position of the padded sequences, bucket by bucket, the row that stands there.
        valid: which are real; the others hold row 0.
        counts, widths: b and m of each bucket.
        total: rows that there are.
    """
    head = torch.arange(heads, device=rows.device)[:, None]
    shapes = [(count, 1, width) for count, width in zip(counts, widths, strict=True)]
    sizes = [count * width for count, _, width in shapes]
    cells = torch.where(valid, rows * heads, 0).split(sizes)
    take = torch.cat([(part.view(shape) + head).flatten() for part, shape in zip(cells, shapes, strict=True)])
    real = [part.view(shape).expand(-1, heads, -1) for part, shape in zip(valid.split(sizes), shapes, strict=True)]
    is_real = torch.cat([part.flatten() for part in real])
    used = is_real.nonzero().flatten()
    back = torch.zeros(total * heads, dtype=torch.long, device=rows.device)
    back[take[used]] = used
    return Slots(take, back, (~is_real).nonzero().flatten(), [heads * size for size in sizes])


def _places(order: RowOrder, widths: Sequence[int]) -> tuple[Int[Tensor, "R"], Int[Tensor, "R"]]:
    """The sequence of every padded position, bucket by bucket, and the position's place in it."""
    device = order.sequences.device
    repeated = torch.tensor(widths, device=device)[_bucket_of_each(order.counts, device)]
    ends = repeated.cumsum(0)
    place = torch.arange(sum(map(mul, widths, order.counts)), device=device)
    return order.sequences.repeat_interleave(repeated), place - (ends - repeated).repeat_interleave(repeated)


def _bucket_of_each(counts: Sequence[int], device: torch.device) -> Int[Tensor, "S"]:
    """The bucket of each sequence: 0 as often as the first count says, then 1, and so on."""
    return torch.arange(len(counts), device=device).repeat_interleave(torch.tensor(counts, device=device))


def _groups(owners: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Each run of equal values as (value, first place, one past the last)."""
    groups, first = [], 0
    for owner, equals in groupby(owners):
        last = first + len(list(equals))
        groups.append((owner, first, last))
        first = last
    return tuple(groups)
