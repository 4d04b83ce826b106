"""Local attention: a query sees the keys within a reach of its own position, and its sequence's every_head prompt.

Sequences are cut into blocks of as many queries as the reach is long, and a block has the keys that one of its queries
sees. So the work grows with the length of a text and not with its square, and attention is the ordinary one over blocks
instead of sequences, with a band of scores hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels.attention import Dropped, attention
from promptgraft.kernels.rows import Rows, padded


@dataclass(frozen=True, kw_only=True)
class BandRows(Rows):
    """Blocks in place of sequences, of whose keys a query sees those within `reach`.

    Attributes:
        query_places, key_places: position of every query and key in its sequence.
    """

    query_places: Int[Tensor, "Q"]
    key_places: Int[Tensor, "N"]
    reach: int

    @property
    def sees_all(self) -> bool:
        return False

    @cached_property
    def biases(self) -> Sequence[Float[Tensor, "bh m n"] | None]:
        return [self._bias(number) for number in range(len(self.keys.buckets))]

    def _bias(self, number: int) -> Float[Tensor, "bh m n"]:
        """What a bucket adds to scores; the queries that are padding see what is real, so that no row is empty."""
        bucket, prompt = self.keys.buckets[number], self.keys.longest_prompt
        queries, asks = padded(self.queries, bucket.sequences)
        keys, _ = padded(self.starts, bucket.sequences)
        distance = self.query_places[queries][:, :, None] - self.key_places[keys][:, None]
        far = (distance.abs() > self.reach) & asks[:, :, None]
        bias = torch.zeros(far.shape, device=far.device).masked_fill_(far, -torch.inf)
        bias = torch.nn.functional.pad(bias, (prompt, 0))
        every_head = bias[:, None].expand(-1, self.heads, -1, -1).flatten(0, 1)
        return every_head if bucket.bias is None else every_head + bucket.bias


@dataclass(frozen=True)
class Windows:
    """The blocks of a batch.

    Attributes:
        take: of every key of every block its row; a row is a key of several blocks.
    """

    rows: BandRows
    take: Int[Tensor, "N"]

    def attention(
        self,
        q: Float[Tensor, "Q H"],
        k: Float[Tensor, "T H"],
        v: Float[Tensor, "T H"],
        prompt_keys: Float[Tensor, "N H"] | None = None,
        prompt_values: Float[Tensor, "N H"] | None = None,
        dropped: Dropped | None = None,
    ) -> Float[Tensor, "Q H"]:
        """Attend from every query to its sequence's prompt and to the tokens within reach."""
        keys, values = k.index_select(0, self.take), v.index_select(0, self.take)
        return attention(q, keys, values, self.rows, prompt_keys, prompt_values, dropped)


def windows(rows: Rows, read: Int[Tensor, "Q"] | None, reach: int) -> Windows:
    """Cut sequences into blocks.

    Args:
        rows: the sequences with their prompts.
        read: the rows that ask, in their order; None for all.
    """
    starts, block = rows.starts, max(reach, 1)
    sequence = torch.arange(len(starts) - 1, device=starts.device).repeat_interleave(starts.diff())
    places = torch.arange(len(sequence), device=starts.device) - starts[sequence]
    query_sequence, query_places = (sequence, places) if read is None else (sequence[read], places[read])
    blocks, counts = torch.stack([query_sequence, query_places // block], 1).unique_consecutive(
        dim=0, return_counts=True
    )
    owner, number = blocks.unbind(1)
    first = starts[owner] + (number * block - reach).clamp_min(0)
    last = torch.minimum(starts[owner] + (number + 1) * block + reach, starts[owner + 1])
    lengths = last - first
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    within = torch.arange(int(offsets[-1]), device=starts.device) - offsets[:-1].repeat_interleave(lengths)
    take = first.repeat_interleave(lengths) + within
    band = BandRows(
        starts=offsets,
        queries=torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
        heads=rows.heads,
        prompt_starts=rows.prompt_starts,
        prompt_of=None if rows.prompt_of is None else rows.prompt_of[owner],
        query_places=query_places,
        key_places=places[take],
        reach=reach,
    )
    return Windows(band, take)
