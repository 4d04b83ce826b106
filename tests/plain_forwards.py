"""Forwards with a deep prompt, written out with transformers' own modules a row at a time: it has none for these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from promptgraft.model.tokens import Tokens


def modernbert_config(**changes: Any) -> transformers.ModernBertConfig:
    sizes = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    more = {"intermediate_size": 40, "max_position_embeddings": 40, "local_attention": 8, "initializer_range": 0.2}
    return transformers.ModernBertConfig(**sizes, **special, **more | changes)


def deberta_config(**changes: Any) -> transformers.DebertaV2Config:
    sizes = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
    more = {"intermediate_size": 40, "max_position_embeddings": 40, "initializer_range": 0.2}
    relative = {"relative_attention": True, "pos_att_type": "p2c|c2p"}
    return transformers.DebertaV2Config(**sizes, **more | relative | changes)


def deberta_v3_config() -> transformers.DebertaV2Config:
    """As the makers' v3: no absolute positions, shared projections, distances in buckets."""
    shared = {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 6}
    return deberta_config(position_biased_input=False, type_vocab_size=0, legacy=False, **shared)


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


def deberta(model: Any, row: Tokens, deep: Tensor, shift: int) -> Tensor:
    """The last states `[n, H]` of one row; a prompt's keys are compared by content alone."""
    config, length = model.config, len(row.ids)
    places = torch.arange(length)
    x = model.embeddings(row.ids[None], token_type_ids=row.types[None], position_ids=places[None] + shift)[0]
    apart, table = build_relative_position(x, x, *buckets_of(model))[0], model.encoder.get_rel_embedding()
    span = len(table) // 2
    for layer, (keys, values) in zip(model.encoder.layer, deep, strict=True):
        own = layer.attention.self
        key_of, query_of = (
            (own.key_proj, own.query_proj) if own.share_att_key else (own.pos_key_proj, own.pos_query_proj)
        )
        heads = []
        for head in range(config.num_attention_heads):
            part = slice(head * own.attention_head_size, (head + 1) * own.attention_head_size)
            q, k, v = (dense(x)[:, part] for dense in (own.query_proj, own.key_proj, own.value_proj))
            position_keys, position_queries = key_of(table)[:, part], query_of(table)[:, part]
            index = (apart + span).clamp(0, 2 * span - 1)
            scores = q @ k.T
            scores = scores + (q[:, None] * position_keys[index]).sum(-1)
            scores = scores + (k[None] * position_queries[index]).sum(-1)
            scores = torch.cat([q @ keys[:, part].T, scores], 1) / (3 * own.attention_head_size) ** 0.5
            heads.append(torch.softmax(scores, -1) @ torch.cat([values[:, part], v]))
        x = layer.attention.output(torch.cat(heads, 1), x)
        x = layer.output(layer.intermediate(x), x)
    return x


def distilbert(model: Any, row: Tokens, deep: Tensor, shift: int) -> Tensor:
    """The last states `[n, H]` of one row."""
    x, heads = model.embeddings(row.ids[None], position_ids=torch.arange(len(row.ids))[None] + shift)[0], 3
    for layer, (keys, values) in zip(model.transformer.layer, deep, strict=True):
        own = layer.attention
        k, v = torch.cat([keys, own.k_lin(x)]), torch.cat([values, own.v_lin(x)])
        q, k, v = (by_head(part, heads) for part in (own.q_lin(x), k, v))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).flatten(1)
        x = layer.sa_layer_norm(own.out_lin(mixed) + x)
        x = layer.output_layer_norm(layer.ffn(x) + x)
    return x


def mpnet(model: Any, row: Tokens, deep: Tensor, shift: int) -> Tensor:
    """The last states `[n, H]` of one row; a prompt's keys have no place, and no bias."""
    places = torch.arange(len(row.ids))[None]
    x = model.embeddings(row.ids[None], position_ids=places + model.embeddings.padding_idx + 1 + shift)[0]
    apart = model.encoder.compute_position_bias(x[None])
    bias = torch.nn.functional.pad(apart, (deep.shape[2], 0))
    for layer, (keys, values) in zip(model.encoder.layer, deep, strict=True):
        own = layer.attention.attn
        k, v = torch.cat([keys, own.k(x)]), torch.cat([values, own.v(x)])
        q, k, v = (by_head(part, own.num_attention_heads) for part in (own.q(x), k, v))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)[0].transpose(0, 1).flatten(1)
        x = layer.attention.LayerNorm(own.o(mixed) + x)
        x = layer.output(layer.intermediate(x), x)
    return x


def buckets_of(model: Any) -> tuple[int, int]:
    return model.encoder.position_buckets, model.encoder.max_relative_positions


PLAIN: dict[str, Callable[[Any, Tokens, Tensor, int], Tensor]] = {
    "modernbert": modernbert,
    "deberta": deberta,
    "distilbert": distilbert,
    "mpnet": mpnet,
}
