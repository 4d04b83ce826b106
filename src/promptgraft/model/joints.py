"""Joints: the places in a text at which its tokens are those of what stands before and those of what follows."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer as Engine

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
SPLITS = tuple(f"{CONTRACTIONS}|{numbers}{REST}" for numbers in ("\\p{N}", "\\p{N}{1,3}"))
"""The patterns by which Qwen's and Llama's tokenizers split a text into words: a space always begins one."""
BY_SPACES = ("ByteLevel", "Digits", "Whitespace", "WhitespaceSplit")
NORMALIZERS = ("BertNormalizer", "Lowercase", "NFC")
"""Changes to a text that are the same before a space, whatever follows."""
APART = frozenset(" \n\t" + string.punctuation + "，。！？：；、（）《》“”‘’…")
"""Spaces and signs that BERT's tokenizer reads each by itself; it does so with Chinese characters as well."""
CHINESE = (("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"))

Joint = Callable[[str, str], bool]
"""Whether there is a joint between two characters; one that is not known, and no space, is an empty text."""


def joint_of(engine: Engine) -> Joint | None:
    """Where a tokenizer's texts have joints; None where nothing is known of it.

    Args:
        engine: blind to the spellings of special tokens.
    """
    if any(not token.special for token in engine.get_added_tokens_decoder().values()):
        return None  # a token that is looked for in the whole text may begin anywhere
    if {step["type"] for step in _steps(engine.normalizer, "normalizers")} - set(NORMALIZERS):
        return None
    steps = list(_steps(engine.pre_tokenizer, "pretokenizers"))
    kinds = {step["type"] for step in steps}
    if kinds == {"BertPreTokenizer"}:
        return _at_signs
    splits = [step for step in steps if step["type"] == "Split"]
    is_known = all(step["pattern"] in ({"Regex": text} for text in SPLITS) and not step["invert"] for step in splits)
    known = kinds and not kinds - {*BY_SPACES, "Split"} and kinds != {"Digits"}
    return _at_spaces if known and is_known else None


def _steps(step: Any, members: str) -> Iterator[Mapping[str, Any]]:
    """What a normalizer or a pre-tokenizer does, one step after the other."""
    if step is None:
        return
    found: list[Mapping[str, Any]] = [json.loads(step.__getstate__())]
    while found:
        first = found.pop(0)
        found = [*first.get(members, ()), *found] if first["type"] == "Sequence" else found
        if first["type"] != "Sequence":
            yield first


def _at_spaces(before: str, after: str) -> bool:
    return after == " " and not before.isspace()


def _at_signs(before: str, after: str) -> bool:
    return before in APART or after in APART or _is_chinese(before) or _is_chinese(after)


def _is_chinese(character: str) -> bool:
    return any(first <= character <= last for first, last in CHINESE)
