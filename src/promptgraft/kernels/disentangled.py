"""Disentangled attention: scores by content, and by how far apart a query and a key are (He et al. 2021, DeBERTa).

A query is also compared with an embedding of its distance to every key, and every key with one of its distance to the
query. Only the distances that occur in a batch are compared: at the length of sentences a fraction of those that the
model knows. A prompt's keys have no position, so that they are compared by content alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels.attention import Dropped
from promptgraft.kernels.rows import Bucket, Rows, Slots, padded


@dataclass(frozen=True)
class Distances:
    """The distances between rows of a sequence, as indices into tables of their embeddings.

    Attributes:
        rows: the sequences, and which of their rows ask.
        places: of every query its index in its sequence; None where all rows ask.
        entries: of the distances `1 - n` to `n - 1` of the longest sequence each one's index, from 0.
        first: row of the tables that index 0 means.
    """

    rows: Rows
    places: Int[Tensor, "Q"] | None
    entries: Int[Tensor, "distances"]
    first: int

    @property
    def count(self) -> int:
        """How many rows of the tables occur."""
        return int(self.entries[-1]) + 1

    def within(self, bucket: Bucket, queries: int) -> Int[Tensor, "b m n"]:
        """The index of every query's distance to every key; `b` is 1 where it is the same in all sequences."""
        middle = len(self.entries) // 2
        device = self.entries.device
        if self.places is None:
            places = torch.arange(queries, device=device)[None]
        else:
            places = self.places[padded(self.rows.queries, bucket.sequences)[0]]
        return self.entries[places[:, :, None] - torch.arange(bucket.keys, device=device) + middle]


@dataclass(frozen=True)
class PositionTables:
    """The embeddings of distances as a layer compares them; None for a comparison that it does not make."""

    keys: Float[Tensor, "E A"] | None
    queries: Float[Tensor, "E A"] | None


