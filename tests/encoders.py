"""Encoders of any size with weights that are drawn, on either path, and batches for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from promptgraft.kernels.native.library import able, load
from promptgraft.model.encoder import Dense, Encoder, Layer, Norm, Shape
from promptgraft.model.native import NativeEncoder
from promptgraft.model.packed import PackedBackbone
from promptgraft.model.tokens import Tokens


def usable() -> Iterator[str]:
    for variant, can in able().items():
        try:
            load(variant)
        except OSError:
            continue
        if can:
            yield variant


VARIANTS = list(usable())


def random_encoder(shape: Shape, seed: int, dtype: torch.dtype = torch.float32) -> Encoder:
    """An encoder of any size, all of its weights drawn."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int, mean: float = 0.0, scale: float = 1.0) -> Tensor:
        return (mean + scale * torch.randn(size, generator=generator)).to(dtype)

    def linear(out: int, into: int) -> Dense:
        return Dense(draw(out, into, scale=into**-0.5), draw(out, scale=0.3))

    def norm() -> Norm:
        return Norm(draw(shape.hidden, mean=1.0, scale=0.2), draw(shape.hidden, scale=0.2))

    def layer() -> Layer:
        wide, narrow = linear(shape.wide, shape.hidden), linear(shape.hidden, shape.wide)
        return Layer(
            linear(3 * shape.hidden, shape.hidden), linear(shape.hidden, shape.hidden), norm(), wide, narrow, norm()
        )

    tables = [draw(size, shape.hidden) for size in (shape.vocabulary, shape.types, shape.positions)]
    layers = tuple(layer() for _ in range(shape.layers))
    return Encoder(tables[0], tables[1], tables[2], norm(), None, layers, None)


def shape_of(hidden: int = 24, heads: int = 2, wide: int = 40, layers: int = 2, activation: str = "gelu") -> Shape:
    return Shape("bert", hidden, hidden, layers, heads, wide, 50, 2, 700, 0, 1e-12, activation, True)


def backbone(
    shape: Shape, variant: str | None, seed: int = 0, dtype: torch.dtype = torch.float32, *, int8: bool = False
) -> PackedBackbone:
    """The same random weights on the native path, or (no variant) on the plain one."""
    frozen = random_encoder(shape, seed, dtype)
    if int8:
        frozen = frozen.in_int8(random_encoder(shape, seed))
    nothing: Any = None
    weights = {"embeddings.word_embeddings.weight": frozen.words}
    made = PackedBackbone(
        "toy", shape, nothing, weights, nothing, dtype=dtype, pooling=None, fingerprint="", frozen=frozen
    )
    made.__dict__["_native"] = None if variant is None else NativeEncoder(frozen, shape, variant)
    return made


@dataclass(frozen=True)
class Case:
    """A batch, K prompts and whose is whose."""

    tokens: Tokens
    prompts: tuple[Tensor, ...]
    owner: Tensor | None


def case(shape: Shape, lengths: list[int], prompts: list[int], seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.randint(0, shape.vocabulary, (int(starts[-1]),), generator=generator)
    types = torch.randint(0, shape.types, ids.shape, generator=generator)
    drawn = tuple(torch.randn(shape.layers, 2, length, shape.hidden, generator=generator) for length in prompts)
    owner = torch.randint(0, len(prompts), (len(lengths),), generator=generator) if prompts else None
    return Case(Tokens(ids, types, starts, torch.arange(len(lengths) + 1)), drawn, owner)
