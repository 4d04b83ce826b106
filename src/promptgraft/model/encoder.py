"""BERT, RoBERTa, ELECTRA and ALBERT are one post-norm encoder; this module holds its weights and shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import ModelError
from promptgraft.kernels.plain import ACTIVATIONS
from promptgraft.model.config import MOST_LAYERS, positive, whole
from promptgraft.untrusted import visible

TINY = torch.finfo().tiny


@dataclass(frozen=True)
class Dense:
    """A dense product, `x W^T + b`."""

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, "out"]

    def __call__(self, x: Float[Tensor, "T in"]) -> Float[Tensor, "T out"]:
        return torch.nn.functional.linear(x, self.weight, self.bias)

    def rows(self, first: int, last: int) -> Dense:
        """The part that computes outputs `first:last`."""
        return Dense(self.weight[first:last], self.bias[first:last])


@dataclass(frozen=True)
class Int8Dense:
    """A dense product in whole numbers of eight bits, `x W^T + b`, without gradient.

    A weight is `integers` times its output's scale; a row of `x` is cut into 255 steps from its smallest value to its
    largest, 0 among them.

    Attributes:
        integers: -127 to 127.
    """

    integers: Int[Tensor, "out in"]
    scale: Float[Tensor, "out"]
    bias: Float[Tensor, "out"]

    @classmethod
    def of(cls, linear: Dense | Int8Dense) -> Int8Dense:
        """Round a product's weights to the nearest whole numbers."""
        exact = linear.weight.float()
        scale = exact.abs().amax(1) / 127
        integers = (exact / scale.clamp_min(TINY)[:, None]).round()
        return cls(integers.to(torch.int8), scale, linear.bias)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weights that it really multiplies by."""
        return self.integers.float() * self.scale[:, None]

    def __call__(self, x: Float[Tensor, "T in"]) -> Float[Tensor, "T out"]:
        exact, integers = x.float(), self.integers.float()
        least = exact.amin(1, keepdim=True).clamp_max(0)
        step = (exact.amax(1, keepdim=True).clamp_min(0) - least) / 255
        steps = ((exact - least) / step.clamp_min(TINY)).round()
        sums = torch.nn.functional.linear(steps, integers)  # exact up to 2^24
        return ((sums * step + integers.sum(1) * least) * self.scale + self.bias).to(x.dtype)

    def rows(self, first: int, last: int) -> Int8Dense:
        """The part that computes outputs `first:last`."""
        return Int8Dense(self.integers[first:last], self.scale[first:last], self.bias[first:last])


@dataclass(frozen=True)
class Norm:
    """Scale and shift of a LayerNorm."""

    weight: Float[Tensor, "H"]
    bias: Float[Tensor, "H"]


@dataclass(frozen=True)
class Layer:
    """The weights of one layer; `qkv` is query, key and value in one product."""

    qkv: Dense | Int8Dense
    attended: Dense | Int8Dense
    attended_norm: Norm
    wide: Dense | Int8Dense
    narrow: Dense | Int8Dense
    narrow_norm: Norm

    def in_int8(self, exact: Layer) -> Layer:
        """This layer's norms with the products of `exact` in whole numbers."""
        return replace(
            self,
            qkv=Int8Dense.of(exact.qkv),
            attended=Int8Dense.of(exact.attended),
            wide=Int8Dense.of(exact.wide),
            narrow=Int8Dense.of(exact.narrow),
        )


@dataclass(frozen=True)
class Encoder:
    """All weights of an encoder in the order they are used."""

    words: Float[Tensor, "V E"]
    types: Float[Tensor, "Y E"]
    positions: Float[Tensor, "M E"]
    embedded_norm: Norm
    project: Dense | None
    layers: tuple[Layer, ...]
    pooler: Dense | None

    @property
    def is_int8(self) -> bool:
        """Whether the layers' products are in whole numbers."""
        return isinstance(self.layers[0].qkv, Int8Dense)

    def in_int8(self, exact: Encoder) -> Encoder:
        """This encoder with its layers' products replaced by those of `exact` in whole numbers."""
        layers: dict[int, Layer] = {}  # layers that share weights stay one
        for layer, exact_layer in zip(self.layers, exact.layers, strict=True):
            if id(exact_layer) not in layers:
                layers[id(exact_layer)] = layer.in_int8(exact_layer)
        return replace(self, layers=tuple(layers[id(exact_layer)] for exact_layer in exact.layers))


@dataclass(frozen=True)
class Shape:
    """The shape of an encoder, as config.json gives it.

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
        """The number of usable positions."""
        return self.positions - self.first_position


Assemble = Callable[[Shape, "Take"], Encoder]


@dataclass(frozen=True)
class Take:
    """Takes weights by name, and checks them against the shape that config.json promises."""

    weights: Mapping[str, Tensor]
    where: str
    dtype: torch.dtype

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Take the tensor of that name and shape.

        Raises:
            ModelError: it is missing, or of another shape.
        """
        if name not in self.weights:
            raise ModelError(f"its weights lack {name!r}", where=self.where, do="is config.json of the same model?")
        tensor = self.weights[name]
        if tuple(tensor.shape) != shape:
            message = f"{name} is {list(tensor.shape)} but config.json says {list(shape)}"
            raise ModelError(message, where=self.where, do="is config.json of the same model?")
        return tensor.to(self.dtype)

    def linear(self, name: str, out: int, into: int) -> Dense:
        return Dense(self(f"{name}.weight", out, into), self(f"{name}.bias", out))

    def norm(self, name: str, width: int) -> Norm:
        return Norm(self(f"{name}.weight", width), self(f"{name}.bias", width))

    def fused(self, names: tuple[str, ...], out: int, into: int) -> Dense:
        """Take several products over the same input as one."""
        parts = [self.linear(name, out, into) for name in names]
        return Dense(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))

    def pooler(self, name: str, width: int) -> Dense | None:
        """Take the pooler; None if the weights have none."""
        return self.linear(name, width, width) if f"{name}.weight" in self.weights else None


def read_shape(config: Mapping[str, Any], family: str, where: str) -> Shape:
    """Read a config.json of the BERT family, filling in what transformers leaves out of it.

    Raises:
        ModelError: a field is missing, or asks for something that this forward does not compute.
    """
    hidden, heads, wide, vocabulary = (
        whole(config, name, where) for name in ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    )
    layers = whole(config, "num_hidden_layers", where, most=MOST_LAYERS)
    act = str(config.get("hidden_act", "gelu_new" if family == "albert" else "gelu"))
    if act not in ACTIVATIONS:
        raise ModelError(
            f"its activation {visible(act)!r} is not supported", where=where, do=f"known: {', '.join(ACTIVATIONS)}"
        )
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise ModelError("relative positions and decoders are not supported", where=where)
    if hidden % heads:
        raise ModelError(f"its width {hidden} is no multiple of its {heads} attention heads", where=where)
    roberta = family == "roberta"
    return Shape(
        family=family,
        hidden=hidden,
        embedding_width=whole(config, "embedding_size", where, 128) if family in ("electra", "albert") else hidden,
        layers=layers,
        heads=heads,
        wide=wide,
        vocabulary=vocabulary,
        types=whole(config, "type_vocab_size", where, 2),
        positions=whole(config, "max_position_embeddings", where, 512),
        first_position=whole(config, "pad_token_id", where, 1, least=0) + 1 if roberta else 0,
        epsilon=positive(config, "layer_norm_eps", where, 1e-12),
        activation=act,
        drops_narrow=family != "albert",
    )
