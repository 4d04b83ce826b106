"""DeBERTa-v2 and v3 score a query and a key by content and by their distance, embedded on its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft import kernels
from promptgraft.errors import ModelError
from promptgraft.kernels.attention import Dropped
from promptgraft.kernels.disentangled import DeepPrompts, Distances, PositionTables, disentangled
from promptgraft.kernels.dropout import RowDropout, attended_site, narrow_site
from promptgraft.kernels.plain import ACTIVATIONS
from promptgraft.model.config import MOST_LAYERS, positive, whole
from promptgraft.model.encoder import Take
from promptgraft.model.layout import Layout
from promptgraft.model.plain import LayerNorm, Plan, Projection, Stack, layer_norm, projection
from promptgraft.untrusted import visible

UNUSED = {"positions": "embeddings.position_embeddings.", "types": "embeddings.token_type_embeddings."}
"""Weights that some files bring though config.json switches them off."""


@dataclass(frozen=True)
class DebertaLayer:
    """The weights of one layer; `positions` are the embedded distances as this layer compares them."""

    qkv: Projection
    positions: PositionTables
    attended: Projection
    attended_norm: LayerNorm
    wide: Projection
    narrow: Projection
    narrow_norm: LayerNorm


@dataclass(frozen=True)
class DebertaPlan(Plan):
    """The shape of a DeBERTa-v2 or v3.

    Attributes:
        types: segments; 0 where they are not embedded.
        positions: absolute positions that are embedded; 0 where none are.
        span: distances of one sign that have embeddings; 0 without relative positions.
        buckets: distances beyond half of this number share embeddings, ever more of them; 0: none share.
        farthest: the distance at which the last embedding is reached.
        compared: what is compared with embedded distances: queries (`c2p`), keys (`p2c`).
        shares_keys: whether distances go through the projections of the contents.
        normed: whether embedded distances are normalised.
    """

    family = "deberta-v2"
    word_table = "embeddings.word_embeddings.weight"
    parts = ("embeddings.", "encoder.")
    head_parts = ("cls.predictions.", "lm_predictions.lm_head.")

    hidden: int
    embedding_width: int
    layers: int
    heads: int
    wide: int
    vocabulary: int
    max_length: int
    types: int
    positions: int
    span: int
    buckets: int
    farthest: int
    compared: frozenset[str]
    shares_keys: bool
    normed: bool
    epsilon: float
    activation: str

    @property
    def scale(self) -> float:
        """What a sum of scores is multiplied with: it grows with the number of comparisons."""
        return 1 / math.sqrt(self.hidden // self.heads * (1 + len(self.compared)))

    @property
    def segments(self) -> int:
        return self.types

    def resized(self, vocabulary: int) -> DebertaPlan:
        return replace(self, vocabulary=vocabulary)

    def uses(self, name: str) -> bool:
        off = {beginning for part, beginning in UNUSED.items() if not getattr(self, part)}
        return not any(name.startswith(beginning) for beginning in off)

    def assemble(self, take: Take) -> DebertaStack:
        width = self.embedding_width
        distances = self._distances(take)
        return DebertaStack(
            plan=self,
            words=take(self.word_table, self.vocabulary, width),
            positions=take(f"{UNUSED['positions']}weight", self.positions, width) if self.positions else None,
            types=take(f"{UNUSED['types']}weight", self.types, width) if self.types else None,
            project=None
            if width == self.hidden
            else projection(take, "embeddings.embed_proj", self.hidden, width, bias=False),
            embedded_norm=self._norm(take, "embeddings.LayerNorm"),
            layers=tuple(self._layer(take, f"encoder.layer.{number}", distances) for number in range(self.layers)),
        )

    def _distances(self, take: Take) -> Float[Tensor, "E H"] | None:
        """The embeddings of distances, from the most negative on."""
        if not self.span:
            return None
        table = take("encoder.rel_embeddings.weight", 2 * self.span, self.hidden)
        return self._norm(take, "encoder.LayerNorm")(table) if self.normed else table

    def _layer(self, take: Take, name: str, distances: Float[Tensor, "E H"] | None) -> DebertaLayer:
        hidden, attention = self.hidden, f"{name}.attention.self"
        fused = take.fused(tuple(f"{attention}.{part}_proj" for part in ("query", "key", "value")), hidden, hidden)
        return DebertaLayer(
            qkv=Projection(fused.weight, fused.bias),
            positions=PositionTables(
                keys=self._compared(take, "c2p", attention, "key_proj", distances),
                queries=self._compared(take, "p2c", attention, "query_proj", distances),
            ),
            attended=projection(take, f"{name}.attention.output.dense", hidden, hidden, bias=True),
            attended_norm=self._norm(take, f"{name}.attention.output.LayerNorm"),
            wide=projection(take, f"{name}.intermediate.dense", self.wide, hidden, bias=True),
            narrow=projection(take, f"{name}.output.dense", hidden, self.wide, bias=True),
            narrow_norm=self._norm(take, f"{name}.output.LayerNorm"),
        )

    def _compared(
        self, take: Take, kind: str, attention: str, part: str, distances: Float[Tensor, "E H"] | None
    ) -> Float[Tensor, "E H"] | None:
        """Project embedded distances for one comparison; None where a model does not make it."""
        if distances is None or kind not in self.compared:
            return None
        name = f"{attention}.{part}" if self.shares_keys else f"{attention}.pos_{part}"
        return projection(take, name, self.hidden, self.hidden, bias=True)(distances)

    def _norm(self, take: Take, name: str) -> LayerNorm:
        return layer_norm(take, name, self.hidden, self.epsilon, bias=True)


@dataclass(frozen=True)
class DebertaGeometry:
    """What the layers of a pass share.

    Attributes:
        tokens: which tokens attend to which.
        rows: the same sequences with the prompts that they have.
    """

    tokens: kernels.Rows
    rows: kernels.Rows
    distances: Distances | None


@dataclass(frozen=True)
class DebertaStack(Stack[DebertaGeometry]):
    """The weights of a DeBERTa."""

    plan: DebertaPlan
    words: Float[Tensor, "V E"]
    positions: Float[Tensor, "M E"] | None
    types: Float[Tensor, "Y E"] | None
    project: Projection | None
    embedded_norm: LayerNorm
    layers: tuple[DebertaLayer, ...]

    def embedded(self, words: Float[Tensor, "R E"], layout: Layout) -> Float[Tensor, "R H"]:
        x = words
        if self.positions is not None:
            x = x + self.positions.index_select(0, layout.positions)
        if self.types is not None:
            x = x + self.types.index_select(0, layout.types)
        return self.embedded_norm(x if self.project is None else self.project(x))

    def geometry(self, layout: Layout, rows: kernels.Rows, read: Int[Tensor, "Q"] | None) -> DebertaGeometry:
        tokens = kernels.Rows(rows.starts, rows.queries, rows.heads)
        if not self.plan.span or len(rows.starts) < 2:
            return DebertaGeometry(tokens, rows, None)
        starts = rows.starts
        longest = int(starts.diff().max())
        entries = self._entries(torch.arange(1 - longest, longest, device=starts.device))
        first = int(entries[0])
        places = None if read is None else read - starts[torch.searchsorted(starts, read, right=True) - 1]
        return DebertaGeometry(tokens, rows, Distances(tokens, places, entries - first, first))

    def _entries(self, distances: Int[Tensor, "distances"]) -> Int[Tensor, "distances"]:
        """The row of the tables of every distance: its own up to half of the buckets, then shared logarithmically."""
        plan, middle = self.plan, self.plan.buckets // 2
        if middle:
            size = distances.abs().clamp_min(middle)
            steps = torch.log(size / middle) / torch.log(torch.tensor((plan.farthest - 1) / middle))
            shared = (torch.ceil(steps * (middle - 1)) + middle).long() * distances.sign()
            distances = torch.where(distances.abs() <= middle, distances, shared)
        return (distances + plan.span).clamp(0, 2 * plan.span - 1)

    def projected(
        self, number: int, x: Float[Tensor, "R H"], geometry: DebertaGeometry, read: Int[Tensor, "Q"] | None
    ) -> tuple[Float[Tensor, "Q H"], Float[Tensor, "R H"], Float[Tensor, "R H"]]:
        layer, hidden = self.layers[number], self.plan.hidden
        if read is None:
            q, k, v = layer.qkv(x).chunk(3, -1)
            return q, k, v
        q = layer.qkv.rows(0, hidden)(x.index_select(0, read))
        k, v = layer.qkv.rows(hidden, 3 * hidden)(x).chunk(2, -1)
        return q, k, v

    def attended(
        self,
        number: int,
        states: tuple[Float[Tensor, "Q H"], Float[Tensor, "R H"], Float[Tensor, "R H"]],
        geometry: DebertaGeometry,
        prompt: Float[Tensor, "2 N H"] | None,
        dropped: Dropped | None,
    ) -> Float[Tensor, "Q H"]:
        rows, prompts = geometry.rows, None
        if prompt is not None and rows.prompt_starts is not None and rows.prompt_of is not None:
            prompts = DeepPrompts(prompt[0], prompt[1], rows.prompt_starts, rows.prompt_of)
        tables = self.layers[number].positions
        return disentangled(*states, geometry.distances, geometry.tokens, tables, self.plan.scale, prompts, dropped)

    def after_attention(
        self, number: int, mixed: Float[Tensor, "Q H"], residual: Float[Tensor, "Q H"], dropout: RowDropout | None
    ) -> Float[Tensor, "Q H"]:
        layer = self.layers[number]
        attended = layer.attended(mixed)
        attended = attended if dropout is None else dropout(attended, attended_site(number))
        x = layer.attended_norm(attended + residual)
        narrow = layer.narrow(kernels.activation(layer.wide(x), self.plan.activation))
        narrow = narrow if dropout is None else dropout(narrow, narrow_site(number))
        return layer.narrow_norm(narrow + x)


def read_plan(config: Mapping[str, Any], where: str) -> DebertaPlan:
    """Read a config.json of DeBERTa-v2, filling in what transformers leaves out of it.

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
    if config.get("conv_kernel_size"):
        message = "a DeBERTa with a convolution after its first layer (the xlarge ones of v2) is not supported"
        raise ModelError(message, where=where, do="use DeBERTa-v3, or a smaller v2")
    longest = whole(config, "max_position_embeddings", where, 512)
    farthest = config.get("max_relative_positions", -1)
    farthest = longest if farthest is None or farthest == -1 else whole(config, "max_relative_positions", where)
    buckets = 0 if config.get("position_buckets") in (None, -1) else whole(config, "position_buckets", where, least=0)
    relative = bool(config.get("relative_attention", False))
    return DebertaPlan(
        hidden=hidden,
        embedding_width=whole(config, "embedding_size", where, hidden),
        layers=whole(config, "num_hidden_layers", where, most=MOST_LAYERS),
        heads=heads,
        wide=wide,
        vocabulary=vocabulary,
        max_length=longest,
        types=whole(config, "type_vocab_size", where, 0, least=0),
        positions=longest if config.get("position_biased_input", True) else 0,
        span=(buckets or farthest) if relative else 0,
        buckets=buckets,
        farthest=farthest,
        compared=_compared(config, where),
        shares_keys=bool(config.get("share_att_key", False)),
        normed="layer_norm" in _parts(config.get("norm_rel_ebd")),
        epsilon=positive(config, "layer_norm_eps", where, 1e-7),
        activation=activation,
    )


def _compared(config: Mapping[str, Any], where: str) -> frozenset[str]:
    """What is compared with embedded distances."""
    compared = _parts(config.get("pos_att_type"))
    if compared - {"c2p", "p2c"}:
        message = f"its attention by position {visible(repr(sorted(compared)))} is not supported"
        raise ModelError(message, where=where, do="known: c2p, p2c")
    return compared


def _parts(value: object) -> frozenset[str]:
    """The parts of a setting that is a list, or a string with bars."""
    parts = value if isinstance(value, list) else str(value or "").split("|")
    return frozenset(str(part).strip().lower() for part in parts) - {"", "none"}
