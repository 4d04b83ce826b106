"""Frozen weights are taken to where they are used: once, in few bits if asked for, and left behind where room ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.kernels.quantised import EightBits, FourBits, Left, Stored, product
from promptgraft.model.backbone import Arithmetic
from promptgraft.model.decoder import Product, TakeParts
from promptgraft.model.device import CPU
from promptgraft.model.plain import Projection

FEW_BITS: Mapping[str, type[EightBits] | type[FourBits]] = {"int8": EightBits, "int4": FourBits}
"""The arithmetics in which the weights of a decoder's products are stored in few bits."""


@dataclass(frozen=True)
class StoredProjection:
    """A dense product whose weight is made whole, or fetched, when it is multiplied by."""

    weight: Stored
    bias: Float[Tensor, "out"] | None

    def __call__(self, x: Float[Tensor, "T in"]) -> Float[Tensor, "T out"]:
        return product(x, self.weight, self.bias)

    def added(self, x: Float[Tensor, "T in"], residual: Float[Tensor, "T out"]) -> Float[Tensor, "T out"]:
        return product(x, self.weight, self.bias, residual)

    def rows(self, first: int, last: int) -> StoredProjection:
        """The part that computes outputs `first:last`."""
        return StoredProjection(self.weight.rows(first, last), None if self.bias is None else self.bias[first:last])


class Room:
    """Bytes that weights may still take on a device, and those that found no place there."""

    def __init__(self, left: float = math.inf) -> None:
        self.left, self.refused = left, 0

    def take(self, size: int) -> bool:
        """Take so much of it if there is as much."""
        fits = size <= self.left
        self.left -= size if fits else 0
        self.refused += 0 if fits else size
        return fits


@dataclass(frozen=True)
class TakeFrozen(TakeParts):
    """Takes frozen weights to a device, each once: those of one product become parts of what it multiplies by.

    What `weights` holds afterwards is what the decoder uses, so that nothing lies in memory twice; weights in few bits
    are no longer among them.

    Attributes:
        weights: is changed.
        arithmetic: of the decoder; `int8` and `int4` say how the weights of products are stored.
        room: for the weights of products on the device; those that do not fit stay on the processor.
    """

    weights: dict[str, Tensor]
    device: torch.device
    arithmetic: Arithmetic
    room: Room

    def __call__(self, name: str, *shape: int) -> Tensor:
        self.weights[name] = self.matrix(name, *shape).to(self.device)
        return self.weights[name]

    def matrix(self, name: str, *shape: int) -> Tensor:
        return super().__call__(name, *shape)

    def projection(
        self,
        weight: Tensor,
        bias: Tensor | None,
        names: tuple[str, ...],
        outs: tuple[int, ...],
        *,
        transposed: bool = False,
    ) -> Product:
        few = FEW_BITS.get(self.arithmetic)
        if few is not None:
            for name in names:
                del self.weights[f"{name}.weight"]
            stored = few.of(weight.to(self.device))
            return StoredProjection(stored if self.room.take(stored.bytes) else stored.on_processor(), bias)
        fits = self.room.take(weight.numel() * weight.element_size())
        weight = weight.to(self.device if fits else CPU)
        for name, part in zip(names, weight.split(outs), strict=True):
            self.weights[f"{name}.weight"] = part.t() if transposed else part
        return Projection(weight, bias, self.variant) if fits else StoredProjection(Left(weight.pin_memory()), bias)