@dataclass(frozen=True)
class DeepPrompts:
    """The prompts of a layer, end to end; whose is whose stands in the rows."""

    keys: Float[Tensor, "N A"]
    values: Float[Tensor, "N A"]
    starts: Int[Tensor, "K_plus_1"]
    owner: Int[Tensor, "S"]

    def padded(self, bucket: Bucket, heads: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values of a bucket's prompts, `[b * heads, P, width]`, and what padding adds to scores."""
        index, valid = padded(self.starts, self.owner[bucket.sequences])
        keys, values = (
            table.index_select(0, index.flatten())
            .unflatten(1, (heads, -1))
            .unflatten(0, index.shape)
            .transpose(1, 2)
            .flatten(0, 1)
            .to(dtype)
            for table in (self.keys, self.values)
        )
        bias = torch.zeros(index.shape, device=index.device).masked_fill_(~valid, -torch.inf)
        return keys, values, bias.repeat_interleave(heads, 0)[:, None].to(dtype)


def disentangled(
    q: Float[Tensor, "Q A"],
    k: Float[Tensor, "T A"],
    v: Float[Tensor, "T A"],
    distances: Distances | None,
    rows: Rows,
    tables: PositionTables,
    scale: float,
    prompts: DeepPrompts | None = None,
    dropped: Dropped | None = None,
) -> Float[Tensor, "Q A"]:
    """Attend from every query to its sequence's prompt and tokens.

    Args:
        distances: of the rows; None in a model without relative positions.
        rows: the sequences, without their prompts.
        scale: what every sum of scores is multiplied with.
        dropped: dropout on the attention probabilities, that of the queries' rows, and its site.
    """
    if len(rows.starts) < 2:
        return torch.zeros_like(q)
    queries = _by_bucket(q, rows.query_slots, rows)
    keys, values = (_by_bucket(x, rows.keys.slots, rows) for x in (k, v))
    outputs = []
    for bucket, query, key, value in zip(rows.keys.buckets, queries, keys, values, strict=True):
        scores = torch.bmm(query, key.mT)
        if distances is not None:
            scores = scores + _by_distance(query, key, distances, tables, bucket, rows.heads)
        scores = scores * scale if bucket.bias is None else scores * scale + bucket.bias.to(scores.dtype)
        if prompts is not None:
            prompt_keys, prompt_values, bias = prompts.padded(bucket, rows.heads, key.dtype)
            scores = torch.cat([torch.baddbmm(bias, query, prompt_keys.mT, alpha=scale), scores], -1)
            value = torch.cat([prompt_values, value], 1)
        weights = torch.softmax(scores, -1)
        if dropped is not None:
            weights = weights * _mask(bucket, rows, prompts, weights.shape[-1], dropped).to(weights.dtype)
        outputs.append(torch.bmm(weights, value).flatten(0, 1))
    slots = rows.query_slots
    moved: Tensor = _Moved.apply(torch.cat(outputs), slots.back, slots.take, slots.empty)  # type: ignore[no-untyped-call]
    return moved.view(-1, q.shape[1])


class _Moved(torch.autograd.Function):
    """Rows taken by an index whose inverse is known, so that the backward takes rows too and adds nothing up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, take: Tensor, back: Tensor, empty: Tensor | None) -> Tensor:
        ctx.back, ctx.empty = back, empty
        return x.index_select(0, take)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        out = grads[0].index_select(0, ctx.back)
        return (out if ctx.empty is None else out.index_fill_(0, ctx.empty, 0)), None, None, None


def _by_bucket(x: Float[Tensor, "R A"], slots: Slots, rows: Rows) -> list[Float[Tensor, "bh m width"]]:
    """Arrange rows by bucket and head."""
    width = x.shape[1] // rows.heads
    moved: Tensor = _Moved.apply(x.reshape(-1, width), slots.take, slots.back, None)  # type: ignore[no-untyped-call]
    parts = moved.split(slots.sizes)
    counts = rows.keys.order.counts
    return [part.view(count * rows.heads, -1, width) for part, count in zip(parts, counts, strict=True)]


def _by_distance(
    query: Float[Tensor, "bh m width"],
    key: Float[Tensor, "bh n width"],
    distances: Distances,
    tables: PositionTables,
    bucket: Bucket,
    heads: int,
) -> Float[Tensor, "bh m n"]:
    """The scores of queries and keys with the embeddings of their distances."""
    index = distances.within(bucket, query.shape[1])[:, None]
    shape = (len(bucket.sequences), heads, query.shape[1], key.shape[1])
    scores = query.new_zeros(shape)
    if tables.keys is not None:
        compared = _compared(query, tables.keys, distances, heads)
        scores = scores + compared.gather(-1, index.expand(shape))
    if tables.queries is not None:
        compared = _compared(key, tables.queries, distances, heads)
        scores = scores + compared.gather(-1, index.expand(shape).mT).mT
    return scores.flatten(0, 1)


def _compared(
    x: Float[Tensor, "bh m width"], table: Float[Tensor, "E A"], distances: Distances, heads: int
) -> Float[Tensor, "b heads m entries"]:
    """The products of every row with the embeddings of the distances that occur."""
    occurring = table[distances.first : distances.first + distances.count].unflatten(1, (heads, -1))
    return torch.matmul(x.unflatten(0, (-1, heads)), occurring.permute(1, 2, 0))


def _mask(bucket: Bucket, rows: Rows, prompts: DeepPrompts | None, keys: int, dropped: Dropped) -> Tensor:
    """The dropout mask of a bucket's probabilities; tokens are counted from the end of their own prompt."""
    queries, _ = padded(rows.queries, bucket.sequences)
    longest = keys - bucket.keys
    columns = torch.arange(keys, device=queries.device).expand(len(queries), -1)
    if prompts is not None:
        lengths = prompts.starts.diff()[prompts.owner[bucket.sequences]][:, None]
        columns = torch.where(columns < longest, columns, columns - longest + lengths)
    dropout, site = dropped
    return dropout.of_heads(site, queries, columns, rows.heads)
