"""ModernBERT is a pre-norm encoder with rotary positions, most of whose layers see a window of the text only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft import kernels
from promptgraft.errors import ModelError
from promptgraft.kernels.attention import Dropped
from promptgraft.kernels.dropout import RowDropout, attended_site, narrow_site
from promptgraft.kernels.plain import ACTIVATIONS
from promptgraft.kernels.rotary import Turns, turned
from promptgraft.kernels.windows import Windows, windows
from promptgraft.model.config import MOST_LAYERS, positive, whole
from promptgraft.model.encoder import Take
from promptgraft.model.head import Head, assemble_head
from promptgraft.model.layout import Layout
from promptgraft.model.plain import LayerNorm, Plan, Projection, Stack, layer_norm, projection
from promptgraft.untrusted import visible

Sight = Literal["full_attention", "sliding_attention"]
BASES: dict[Sight, tuple[str, float]] = {
    "full_attention": ("global_rope_theta", 160_000.0),
    "sliding_attention": ("local_rope_theta", 10_000.0),
}
"""Of each kind of layer the old name of its rotary base in config.json, and the base where there is none."""


@dataclass(frozen=True)
class ModernBertLayer:
    """The weights of one layer.

    Attributes:
        attention_norm: None in the first layer, whose input is normalised already.
        wide: the activated half and its gate in one product.
    """

    attention_norm: LayerNorm | None
    qkv: Projection
    attended: Projection
    wide_norm: LayerNorm
    wide: Projection
    narrow: Projection


@dataclass(frozen=True)
class ModernBertPlan(Plan):
    """The shape of a ModernBERT.

    Attributes:
        sights: what each layer sees.
        bases: the rotary base of each kind of layer.
        reach: how far a local layer sees on each side.
        norm_bias, attention_bias, wide_bias: which parts have biases.
        head_activation: the non-linearity in the head over words.
    """

    family = "modernbert"
    word_table = "embeddings.tok_embeddings.weight"
    parts = ("embeddings.", "layers.", "final_norm.")
    head_parts = ("head.", "decoder.", "classifier.")

    hidden: int
    embedding_width: int
    layers: int
    heads: int
    wide: int
    vocabulary: int
    max_length: int
    sights: tuple[Sight, ...]
    bases: Mapping[Sight, float]
    reach: int
    epsilon: float
    activation: str
    norm_bias: bool
    attention_bias: bool
    wide_bias: bool
    head_activation: str

    def resized(self, vocabulary: int) -> ModernBertPlan:
        return replace(self, vocabulary=vocabulary)

    def assemble(self, take: Take) -> ModernBertStack:
        return ModernBertStack(
            plan=self,
            words=take(self.word_table, self.vocabulary, self.hidden),
            embedded_norm=self._norm(take, "embeddings.norm"),
            layers=tuple(self._layer(take, number) for number in range(self.layers)),
            final_norm=self._norm(take, "final_norm"),
        )

    def head(self, weights: Mapping[str, Tensor], words: Tensor, where: str, like: Tensor) -> Head | None:
        """Put the weights of the head over words together; what it has no bias for has a bias of zero.

        A model for classes has a head of the same name, which reads no words.
        """
        if "head.dense.weight" not in weights or "classifier.weight" in weights:
            return None
        sizes = {"head.dense.bias": self.hidden, "head.norm.bias": self.hidden, "decoder.bias": self.vocabulary}
        whole_head = {name: torch.zeros(size) for name, size in sizes.items()} | dict(weights)
        shape = replace(self, activation=self.head_activation)
        return assemble_head(self.family, shape, whole_head, words, where, like)

    def _layer(self, take: Take, number: int) -> ModernBertLayer:
        name, hidden = f"layers.{number}", self.hidden
        return ModernBertLayer(
            attention_norm=None if number == 0 else self._norm(take, f"{name}.attn_norm"),
            qkv=projection(take, f"{name}.attn.Wqkv", 3 * hidden, hidden, bias=self.attention_bias),
            attended=projection(take, f"{name}.attn.Wo", hidden, hidden, bias=self.attention_bias),
            wide_norm=self._norm(take, f"{name}.mlp_norm"),
            wide=projection(take, f"{name}.mlp.Wi", 2 * self.wide, hidden, bias=self.wide_bias),
            narrow=projection(take, f"{name}.mlp.Wo", hidden, self.wide, bias=self.wide_bias),
        )

    def _norm(self, take: Take, name: str) -> LayerNorm:
        return layer_norm(take, name, self.hidden, self.epsilon, bias=self.norm_bias)


@dataclass(frozen=True)
class ModernBertGeometry:
    """What the layers of a pass share.

    Attributes:
        turns: the rotations of every row, by kind of layer.
        read: the rows that ask; None for all.
        reach: how far a local layer sees; None where no text is longer, so that it sees everything.
    """

    rows: kernels.Rows
    turns: Mapping[Sight, Turns]
    read: Int[Tensor, "Q"] | None
    reach: int | None

    @cached_property
    def windows(self) -> Windows | None:
        """The blocks of local layers; None where each sees everything."""
        return None if self.reach is None else windows(self.rows, self.read, self.reach)


@dataclass(frozen=True)
class ModernBertStack(Stack[ModernBertGeometry]):
    """The weights of a ModernBERT."""

    plan: ModernBertPlan
    words: Float[Tensor, "V H"]
    embedded_norm: LayerNorm
    layers: tuple[ModernBertLayer, ...]
    final_norm: LayerNorm

    def embedded(self, words: Float[Tensor, "R H"], layout: Layout) -> Float[Tensor, "R H"]:
        return self.embedded_norm(words)

    def geometry(self, layout: Layout, rows: kernels.Rows, read: Int[Tensor, "Q"] | None) -> ModernBertGeometry:
        width = self.plan.hidden // self.plan.heads
        turns = {
            sight: Turns.of(layout.positions, width, base, self.words.dtype) for sight, base in self.plan.bases.items()
        }
        longest = int(layout.starts.diff().max()) if len(layout.starts) > 1 else 0
        return ModernBertGeometry(rows, turns, read, self.plan.reach if longest > self.plan.reach + 1 else None)

    def projected(
        self, number: int, x: Float[Tensor, "R H"], geometry: ModernBertGeometry, read: Int[Tensor, "Q"] | None
    ) -> tuple[Float[Tensor, "Q H"], Float[Tensor, "R H"], Float[Tensor, "R H"]]:
        layer, turns, hidden = self.layers[number], geometry.turns[self.plan.sights[number]], self.plan.hidden
        x = x if layer.attention_norm is None else layer.attention_norm(x)
        if read is None:
            q, k, v = layer.qkv(x).chunk(3, -1)
            return turned(q, turns), turned(k, turns), v
        q = layer.qkv.rows(0, hidden)(x.index_select(0, read))
        k, v = layer.qkv.rows(hidden, 3 * hidden)(x).chunk(2, -1)
        return turned(q, turns.select(read)), turned(k, turns), v

    def attended(
        self,
        number: int,
        states: tuple[Float[Tensor, "Q H"], Float[Tensor, "R H"], Float[Tensor, "R H"]],
        geometry: ModernBertGeometry,
        prompt: Float[Tensor, "2 N H"] | None,
        dropped: Dropped | None,
    ) -> Float[Tensor, "Q H"]:
        keys, values = (None, None) if prompt is None else prompt.unbind(0)
        if self.plan.sights[number] == "sliding_attention" and geometry.windows is not None:
            return geometry.windows.attention(*states, keys, values, dropped)
        return kernels.attention(*states, geometry.rows, keys, values, dropped)

    def after_attention(
        self, number: int, mixed: Float[Tensor, "Q H"], residual: Float[Tensor, "Q H"], dropout: RowDropout | None
    ) -> Float[Tensor, "Q H"]:
        layer = self.layers[number]
        attended = layer.attended(mixed)
        x = residual + (attended if dropout is None else dropout(attended, attended_site(number)))
        inner, gate = layer.wide(layer.wide_norm(x)).chunk(2, -1)
        narrow = layer.narrow(kernels.activation(inner, self.plan.activation) * gate)
        return x + (narrow if dropout is None else dropout(narrow, narrow_site(number)))

    def final(self, x: Float[Tensor, "Q H"]) -> Float[Tensor, "Q H"]:
        return self.final_norm(x)


def read_plan(config: Mapping[str, Any], where: str) -> ModernBertPlan:
    """Read a config.json of ModernBERT, filling in what transformers leaves out of it.

    Raises:
        ModelError: a field is missing, or asks for something that this forward does not compute.
    """
    hidden, heads, wide, vocabulary = (
        whole(config, name, where) for name in ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    )
    layers = whole(config, "num_hidden_layers", where, most=MOST_LAYERS)
    if hidden % (2 * heads):
        raise ModelError(f"its width {hidden} is no even multiple of its {heads} attention heads", where=where)
    return ModernBertPlan(
        hidden=hidden,
        embedding_width=hidden,
        layers=layers,
        heads=heads,
        wide=wide,
        vocabulary=vocabulary,
        max_length=whole(config, "max_position_embeddings", where, 8192),
        sights=_sights(config, layers, where),
        bases={sight: _base(config, sight, where) for sight in BASES},
        reach=whole(config, "local_attention", where, 128) // 2,
        epsilon=positive(config, "norm_eps", where, 1e-5),
        activation=_activation(config, "hidden_activation", where),
        norm_bias=bool(config.get("norm_bias", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        wide_bias=bool(config.get("mlp_bias", False)),
        head_activation=_activation(config, "classifier_activation", where),
    )


def _activation(config: Mapping[str, Any], name: str, where: str) -> str:
    activation = str(config.get(name, "gelu"))
    if activation not in ACTIVATIONS:
        message = f"its activation {visible(activation)!r} is not supported"
        raise ModelError(message, where=where, do=f"known: {', '.join(ACTIVATIONS)}")
    return activation


def _sights(config: Mapping[str, Any], layers: int, where: str) -> tuple[Sight, ...]:
    """What each layer sees; older files give the distance between layers that see everything."""
    named = config.get("layer_types")
    if named is None:
        every = whole(config, "global_attn_every_n_layers", where, 3)
        return tuple("sliding_attention" if number % every else "full_attention" for number in range(layers))
    if not isinstance(named, list) or len(named) != layers or any(kind not in BASES for kind in named):
        message = f"config.json lacks a usable 'layer_types' ({layers} of {', '.join(BASES)})"
        raise ModelError(message, where=where)
    return tuple(named)


def _base(config: Mapping[str, Any], sight: Sight, where: str) -> float:
    """The rotary base of a kind of layer, in the new form of config.json or the old one."""
    old, default = BASES[sight]
    parameters = config.get("rope_parameters")
    given = parameters.get(sight) if isinstance(parameters, dict) else None
    given = given if isinstance(given, dict) else {}
    if given.get("rope_type", "default") != "default" or config.get("rope_scaling"):
        raise ModelError("scaled rotary positions are not supported", where=where)
    if "rope_theta" in given:
        return positive(given, "rope_theta", where, default)
    return positive(config, old, where, default)
