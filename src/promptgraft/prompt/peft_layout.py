"""PEFT's layout of prompts: rows of numbers, and a configuration that says of which kind of model they are.

`prompt_embeddings` is `[P, E]`, or `[P, L * 2 * W]` with layers outermost, then key and value. For a
sequence-to-sequence model PEFT hands decoder layer i the rows' layer 2i modulo L, and nothing to the encoder and to
the cross attentions: with an even L half of the rows is never read, and layers L / 2 apart have the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import ArtefactError
from promptgraft.prompt.prompt import Depth, Prompt
from promptgraft.prompt.tensors import check_numbers, plain
from promptgraft.untrusted import visible

EMBEDDINGS = "prompt_embeddings"
DEPTHS: Mapping[str, Depth] = {"PROMPT_TUNING": "shallow", "PREFIX_TUNING": "deep", "CARTRIDGE": "deep"}
"""The types of adapters that are prompts."""
FORM = ("num_virtual_tokens", "token_dim", "num_layers")
SEQ2SEQ, CAUSAL = "SEQ_2_SEQ_LM", "CAUSAL_LM"
TASK_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("t5", "mt5", "bart"), SEQ2SEQ),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2"), CAUSAL),
}
"""PEFT's word for what families of language models do."""


def writes_words(family: str | None) -> bool:
    """Whether models of a family are language models, whose adapters have no head of their own."""
    return family in TASK_TYPES


def held(prompt: Prompt, family: str | None, layers: int) -> tuple[Prompt, tuple[str, ...]]:
    """What of a prompt PEFT has a place for, and what it has none for.

    Args:
        layers: of the model, of its decoder where it has two sides.
    """
    values, half = prompt.values, layers // 2
    if prompt.depth == "shallow" or TASK_TYPES.get(family or "") != SEQ2SEQ:
        return prompt, ()
    own = values if len(values) == layers else values[-2 * layers : -layers]
    kept = own if layers % 2 else torch.cat([own[:half]] * 2)
    reasons = {
        "PEFT has no prefix for the encoder and the cross attentions, so theirs is left out": len(own) != len(values),
        f"PEFT gives decoder layers {half} apart one prefix, so that of the later is left out": (
            not torch.equal(kept, own)
        ),
    }
    return Prompt(kept, prompt.placement), tuple(reason for reason, applies in reasons.items() if applies)


def to_rows(prompt: Prompt, family: str | None) -> Float[Tensor, "P W"]:
    """The rows from which PEFT's model reads a prompt that it can hold."""
    values = prompt.values
    if prompt.depth == "shallow":
        return plain(values)
    if TASK_TYPES.get(family or "") == SEQ2SEQ:
        values = torch.zeros_like(values)
        values[_read_layers(len(values))] = prompt.values
    return plain(values.permute(2, 0, 1, 3).flatten(1))


def from_rows(tensors: Mapping[str, Tensor], config: Mapping[str, Any], where: Path) -> Float[Tensor, "..."]:
    """The values that PEFT's model reads from its rows, checked against the adapter's configuration.

    Raises:
        ArtefactError: there are none, or of another form than the configuration says.
    """
    rows = tensors.get(EMBEDDINGS)
    length, width, layers = (int(config[key]) for key in FORM)
    deep, both = DEPTHS[config["peft_type"]] == "deep", _submodules(config) == 2
    expected = (length, width * layers * 2) if deep else (length * (2 if both else 1), width)
    if rows is None or tuple(rows.shape) != expected or 0 in expected:
        content = f"no {EMBEDDINGS}" if rows is None else f"{EMBEDDINGS} {list(rows.shape)}"
        message = f"holds {content}, the configuration says {list(expected)}"
        raise ArtefactError(message, where=where, do="only prompts can be imported; save it with PEFT again")
    check_numbers(EMBEDDINGS, rows, str(where))
    if not deep:
        return rows[:length].contiguous()  # the second half, for a decoder, is never read
    values = rows.view(length, layers, 2, width).permute(1, 2, 0, 3)
    return (values[_read_layers(layers)] if both else values).contiguous()


def check_task_type(config: Mapping[str, Any], family: str | None, name: str, where: Path) -> None:
    """Raise an ArtefactError where an adapter is for another kind of model than the backbone."""
    given, own = config.get("task_type"), TASK_TYPES.get(family or "")
    if given is not None and given != own and (own is not None or given in (SEQ2SEQ, CAUSAL)):
        message = f"is for models of task type {visible(str(given))}, and {name} is none"
        raise ArtefactError(message, where=where, do="name the model that it was tuned on")


def config_of(
    prompt: Prompt, family: str | None, peft_type: str, *, base_model: str, layers: int, heads: int, head: bool
) -> dict[str, object]:
    """The content of adapter_config.json, with only the keys that every release of PEFT knows."""
    width = prompt.values.shape[-1]
    deep_pair = prompt.depth == "deep" and TASK_TYPES.get(family or "") == SEQ2SEQ
    common: dict[str, object] = {
        "auto_mapping": None,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "modules_to_save": ["classifier", "score"] if head else None,
        "num_attention_heads": heads,
        "num_layers": layers,
        "num_transformer_submodules": 2 if deep_pair else 1,
        "num_virtual_tokens": prompt.length,
        "peft_type": peft_type,
        "revision": None,
        "task_type": TASK_TYPES.get(family or "", "SEQ_CLS" if head else "FEATURE_EXTRACTION"),
        "token_dim": width,
    }
    own: Mapping[str, Mapping[str, object]] = {
        "PREFIX_TUNING": {"encoder_hidden_size": width, "prefix_projection": False},
        "CARTRIDGE": {"num_frozen_tokens": 0},
        "PROMPT_TUNING": {
            "prompt_tuning_init": "RANDOM",
            "prompt_tuning_init_text": None,
            "tokenizer_name_or_path": None,
        },
    }
    return common | dict(own[peft_type])


def _read_layers(layers: int) -> list[int]:
    """Of each layer of a decoder the layer of the rows that PEFT hands it."""
    return [2 * layer % layers for layer in range(layers)]


def _submodules(config: Mapping[str, Any]) -> int:
    """How many parts of the model PEFT has rows for; where it says nothing, what it takes by default."""
    given = config.get("num_transformer_submodules")
    return int(given) if type(given) is int else 2 if config.get("task_type") == SEQ2SEQ else 1
