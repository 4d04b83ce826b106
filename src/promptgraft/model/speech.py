"""Words become tokens as they stand inside a sentence, and tokens become text again."""

from __future__ import annotations

from collections.abc import Sequence

from promptgraft.model.tokenize import Tokenizer


def words_inside(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """The tokens of each word behind another: with the space that byte-level tokenisers count to it."""
    texts = [f" {word}" if tokenizer.joint and not word[:1].isspace() else word for word in words]
    return [encoded.ids for encoded in tokenizer.engine.encode_batch(texts, add_special_tokens=False)]
