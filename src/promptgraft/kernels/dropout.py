"""Dropout masks follow from keys, so that no mask is stored and every path and device drops the same values.

Whether a value stays is a hash of its sequence's key, its site in the encoder, its row's position in the sequence and
its column. `native/dropout.h` has the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

RANGE = 1 << 32
LOW = RANGE - 1
EMBEDDED = 0


def attention_site(layer: int) -> int:
    """The site of a layer's attention probabilities; layers are counted from 0."""
    return 1 + 3 * layer


def attended_site(layer: int) -> int:
    """The site of the product after a layer's attention."""
    return 2 + 3 * layer


def narrow_site(layer: int) -> int:
    """The site of a layer's last product."""
    return 3 + 3 * layer


@dataclass(frozen=True)
class Dropout:
    """Train-mode dropout, for the methods that are defined by it (PANDA as released, SetFit).

    Attributes:
        rate: share of the values that become 0; the others are divided by what is left.
        keys: a number below 2^32 for every sequence, from which all of its masks follow.
    """

    rate: float
    keys: Int[Tensor, "S"]

    @classmethod
    def draw(cls, rate: float, sequences: int, generator: torch.Generator) -> Dropout:
        """Draw fresh keys for a batch."""
        return cls(rate, torch.randint(RANGE, (sequences,), generator=generator))

    @property
    def below(self) -> int:
        """The threshold: values whose hash is below it are dropped."""
        return int(self.rate * RANGE)

    def rows(self, site: int, sequence: Int[Tensor, "*R"], position: Int[Tensor, "*R"]) -> Int[Tensor, "*R"]:
        """The numbers that the masks of these rows are hashed from."""
        keys = self.keys.to(sequence.device)[sequence]
        return _mix(_mix(keys + site * 0x9E3779B9) + position * 0x85EBCA6B)

    def mask(self, rows: Int[Tensor, "*R"], columns: Int[Tensor, "*C"]) -> Float[Tensor, "*R C"]:
        """The mask that the rows' values are multiplied with: 0, or 1 / (1 - rate)."""
        hashes = _mix(rows.unsqueeze(-1) + columns * 0xC2B2AE35)
        return (hashes >= self.below).to(torch.float32) / (1 - self.below / RANGE)

    def over(self, starts: Int[Tensor, "S_plus_1"]) -> RowDropout:
        """Make the dropout of packed rows."""
        lengths = starts.diff()
        sequence = torch.arange(len(lengths), device=starts.device).repeat_interleave(lengths)
        position = torch.arange(len(sequence), device=starts.device) - starts[:-1].repeat_interleave(lengths)
        return RowDropout(self, sequence, position)


@dataclass(frozen=True)
class RowDropout:
    """Dropout of some rows, known by their sequence and their position in it."""

    dropout: Dropout
    sequence: Int[Tensor, "R"]
    position: Int[Tensor, "R"]

    def __call__(self, x: Float[Tensor, "R H"], site: int) -> Float[Tensor, "R H"]:
        """Drop some of the rows' values."""
        rows = self.dropout.rows(site, self.sequence, self.position)
        return x * self.dropout.mask(rows, torch.arange(x.shape[-1], device=x.device)).to(x.dtype)

    def select(self, index: Int[Tensor, "Q"]) -> RowDropout:
        """Make the dropout of some of the rows."""
        return RowDropout(self.dropout, self.sequence[index], self.position[index])

    def of_heads(
        self, site: int, queries: Int[Tensor, "b m"], columns: Int[Tensor, "b n"], heads: int
    ) -> Float[Tensor, "bh m n"]:
        """The mask of attention probabilities, with each head's own.

        Args:
            queries: which of the rows ask.
            columns: what is asked, counted through prompt and tokens.
        """
        head = torch.arange(heads, device=queries.device)[:, None]
        place = self.position[queries][:, None] * heads + head
        rows = self.dropout.rows(site, self.sequence[queries][:, None].expand_as(place), place)
        return self.dropout.mask(rows, columns[:, None, None]).flatten(0, 1)


def _mix(x: Int[Tensor, "*R"]) -> Int[Tensor, "*R"]:
    """A hash of 32 bits into 32 bits (two rounds of multiply and shift)."""
    x = x & LOW
    x ^= x >> 16
    x.mul_(0x7FEB352D).bitwise_and_(LOW)
    x ^= x >> 15
    x.mul_(0x846CA68B).bitwise_and_(LOW)
    return x.bitwise_xor_(x >> 16)
