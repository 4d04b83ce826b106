"""How a model gives words, and the reader of filled templates that it wants; no weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptgraft.model.backbone import Speech
from promptgraft.model.catalog import resolve
from promptgraft.model.config import read_config
from promptgraft.model.filled import FilledReader
from promptgraft.model.tokenize import Tokenizer, load_tokenizer

TWO_SIDED = ("t5", "mt5", "umt5", "bart", "mbart", "pegasus", "marian")
"""Kinds of sequence-to-sequence models whose config.json may not say that they are such."""
USUAL_LENGTH = 512


def speech_of(config: Mapping[str, Any], tokenizer: Tokenizer) -> Speech:
    """How a model gives words, by its config.json: a model without a mask writes from left to right."""
    if config.get("is_encoder_decoder") or config.get("model_type") in TWO_SIDED:
        return "seq2seq"
    names = config.get("architectures") or ()
    is_causal = any(str(name).endswith("ForCausalLM") for name in names)
    return "causal" if is_causal or tokenizer.mask is None else "masked"


def open_reader(model: str | Path) -> tuple[FilledReader, int]:
    """The reader of filled templates of a model, by name or folder, and how many tokens a sequence has at most.

    Raises:
        ModelError: the model is unknown or not here, or its tokenizer cannot be used.
    """
    resolved = resolve(model)
    config = read_config(resolved.path)
    tokenizer = load_tokenizer(resolved.path, prefix=resolved.text_prefix, to_traditional=resolved.to_traditional)
    positions = config.get("max_position_embeddings")
    limit = min(positions, USUAL_LENGTH) if isinstance(positions, int) and positions > 0 else USUAL_LENGTH
    return FilledReader(tokenizer, speech_of(config, tokenizer)), limit
