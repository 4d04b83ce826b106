"""Forwards with a deep prompt, written out with transformers' own modules a row at a time: it has none for these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from promptgraft.model.tokens import Tokens


def modernbert_config(**changes: Any) -> transformers.ModernBertConfig:
    sizes = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    more = {"intermediate_size": 40, "max_position_embeddings": 40, "local_attention": 8, "initializer_range": 0.2}
    return transformers.ModernBertConfig(**sizes, **special, **more | changes)


def by_head(x: Tensor, heads: int) -> Tensor:
    """`[n, H]` as `[1, heads, n, width]`."""
    return x.view(len(x), heads, -1).transpose(0, 1)[None]


def modernbert(model: Any, row: Tokens, deep: Tensor, shift: int) -> Tensor:
    """The last states `[n, H]` of one row; the prompt's keys are taken as they are and seen from everywhere."""
    config, x = model.config, model.embeddings(input_ids=row.ids[None])
    places = torch.arange(len(row.ids))
    near = (places[:, None] - places).abs() <= config.local_attention // 2
    for layer, kind, (keys, values) in zip(model.layers, config.layer_types, deep, strict=True):
        q, k, v = (
            by_head(part, config.num_attention_heads) for part in layer.attn.Wqkv(layer.attn_norm(x))[0].chunk(3, -1)
        )
        q, k = apply_rotary_pos_emb(q, k, *model.rotary_emb(x, places[None] + shift, kind))
        k, v = (
            torch.cat([by_head(prompt, config.num_attention_heads), text], 2)
            for prompt, text in ((keys, k), (values, v))
        )
        seen = near if kind == "sliding_attention" else torch.ones_like(near)
        seen = torch.cat([torch.ones(len(places), len(keys), dtype=torch.bool), seen], 1)
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + layer.attn.Wo(mixed.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.mlp_norm(x))
    states: Tensor = model.final_norm(x)[0]
    return states


PLAIN: dict[str, Callable[[Any, Tokens, Tensor, int], Tensor]] = {"modernbert": modernbert}
