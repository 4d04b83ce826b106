"""Scores of written texts against one or several references: ROUGE, BLEU and chrF, as their reference packages count.

BLEU's and chrF's figures are made of sums over rows, so a row gives its counts; ROUGE's are means of the rows' own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Int

from promptgraft.task.answers import IDEOGRAPH
from promptgraft.task.draws import Array

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

Script = Literal["chinese", "english", "other"]
SEGMENTS: dict[Script, re.Pattern[str]] = {
    "english": re.compile(r"[a-z0-9]+"),
    "chinese": re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3400-\u9fff\uf900-\ufaff]+"),
    "other": re.compile(r"[^\W_]+"),
}
"""What ROUGE counts: rouge-score's words; of Chinese ideographs one by one; words of any letters elsewhere."""
BLEU_TOKENS: dict[Script, str] = {"english": "13a", "chinese": "zh", "other": "13a"}
"""sacrebleu's tokenizers."""
ORDER, BETA = 6, 2
"""Of chrF: characters of the longest runs that are counted, and how much more recall weighs than precision."""


def script_of(language: str | None, texts: Sequence[str]) -> Script:
    """By which rule texts are counted: by their language, else by what most of their letters are."""
    if language is not None:
        return "chinese" if language.startswith("zh") else "english" if language.startswith("en") else "other"
    letters = Counter(
        "chinese" if IDEOGRAPH.match(letter) else "english" if letter.isascii() else "other"
        for text in texts
        for letter in text
        if letter.isalpha()
    )
    if letters["chinese"] > letters.total() / 3:  # Latin words have many letters each
        return "chinese"
    return "other" if letters["other"] > letters.total() / 2 else "english"


def rouge_of(references: Sequence[str], guess: str, script: Script) -> tuple[float, float, float]:
    """F1 (0..1) of the longest common subsequence, of words and of pairs of words, each by its best reference.

    The values of rouge-score (Lin 2004) without its stemmer, which is for English alone.
    """
    guessed = SEGMENTS[script].findall(guess.lower())
    scores = []
    for reference in references:
        words = SEGMENTS[script].findall(reference.lower())
        lengths = len(words), len(guessed)
        scores.append(
            (
                harmonic(common_subsequence(words, guessed), *lengths),
                *(harmonic(common_runs(words, guessed, size), *(n - size + 1 for n in lengths)) for size in (1, 2)),
            )
        )
    longest, words_alike, pairs_alike = (max(values) for values in zip(*scores, strict=True))
    return longest, words_alike, pairs_alike


def harmonic(common: int, first: int, second: int) -> float:
    """F1 of what two lists have in common; 0 where nothing is."""
    return 2 * common / (first + second) if common else 0.0


def common_runs(first: Sequence[str], second: Sequence[str], size: int) -> int:
    """How many runs of so many words two texts have in common, each as often as in the one that has it less."""
    counts = (Counter(zip(*(words[n:] for n in range(size)), strict=False)) for words in (first, second))
    return (next(counts) & next(counts)).total()


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, all columns of a row of the table at once (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    matched = (1 << len(first)) - 1
    row = matched
    for word in second:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & matched
    return len(first) - row.bit_count()


def bleu_counts(references: Sequence[str], guess: str, scorer: BLEU) -> list[int]:
    """Of a row: length, that of the reference nearest in length, and for runs of 1 to 4 words those right and all."""
    score = scorer.sentence_score(guess, list(references))
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def bleu_scorer(script: Script) -> BLEU:
    """sacrebleu's scorer of single rows; effective_order only silences its advice on scores, which are not used."""
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=BLEU_TOKENS[script], effective_order=True)


def bleu_of(counts: Int[Array, "10"]) -> float:
    """BLEU (0..100) of summed counts, with sacrebleu's usual smoothing."""
    from sacrebleu.metrics.bleu import BLEU

    length, wanted, *runs = counts.tolist()
    return float(BLEU.compute_bleu(runs[:4], runs[4:], length, wanted, smooth_method="exp").score)


def chrf_counts(references: Sequence[str], guess: str) -> list[int]:
    """Of a row, for runs of 1 to 6 characters: those guessed, those of the reference, and those in both.

    White space does not count, and the reference is the one with the best chrF.
    """
    guessed = character_runs(guess)
    candidates = [run_counts(character_runs(reference), guessed) for reference in references]
    return candidates[int(chrf_of(np.array(candidates, dtype=float)).argmax())]


def character_runs(text: str) -> list[Counter[str]]:
    """How often every run of 1 to 6 characters stands in a text without its white space."""
    bare = "".join(text.split())
    return [Counter(bare[n : n + size] for n in range(len(bare) - size + 1)) for size in range(1, ORDER + 1)]


def run_counts(reference: Sequence[Counter[str]], guess: Sequence[Counter[str]]) -> list[int]:
    """For every length of run: those guessed (0 where the reference has none so long), those of the reference, both."""
    counts = ((b.total() if a else 0, a.total(), (a & b).total()) for a, b in zip(reference, guess, strict=True))
    return [count for counted in counts for count in counted]


def chrf_of(counts: Float[Array, "D 18"]) -> Float[Array, "D"]:
    """chrF (0..100) of summed counts: the F of mean precision and recall over the lengths that both sides have."""
    guessed, wanted, right = (counts[:, part::3] for part in range(3))
    known = (guessed > 0) & (wanted > 0)
    lengths = np.maximum(known.sum(1), 1)
    precision = np.where(known, right / np.maximum(guessed, 1), 0).sum(1) / lengths
    recall = np.where(known, right / np.maximum(wanted, 1), 0).sum(1) / lengths
    weighted = BETA**2 * precision + recall
    return np.asarray(100 * (1 + BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1))


def each_row(
    count: Callable[[Sequence[str], str], Sequence[float]], references: Sequence[Sequence[str]], guesses: Sequence[str]
) -> Float[Array, "N M"]:
    """The counts of every row."""
    return np.array([count(texts, guess) for texts, guess in zip(references, guesses, strict=True)], dtype=float)
