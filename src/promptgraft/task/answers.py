"""Exact match and F1 of answer strings, by the published rules of SQuAD (spaced scripts) and CMRC 2018 (Chinese)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

IDEOGRAPH = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
ARTICLES = re.compile(r"\b(a|an|the)\b")
# the marks CMRC's evaluation takes out; with nltk's splitting of Latin words replaced by the pattern below
CMRC_MARKS = re.compile(r"[-:_*^/\\~`+=，。：？！“”；’《》…·、「」（）－～『』]")
CMRC_SEGMENT = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W\u3400-\u9fff\uf900-\ufaff]+|[^\w\s]")


def score_answers(texts: Sequence[str], guess: str, language: str | None) -> tuple[float, bool]:
    """F1 (0..1) and exact match of a row, each by its best gold answer.

    Args:
        language: "zh..." goes by CMRC's rule, any other by SQuAD's; None decides by ideographs in the gold.
    """
    rule = chinese if is_chinese(texts, language) else english
    f1, exact = zip(*(rule(text, guess) for text in texts), strict=True)
    return max(f1), max(exact)


def is_chinese(texts: Sequence[str], language: str | None) -> bool:
    """Whether CMRC's rule holds for a row."""
    return language.startswith("zh") if language else any(IDEOGRAPH.search(text) for text in texts)


def english(gold: str, guess: str) -> tuple[float, bool]:
    """F1 over words and equality, after SQuAD's normalisation (Rajpurkar et al. 2016, evaluate-v1.1)."""
    gold_words, guess_words = squad_words(gold), squad_words(guess)
    common = (Counter(gold_words) & Counter(guess_words)).total()
    return f1_of(common, len(gold_words), len(guess_words)), gold_words == guess_words


def squad_words(text: str) -> list[str]:
    """Lower case, without punctuation, articles and extra space."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return ARTICLES.sub(" ", bare).split()


def chinese(gold: str, guess: str) -> tuple[float, bool]:
    """F1 over the longest common run of characters (words where Latin) and equality (Cui et al. 2019, CMRC 2018)."""
    gold_segments, guess_segments = cmrc_segments(gold), cmrc_segments(guess)
    longest = SequenceMatcher(None, gold_segments, guess_segments, autojunk=False).find_longest_match().size
    return f1_of(longest, len(gold_segments), len(guess_segments)), cmrc_bare(gold) == cmrc_bare(guess)


def cmrc_bare(text: str) -> str:
    """Lower case without CMRC's marks."""
    return CMRC_MARKS.sub("", text.lower().strip())


def cmrc_segments(text: str) -> list[str]:
    """Ideographs one by one, other scripts by the word."""
    return CMRC_SEGMENT.findall(cmrc_bare(text))


def f1_of(common: int, gold: int, guess: int) -> float:
    """Harmonic mean of precision and recall; 0 where nothing is common."""
    return 2 * common / (gold + guess) if common else 0.0
