"""One post-norm encoder as plain values: what BERT, RoBERTa, ELECTRA and ALBERT all come down to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import ModelError
from promptgraft.kernels.plain import ACTIVATIONS


@dataclass(frozen=True)
class Linear:
    """`x W^T + b`."""

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, "out"]

    def __call__(self, x: Float[Tensor, "T in"]) -> Float[Tensor, "T out"]:
        return torch.nn.functional.linear(x, self.weight, self.bias)

    def rows(self, first: int, last: int) -> Linear:
        """The part that computes outputs `first:last`."""
        return Linear(self.weight[first:last], self.bias[first:last])


@dataclass(frozen=True)
class Norm:
    """Scale and shift of a LayerNorm."""

    weight: Float[Tensor, "H"]
    bias: Float[Tensor, "H"]


@dataclass(frozen=True)
class Layer:
    """One layer; `qkv` is query, key and value in one product."""

    qkv: Linear
    attended: Linear
    attended_norm: Norm
    wide: Linear
    narrow: Linear
    narrow_norm: Norm


@dataclass(frozen=True)
class Encoder:
    """All weights of an encoder in the order they are used."""

    words: Float[Tensor, "V E"]
    types: Float[Tensor, "Y E"]
    positions: Float[Tensor, "M E"]
    embedded_norm: Norm
    project: Linear | None
    layers: tuple[Layer, ...]
    pooler: Linear | None


@dataclass(frozen=True)
class Shape:
    """What config.json says of an encoder.

    Attributes:
        layers: those with weights or turns of their own, so that a deep prompt has L of them.
        first_position: index of the first token in the position table (RoBERTa starts after its padding index).
        drops_narrow: whether the last product of a layer drops out in training (ALBERT's does not).
    """

    family: str
    hidden: int
    embedding_width: int
    layers: int
    heads: int
    wide: int
    vocabulary: int
    types: int
    positions: int
    first_position: int
    epsilon: float
    activation: str
    drops_narrow: bool
    groups: tuple[tuple[int, int], ...] = field(default=())

    @property
    def max_length(self) -> int:
        """Positions that can be used."""
        return self.positions - self.first_position


Assemble = Callable[[Shape, "Take"], Encoder]


@dataclass(frozen=True)
class Take:
    """Weights by name, checked against the shape that config.json promises."""

    weights: Mapping[str, Tensor]
    where: str
    dtype: torch.dtype

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name and shape.

        Raises:
            ModelError: it is missing, or of another shape.
        """
        if name not in self.weights:
            raise ModelError(f"its weights lack {name!r}", where=self.where, do="is config.json of the same model?")
        tensor = self.weights[name]
        if tuple(tensor.shape) != shape:
            what = f"{name} is {list(tensor.shape)} but config.json says {list(shape)}"
            raise ModelError(what, where=self.where, do="is config.json of the same model?")
        return tensor.to(self.dtype)

    def linear(self, name: str, out: int, into: int) -> Linear:
        return Linear(self(f"{name}.weight", out, into), self(f"{name}.bias", out))

    def norm(self, name: str, width: int) -> Norm:
        return Norm(self(f"{name}.weight", width), self(f"{name}.bias", width))

    def fused(self, names: tuple[str, ...], out: int, into: int) -> Linear:
        """Several products over the same input as one."""
        parts = [self.linear(name, out, into) for name in names]
        return Linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))

    def pooler(self, name: str, width: int) -> Linear | None:
        """The pooler, or None where the weights have none."""
        return self.linear(name, width, width) if f"{name}.weight" in self.weights else None


def read_shape(config: Mapping[str, Any], family: str, where: str) -> Shape:
    """Read a config.json of the BERT family, filling in what transformers leaves out of it.

    Raises:
        ModelError: a field is missing, or asks for something that this forward does not compute.
    """
    try:
        hidden, layers, heads = (
            int(config[key]) for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")
        )
        wide, vocabulary = int(config["intermediate_size"]), int(config["vocab_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"config.json lacks a usable {error}", where=where) from error
    act = str(config.get("hidden_act", "gelu_new" if family == "albert" else "gelu"))
    if act not in ACTIVATIONS:
        raise ModelError(f"its activation {act!r} is not supported", where=where, do=f"known: {', '.join(ACTIVATIONS)}")
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise ModelError("relative positions and decoders are not supported", where=where)
    if hidden % heads:
        raise ModelError(f"its width {hidden} is no multiple of its {heads} attention heads", where=where)
    roberta = family == "roberta"
    return Shape(
        family=family,
        hidden=hidden,
        embedding_width=int(config.get("embedding_size", 128)) if family in ("electra", "albert") else hidden,
        layers=layers,
        heads=heads,
        wide=wide,
        vocabulary=vocabulary,
        types=int(config.get("type_vocab_size", 2)),
        positions=int(config.get("max_position_embeddings", 512)),
        first_position=int(config.get("pad_token_id", 1)) + 1 if roberta else 0,
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        activation=act,
        drops_narrow=family != "albert",
    )
