"""MPNet is BERT without segments whose scores also depend on how far apart a query and a key are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft import kernels
from promptgraft.errors import ModelError
from promptgraft.kernels.attention import Dropped
from promptgraft.kernels.dropout import RowDropout, attended_site, narrow_site
from promptgraft.kernels.plain import ACTIVATIONS
from promptgraft.kernels.rows import padded
from promptgraft.model.config import MOST_LAYERS, positive, whole
from promptgraft.model.encoder import Dense, Take
from promptgraft.model.layout import Layout
from promptgraft.model.plain import LayerNorm, Plan, Stack, layer_norm
from promptgraft.untrusted import visible

FIRST_POSITION = 2
"""Of the table of positions; those before it are for padding."""
BUCKETS = 32
"""Of distances, half of them for either direction; a table may have more rows."""
FARTHEST = 128
"""Rows that are farther apart than this have one bias for each direction."""


@dataclass(frozen=True)
class MpnetLayer:
    """The weights of one layer; `qkv` is query, key and value in one product."""

    qkv: Dense
    attended: Dense
    attended_norm: LayerNorm
    wide: Dense
    narrow: Dense
    narrow_norm: LayerNorm


@dataclass(frozen=True)
class MpnetPlan(Plan):
    """The shape of an MPNet.

    Attributes:
        positions: rows of the table of positions.
        buckets: rows of the table of biases.
    """

    family = "mpnet"
    word_table = "embeddings.word_embeddings.weight"
    parts = ("embeddings.", "encoder.", "pooler.")
    head_parts = ("lm_head.",)

    hidden: int
    embedding_width: int
    layers: int
    heads: int
    wide: int
    vocabulary: int
    positions: int
    buckets: int
    epsilon: float
    activation: str

    @property
    def max_length(self) -> int:  # type: ignore[override]
        return self.positions - FIRST_POSITION

    def resized(self, vocabulary: int) -> MpnetPlan:
        return replace(self, vocabulary=vocabulary)

    def assemble(self, take: Take) -> MpnetStack:
        hidden = self.hidden
        return MpnetStack(
            plan=self,
            words=take(self.word_table, self.vocabulary, hidden),
            positions=take("embeddings.position_embeddings.weight", self.positions, hidden),
            embedded_norm=self._norm(take, "embeddings.LayerNorm"),
            layers=tuple(self._layer(take, f"encoder.layer.{number}") for number in range(self.layers)),
            biases=take("encoder.relative_attention_bias.weight", self.buckets, self.heads),
            pooler=take.pooler("pooler.dense", hidden),
        )

    def _layer(self, take: Take, name: str) -> MpnetLayer:
        hidden = self.hidden
        return MpnetLayer(
            qkv=take.fused(tuple(f"{name}.attention.attn.{part}" for part in "qkv"), hidden, hidden),
            attended=take.linear(f"{name}.attention.attn.o", hidden, hidden),
            attended_norm=self._norm(take, f"{name}.attention.LayerNorm"),
            wide=take.linear(f"{name}.intermediate.dense", self.wide, hidden),
            narrow=take.linear(f"{name}.output.dense", hidden, self.wide),
            narrow_norm=self._norm(take, f"{name}.output.LayerNorm"),
        )

    def _norm(self, take: Take, name: str) -> LayerNorm:
        return layer_norm(take, name, self.hidden, self.epsilon, bias=True)


@dataclass(frozen=True)
class Geometry:
    """What the layers of a pass share: which rows attend to which, and what distances add to the scores."""

    rows: kernels.Rows
    biases: Sequence[Float[Tensor, "_ _ _"]]


@dataclass(frozen=True)
class MpnetStack(Stack[Geometry]):
    """The weights of an MPNet.

    Attributes:
        biases: of every bucket of distances and head, the same in all layers.
    """

    plan: MpnetPlan
    words: Float[Tensor, "V H"]
    positions: Float[Tensor, "M H"]
    embedded_norm: LayerNorm
    layers: tuple[MpnetLayer, ...]
    biases: Float[Tensor, "buckets heads"]
    pooler: Dense | None

    def embedded(self, words: Float[Tensor, "R H"], layout: Layout) -> Float[Tensor, "R H"]:
        return self.embedded_norm(words + F.embedding(layout.positions + FIRST_POSITION, self.positions))

    def geometry(self, layout: Layout, rows: kernels.Rows, read: Int[Tensor, "Q"] | None) -> Geometry:
        if len(rows.starts) < 2:
            return Geometry(rows, ())
        farthest = self.plan.max_length
        distances = torch.arange(-farthest, farthest + 1, device=rows.starts.device)
        by_distance = self.biases[bucket_of(distances)]
        keys, queries = layout.positions, layout.positions if read is None else layout.positions[read]
        biases, prompt = [], rows.keys.longest_prompt
        for bucket in rows.keys.buckets:
            asking = queries[padded(rows.queries, bucket.sequences)[0]]
            asked = keys[padded(rows.starts, bucket.sequences)[0]]
            apart = by_distance[asked[:, None] - asking[:, :, None] + farthest]
            bias = F.pad(apart.permute(0, 3, 1, 2), (prompt, 0)).flatten(0, 1)
            biases.append(bias if bucket.bias is None else bias + bucket.bias.to(bias.dtype))
        return Geometry(rows, biases)

    def projected(
        self, number: int, x: Float[Tensor, "R H"], geometry: Geometry, read: Int[Tensor, "Q"] | None
    ) -> tuple[Float[Tensor, "Q H"], Float[Tensor, "R H"], Float[Tensor, "R H"]]:
        qkv, hidden = self.layers[number].qkv, self.plan.hidden
        if read is None:
            q, k, v = qkv(x).chunk(3, -1)
            return q, k, v
        k, v = qkv.rows(hidden, 3 * hidden)(x).chunk(2, -1)
        return qkv.rows(0, hidden)(x.index_select(0, read)), k, v

    def attended(
        self,
        number: int,
        states: tuple[Float[Tensor, "Q H"], Float[Tensor, "R H"], Float[Tensor, "R H"]],
        geometry: Geometry,
        prompt: Float[Tensor, "2 N H"] | None,
        dropped: Dropped | None,
    ) -> Float[Tensor, "Q H"]:
        keys, values = (None, None) if prompt is None else prompt.unbind(0)
        return kernels.attention(*states, geometry.rows, keys, values, dropped, geometry.biases)

    def after_attention(
        self, number: int, mixed: Float[Tensor, "Q H"], residual: Float[Tensor, "Q H"], dropout: RowDropout | None
    ) -> Float[Tensor, "Q H"]:
        layer = self.layers[number]
        attended = layer.attended(mixed)
        x = layer.attended_norm(residual + (attended if dropout is None else dropout(attended, attended_site(number))))
        narrow = layer.narrow(kernels.activation(layer.wide(x), self.plan.activation))
        return layer.narrow_norm(x + (narrow if dropout is None else dropout(narrow, narrow_site(number))))


def bucket_of(distances: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """The bucket of each distance from a query to a key: near ones have one each, far ones share by their logarithm.

    The first half of the buckets is for keys that stand before the query.
    """
    side, near = BUCKETS // 2, BUCKETS // 4
    away = distances.abs()
    share = torch.log(away.clamp_min(1).float() / near) / math.log(FARTHEST / near)
    far = (near + (share * (side - near)).long()).clamp_max(side - 1)
    return torch.where(away < near, away, far) + (distances > 0).long() * side


def read_plan(config: Mapping[str, Any], where: str) -> MpnetPlan:
    """Read a config.json of MPNet, filling in what transformers leaves out of it.

    Raises:
        ModelError: a field is missing, or asks for something that this forward does not compute.
    """
    hidden, heads, wide, vocabulary = (
        whole(config, name, where) for name in ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    )
    activation = str(config.get("hidden_act", "gelu"))
    if activation not in ACTIVATIONS:
        message = f"its activation {visible(activation)!r} is not supported"
        raise ModelError(message, where=where, do=f"known: {', '.join(ACTIVATIONS)}")
    if hidden % heads:
        raise ModelError(f"its width {hidden} is no multiple of its {heads} attention heads", where=where)
    return MpnetPlan(
        hidden=hidden,
        embedding_width=hidden,
        layers=whole(config, "num_hidden_layers", where, most=MOST_LAYERS),
        heads=heads,
        wide=wide,
        vocabulary=vocabulary,
        positions=whole(config, "max_position_embeddings", where, 512, least=FIRST_POSITION + 1),
        buckets=whole(config, "relative_attention_num_buckets", where, BUCKETS, least=BUCKETS),
        epsilon=positive(config, "layer_norm_eps", where, 1e-12),
        activation=activation,
    )
