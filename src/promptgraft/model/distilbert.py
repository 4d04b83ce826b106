"""DistilBERT is BERT without segments and without a pooler, under names of its own.

Where dropout is asked for, it drops what BERT drops: after attention too, where its makers did not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from promptgraft.model.config import whole
from promptgraft.model.encoder import Encoder, Layer, Shape, Take, read_shape

PARTS = ("embeddings.", "transformer.")
SIZES = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
}
"""The names of sizes in a config.json of BERT, and in one of DistilBERT."""
SEGMENTS = 2


def read_distilbert(config: Mapping[str, Any], where: str) -> Shape:
    """Read a config.json of DistilBERT.

    Raises:
        ModelError: a field is missing, or asks for something that this forward does not compute.
    """
    sizes = {name: whole(config, own, where) for name, own in SIZES.items()}
    fixed = {"hidden_act": config.get("activation", "gelu"), "type_vocab_size": SEGMENTS, "layer_norm_eps": 1e-12}
    return read_shape({**config, **sizes, **fixed}, "distilbert", where)


def assemble(shape: Shape, take: Take) -> Encoder:
    """Put the weights in the order they are used; its segments are rows of zeros, which change nothing."""
    width = shape.hidden
    words = take("embeddings.word_embeddings.weight", shape.vocabulary, width)
    return Encoder(
        words=words,
        types=torch.zeros(shape.types, width, dtype=words.dtype, device=words.device),
        positions=take("embeddings.position_embeddings.weight", shape.positions, width),
        embedded_norm=take.norm("embeddings.LayerNorm", width),
        project=None,
        layers=tuple(_layer(f"transformer.layer.{number}", shape, take) for number in range(shape.layers)),
        pooler=None,
    )


def _layer(name: str, shape: Shape, take: Take) -> Layer:
    attention = tuple(f"{name}.attention.{part}" for part in ("q_lin", "k_lin", "v_lin"))
    return Layer(
        qkv=take.fused(attention, shape.hidden, shape.hidden),
        attended=take.linear(f"{name}.attention.out_lin", shape.hidden, shape.hidden),
        attended_norm=take.norm(f"{name}.sa_layer_norm", shape.hidden),
        wide=take.linear(f"{name}.ffn.lin1", shape.wide, shape.hidden),
        narrow=take.linear(f"{name}.ffn.lin2", shape.hidden, shape.wide),
        narrow_norm=take.norm(f"{name}.output_layer_norm", shape.hidden),
    )
