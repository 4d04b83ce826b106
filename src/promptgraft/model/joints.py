"""Joints: the places in a text at which its tokens are those of what stands before and those of what follows."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from tokenizers import AddedToken
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

WORD = "▁"
"""What SentencePiece writes for the space that begins a word."""
PIECE_NORMALIZERS = (
    "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Replace", "Strip", "StripAccents",
)  # fmt: skip
"""Changes of SentencePiece's tokenizers that are the same before a space where a solid character stands there."""
MANY_SPACES, CHARACTER = " {2,}", re.compile(r"\[(?:\\.|[^\\\]])*\]", re.DOTALL)
"""Of patterns that such a tokenizer replaces, those that look at no more than one character, or at spaces alone."""
SOLID = "LNPS"
"""The first letters of the categories of characters that may be solid: letters, numbers, punctuation, symbols."""
ACROSS = re.compile(f"\\S\\s|[^\\s{WORD}]{WORD}")
"""What is in the spelling of an added token that may lie across a joint before a space."""
JOINED_TO_NEXT = "\u0d4e", ("\U00011000", "\U00011fff")
"""Letters that make one character with what follows, and the planes of others of their kind."""

Joint = Callable[[str, str], bool]
"""Whether there is a joint between two characters; one that is not known, and no space, is an empty text."""


def joint_of(engine: Engine) -> Joint | None:
    """Where a tokenizer's texts have joints; None where nothing is known of it.

    Args:
        engine: blind to the spellings of special tokens.
    """
    joint = _joint_of_words(engine)
    ordinary = [token for token in engine.get_added_tokens_decoder().values() if not token.special]
    return _beside_added(engine, joint, ordinary) if joint is not None and ordinary else joint


def _joint_of_words(engine: Engine) -> Joint | None:
    """Where the texts between added tokens, which are looked for first of all, have joints."""
    normalizers = list(_steps(engine.normalizer, "normalizers"))
    steps = list(_steps(engine.pre_tokenizer, "pretokenizers"))
    if _is_of_pieces(engine, normalizers, steps):
        return _before_words(engine)
    if {step["type"] for step in normalizers} - set(NORMALIZERS):
        return None
    kinds = {step["type"] for step in steps}
    if kinds == {"BertPreTokenizer"}:
        return _at_signs
    splits = [step for step in steps if step["type"] == "Split"]
    is_known = all(step["pattern"] in ({"Regex": text} for text in SPLITS) and not step["invert"] for step in splits)
    known = kinds and not kinds - {*BY_SPACES, "Split"} and kinds != {"Digits"}
    return _at_spaces if known and is_known else None


def _beside_added(engine: Engine, joint: Joint, ordinary: Sequence[AddedToken]) -> Joint | None:
    """The joints before a space that no added token lies across, or ends at: what follows it begins anew.

    Special ones count too: what looks like one is left as text, but not read as another either. The end of a token that
    is looked for in the changed text is not seen in the text itself, so it must not matter there.
    """
    added = engine.get_added_tokens_decoder().values()
    texts = [token.content for token in added]
    changed = [] if engine.normalizer is None else list(map(engine.normalizer.normalize_str, texts))
    steps = _steps(engine.normalizer, "normalizers")
    anew = any(step["type"] == "Prepend" or step.get("strip_left", False) for step in steps)
    hidden = any(token.single_word or (token.normalized and (token.rstrip or anew)) for token in ordinary)
    if hidden or any(map(ACROSS.search, texts + changed)):
        return None
    ends = {token.content[-1] for token in ordinary}
    return lambda before, after: after == " " and not before.isspace() and before not in ends and joint(before, after)


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


def _is_of_pieces(engine: Engine, normalizers: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a tokenizer is SentencePiece's, and no token of it holds a space behind another character.

    It either cuts a text before every space, or merges pairs, of which none then lies across such a place.
    """
    if any(step["type"] not in PIECE_NORMALIZERS or not _is_local(step) for step in normalizers):
        return False
    writes = any(step["type"] == "Replace" and step["content"] == WORD for step in normalizers)
    metaspace = [step for step in steps if step["type"] == "Metaspace"]
    others = [step for step in steps if step["type"] not in ("Metaspace", "WhitespaceSplit")]
    if any(step["replacement"] != WORD for step in metaspace):
        return False
    if metaspace and all(step.get("split", True) for step in metaspace):
        return not others
    spaces_alone = all(step["type"] == "Split" and step["pattern"] == {"String": " "} for step in others)
    if not (writes or metaspace) or not spaces_alone or type(engine.model).__name__ != "BPE":
        return False
    return not any(WORD in token.lstrip(WORD) for token in engine.get_vocab(with_added_tokens=False))


def _is_local(step: Mapping[str, Any]) -> bool:
    """Whether what a step replaces never lies across a space and the solid character before it."""
    if step["type"] != "Replace":
        return True
    (kind, pattern), *_ = step["pattern"].items()
    if kind == "String":
        return pattern == " " or " " not in pattern
    return pattern == MANY_SPACES or CHARACTER.fullmatch(pattern) is not None


def _before_words(engine: Engine) -> Joint:
    """A joint before every space that stands behind a solid character: one that stays a character, and no space."""

    @cache
    def is_solid(character: str) -> bool:
        letter, (first, last) = JOINED_TO_NEXT
        if unicodedata.category(character)[0] not in SOLID or character == letter or first <= character <= last:
            return False
        text = f"x{character}x"
        changed = text if engine.normalizer is None else engine.normalizer.normalize_str(text).lstrip(WORD)
        return len(changed) > 2 and not any(sign.isspace() or sign == WORD for sign in changed)

    return lambda before, after: after == " " and (not before or is_solid(before))
