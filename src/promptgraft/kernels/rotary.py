"""Rotary positions turn queries and keys by angles that grow with a row's position (Su et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Turns:
    """The turn of every row: cosine and sine of the angle of each pair of a head's values.

    The first half of a head holds the first values of its pairs, the second half the second ones.
    """

    cosine: Float[Tensor, "R 1 half"]
    sine: Float[Tensor, "R 1 half"]

    @classmethod
    def of(cls, positions: Int[Tensor, "R"], width: int, base: float, dtype: torch.dtype) -> Turns:
        """The turns at these positions for heads of `width`, rounded to the arithmetic of the model."""
        steps = torch.arange(0, width, 2, dtype=torch.float, device=positions.device) / width
        return cls.at(positions, 1.0 / base**steps, dtype)

    @classmethod
    def at(cls, positions: Int[Tensor, "R"], frequencies: Float[Tensor, "half"], dtype: torch.dtype) -> Turns:
        """The turns at these positions, where each pair of a head's values turns as fast as its frequency says."""
        angles = positions[:, None, None].float() * frequencies
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def select(self, index: Int[Tensor, "Q"]) -> Turns:
        """The turns of some of the rows."""
        return Turns(self.cosine[index], self.sine[index])

    @property
    def back(self) -> Turns:
        """The turns that undo these."""
        return Turns(self.cosine, -self.sine)

    def turn(self, x: Float[Tensor, "R heads width"]) -> Float[Tensor, "R heads width"]:
        """Turn every head of every row, in the arithmetic that the turns are rounded to."""
        half = x.shape[-1] // 2
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        torch.mul(x[..., :half], self.cosine, out=out[..., :half]).addcmul_(x[..., half:], self.sine, value=-1)
        torch.mul(x[..., half:], self.cosine, out=out[..., half:]).addcmul_(x[..., :half], self.sine)
        return out


def turned(x: Float[Tensor, "R A"], turns: Turns) -> Float[Tensor, "R A"]:
    """Turn every head of every row, in fp32."""
    half = turns.cosine.shape[-1]
    first, second = x.unflatten(1, (-1, 2 * half)).float().split(half, -1)
    out = torch.cat([first * turns.cosine - second * turns.sine, second * turns.cosine + first * turns.sine], -1)
    return out.to(x.dtype).flatten(1)
