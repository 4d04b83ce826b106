"""Small random causal models of every family, with a byte-level tokenizer, and transformers' own passes over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from promptgraft.model.backbone import Batch
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.load import load_folder
from promptgraft.model.resolved import Resolved
from promptgraft.model.tokens import Tokens

SIZE = {
    "vocab_size": 300,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 12, "sliding_window": 6}
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
THREE_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
GPT2 = {
    "vocab_size": 300,
    "n_embd": 24,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 96,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SIZE),
    "llama-tied-biased": (
        "llama",
        SIZE | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3},
    ),
    "llama-linear": (
        "llama",
        SIZE | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0}, "head_dim": 8},
    ),
    "mistral": ("mistral", SIZE | {"sliding_window": 5}),
    "mistral-whole": ("mistral", SIZE | {"sliding_window": None, "num_key_value_heads": 4}),
    "qwen2": ("qwen2", SIZE),
    "qwen2-sliding": ("qwen2", SIZE | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": ("qwen3", SIZE | {"head_dim": 8}),
    "gemma2": ("gemma2", SIZE | GEMMA | CAPS),
    "gemma3": ("gemma3_text", SIZE | GEMMA | {"layer_types": THREE_LAYERS}),
    "gpt2": ("gpt2", GPT2),
}


def tokenizer(folder: Path) -> None:
    """A byte-level tokenizer: special tokens, every byte, and a few merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    special = ["<pad>", "<s>", "</s>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("Ġ", "g"), ("Ġg", "o"), ("o", "d"), ("Ġgo", "od"), ("Ġ", "b"), ("a", "d"), ("Ġb", "ad"), ("t", "h")]
    words = [*special, *letters, *("".join(pair) for pair in pairs)]
    made = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    made.save(str(folder / "tokenizer.json"))


@dataclass(frozen=True)
class Pair:
    """The same weights in transformers' model and in ours."""

    name: str
    theirs: Any
    ours: CausalBackbone


def causal_folder(folder: Path, name: str, seed: int = 3) -> Any:
    """Write a small random model of a family; transformers' model of it."""
    family, settings = FAMILIES[name]
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(family, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases would be ones and zeros
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer(folder)
    return model.requires_grad_(False)


def causal_pair(folder: Path, name: str) -> Pair:
    """A family's small random model, loaded both ways."""
    theirs = causal_folder(folder, name)
    ours = load_folder(Resolved(name, folder, "", None, False))
    assert isinstance(ours, CausalBackbone)
    return Pair(name, theirs, ours)


def rows_of(sequences: Sequence[Sequence[int]], counts: Sequence[int] | None = None) -> Tokens:
    """Sequences end to end; `counts` of them a row, else one."""
    ids = torch.tensor([token for sequence in sequences for token in sequence], dtype=torch.long)
    starts = torch.tensor([0, *map(len, sequences)]).cumsum(0)
    rows = torch.tensor([0, *(counts or [1] * len(sequences))]).cumsum(0)
    return Tokens(ids, torch.zeros_like(ids), starts, rows)


def drawn(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Sequences of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 300, (length,), generator=generator).tolist() for length in lengths]


def cache_of(model: Any, deep: Tensor) -> Any:
    """A prompt `[L, 2, P, K]` as transformers' cache, in which nothing slides away."""
    heads = getattr(model.config, "num_key_value_heads", None) or model.config.num_attention_heads
    layers = [tuple(part.unflatten(1, (heads, -1)).transpose(0, 1)[None] for part in layer.unbind(0)) for layer in deep]
    return transformers.DynamicCache(layers)


def their_states(
    model: Any, ids: Sequence[int], *, deep: Tensor | None = None, shift: int = 0, embeds: Tensor | None = None
) -> Tensor:
    """The last hidden states of one sequence; a deep prompt is seen by all of its tokens, whatever slides."""
    count = len(ids) if embeds is None else len(embeds)
    positions = torch.arange(count)
    masks = masks_of(model, count, 0 if deep is None else deep.shape[2])
    inputs = {"input_ids": torch.tensor([list(ids)])} if embeds is None else {"inputs_embeds": embeds[None]}
    past = {} if deep is None else {"past_key_values": cache_of(model, deep)}
    out = model.base_model(**inputs, attention_mask=masks, position_ids=(positions + shift)[None], **past)
    states: Tensor = out.last_hidden_state[0]
    return states


def masks_of(model: Any, count: int, length: int) -> Any:
    """What transformers adds to scores of a sequence, all of whose tokens see a prompt."""
    positions = torch.arange(count)
    seen = positions[None] <= positions[:, None]
    prompt_seen = torch.ones(count, length, dtype=torch.bool)
    whole = torch.cat([prompt_seen, seen], 1)
    masks: Any = _as_bias(whole)
    kinds = getattr(model.config, "layer_types", None)
    window = getattr(model.config, "sliding_window", None)
    if window is not None:
        near = torch.cat([prompt_seen, seen & (positions[None] > positions[:, None] - window)], 1)
        masks = _as_bias(near)
        if kinds is not None:
            masks = {"full_attention": _as_bias(whole), "sliding_attention": _as_bias(near)}
    return masks


def _as_bias(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]


def their_logits(model: Any, states: Tensor) -> Tensor:
    """The logits of hidden states, with the family's soft limit."""
    logits: Tensor = model.lm_head(states)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def batch_of(tokens: Tokens, prompt_of: Sequence[int] | None = None) -> Batch:
    return Batch(tokens, None if prompt_of is None else torch.tensor(prompt_of))
