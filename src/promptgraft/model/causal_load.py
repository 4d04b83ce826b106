"""Decoders of the Llama kind and GPT-2 are loaded from a folder, their weights in as many bits as are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from promptgraft.model import paths
from promptgraft.model.backbone import Arithmetic
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.config import read_optional
from promptgraft.model.decoder import (
    HEAD,
    assemble,
    read_decoder_shape,
)
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.memory import LOG, MemoryLimit, shown
from promptgraft.model.resolved import Resolved
from promptgraft.model.stored import Room, TakeFrozen
from promptgraft.model.tokenize import load_tokenizer
from promptgraft.model.weights import check_weights, read_encoder, read_head

# What some files hold beside weights: masks, and frequencies of rotary positions.
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


def load_causal(
    resolved: Resolved,
    config: Mapping[str, Any],
    dtype: torch.dtype,
    device: torch.device,
    arithmetic: Arithmetic,
    memory: MemoryLimit,
) -> CausalBackbone:
    """Load a decoder of the Llama kind or GPT-2.

    Args:
        dtype: of states and of all weights that are not in few bits.

    Raises:
        ModelError: its weights or its tokenizer cannot be used, or its config.json asks for what is not computed here.
    """
    where = str(resolved.path)
    shape = read_decoder_shape(config, where)
    gpt2 = shape.family == "gpt2"
    found = read_encoder(
        resolved.path,
        "wte.weight" if gpt2 else "embed_tokens.weight",
        ("wte.", "wpe.", "h.", "ln_f.") if gpt2 else ("embed_tokens.", "layers.", "norm."),
    ) | ({} if shape.tied else read_head(resolved.path, (HEAD,)))
    weights = {name: weight for name, weight in found.items() if not name.endswith(BUFFERS)}
    check_weights(weights, resolved.path)
    identity = fingerprint(weights)
    tokenizer = load_tokenizer(resolved.path, prefix=resolved.text_prefix, to_traditional=resolved.to_traditional)
    tokenizer = tokenizer.checked(shape.vocabulary, 0, resolved.path)
    room = Room(math.inf if device.type == "cpu" else memory.for_weights(device))
    variant = None if device.type != "cpu" else paths.path("bf16" if dtype == torch.bfloat16 else "fp32")
    take = TakeFrozen(weights, where, dtype, device, arithmetic, room, variant=variant)
    frozen = assemble(shape, take)
    if room.refused:
        LOG.warning(
            "%s of weights have no room on the GPU and are copied for each product, which is slow", shown(room.refused)
        )
    return CausalBackbone(
        resolved.name,
        shape,
        take.weights,
        tokenizer,
        dtype=dtype,
        arithmetic=arithmetic,
        pooling=resolved.pooling,
        fingerprint=identity,
        frozen=frozen,
        ends=_ends(config, read_optional(resolved.path / "generation_config.json")),
        memory=memory,
        variant=variant,
    )


def _ends(*configs: Mapping[str, Any]) -> frozenset[int]:
    """The tokens that end a text, one or several, as any of a model's files names them."""
    named = [config.get("eos_token_id") for config in configs]
    return frozenset(
        token for value in named for token in (value if isinstance(value, list) else [value]) if type(token) is int
    )
