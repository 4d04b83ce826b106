"""ALBERT has narrow embeddings, and layers that share their weights in groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from promptgraft.model.config import MOST_LAYERS, whole
from promptgraft.model.encoder import Encoder, Layer, Shape, Take


def with_groups(shape: Shape, config: Mapping[str, Any], where: str) -> Shape:
    """Add to the shape the group and inner layer that each turn uses; each turn counts as a layer."""
    groups = whole(config, "num_hidden_groups", where, 1, most=shape.layers)
    inner = whole(config, "inner_group_num", where, 1, most=MOST_LAYERS // shape.layers)
    turns = tuple(
        (int(turn / (shape.layers / groups)), layer) for turn in range(shape.layers) for layer in range(inner)
    )
    return dataclasses.replace(shape, groups=turns, layers=len(turns))


def assemble(shape: Shape, take: Take) -> Encoder:
    """Put the weights in the order they are used; layers that share weights are one object."""
    width = shape.embedding_width
    shared = {turn: _layer("encoder.albert_layer_groups.{}.albert_layers.{}".format(*turn), shape, take)
              for turn in dict.fromkeys(shape.groups)}  # fmt: skip
    return Encoder(
        words=take("embeddings.word_embeddings.weight", shape.vocabulary, width),
        types=take("embeddings.token_type_embeddings.weight", shape.types, width),
        positions=take("embeddings.position_embeddings.weight", shape.positions, width),
        embedded_norm=take.norm("embeddings.LayerNorm", width),
        project=take.linear("encoder.embedding_hidden_mapping_in", shape.hidden, width),
        layers=tuple(shared[turn] for turn in shape.groups),
        pooler=take.pooler("pooler", shape.hidden),
    )


def _layer(name: str, shape: Shape, take: Take) -> Layer:
    attention = tuple(f"{name}.attention.{part}" for part in ("query", "key", "value"))
    return Layer(
        qkv=take.fused(attention, shape.hidden, shape.hidden),
        attended=take.linear(f"{name}.attention.dense", shape.hidden, shape.hidden),
        attended_norm=take.norm(f"{name}.attention.LayerNorm", shape.hidden),
        wide=take.linear(f"{name}.ffn", shape.wide, shape.hidden),
        narrow=take.linear(f"{name}.ffn_output", shape.hidden, shape.wide),
        narrow_norm=take.norm(f"{name}.full_layer_layer_norm", shape.hidden),
    )
