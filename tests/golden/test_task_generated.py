"""Scores of written texts are those of rouge-score and sacrebleu, also with several references and in Chinese."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.engine.interval import interval
from promptgraft.task.figures import FIGURES, all_rows
from promptgraft.task.generated import common_subsequence, rouge_of, script_of
from promptgraft.task.metrics import score
from promptgraft.task.task import Example, References, Task

rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is the reference")
sacrebleu = pytest.importorskip("sacrebleu")
WORD = st.sampled_from(["the", "The", "cat", "sat", "on", "a", "mat", "3.5", "don't", "café", ".", ",", "\n", ""])
ENGLISH = st.lists(WORD, max_size=14).map(" ".join) | st.text(max_size=20)
CHINESE = st.text(alphabet="今天气很好猫坐在垫子上，。 BERT3", max_size=16)
SAID = ["the cat sat on the mat.", "It is a guide to action which ensures that the army obeys", ""]
MEANT = [
    ("a cat sat on the mat.", "the cat was on a mat"),
    ("It is a guide to action that ensures that the army will forever heed Party commands",),
    ("something",),
]


def written(metric: str, references: list[tuple[str, ...]], language: str | None) -> tuple[Task, list[References]]:
    return Task("t", "text", metric, {}, {}, language=language), [References(texts) for texts in references]


def figure(metric: str, references: list[tuple[str, ...]], guesses: list[str], language: str | None = "en") -> float:
    task, labels = written(metric, references, language)
    return float(FIGURES[metric](task, labels, guesses, all_rows(len(guesses)))[metric][0])


@given(st.lists(ENGLISH, min_size=1, max_size=3), ENGLISH)
def test_rouge_is_rouge_scores(references: list[str], guess: str) -> None:
    theirs = rouge_scorer.RougeScorer(["rougeL", "rouge1", "rouge2"]).score_multi(references, guess)
    assert rouge_of(references, guess, "english") == pytest.approx([score.fmeasure for score in theirs.values()])


@given(st.lists(CHINESE, min_size=1, max_size=3), CHINESE)
def test_rouge_of_chinese_counts_ideographs_and_latin_words(references: list[str], guess: str) -> None:
    """An ideograph is a word of rouge-score, once it is spelled in Latin letters with space around it."""
    spelled = [
        "".join(f" u{ord(c)} " if ord(c) > 127 and c.isalpha() else c for c in text) for text in (*references, guess)
    ]
    spelled = [text.replace("，", " ").replace("。", " ") for text in spelled]
    theirs = rouge_scorer.RougeScorer(["rougeL", "rouge1", "rouge2"]).score_multi(spelled[:-1], spelled[-1])
    assert rouge_of(references, guess, "chinese") == pytest.approx([score.fmeasure for score in theirs.values()])


@given(st.lists(st.integers(0, 3), max_size=90), st.lists(st.integers(0, 3), max_size=90))
def test_the_longest_common_subsequence_is_the_tables(first: list[int], second: list[int]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    assert common_subsequence([str(n) for n in first], [str(n) for n in second]) == table[-1, -1]


def columns(references: list[tuple[str, ...]]) -> list[list[str]]:
    """References as sacrebleu takes them: the first of every row, the second of every row."""
    most = max(map(len, references))
    return [[texts[min(n, len(texts) - 1)] for texts in references] for n in range(most)]


ROWS = st.lists(st.tuples(st.lists(ENGLISH, min_size=1, max_size=3).map(tuple), ENGLISH), min_size=1, max_size=4)


@given(ROWS, st.sampled_from(["en", "zh"]))
def test_bleu_and_chrf_are_sacrebleus(rows: list[tuple[tuple[str, ...], str]], language: str) -> None:
    references, guesses = [row[0] for row in rows], [row[1] for row in rows]
    tokens = "zh" if language == "zh" else "13a"
    theirs = sacrebleu.corpus_bleu(guesses, columns(references), tokenize=tokens).score
    assert figure("bleu", references, guesses, language) == pytest.approx(theirs)
    assert figure("chrf", references, guesses) == pytest.approx(
        sacrebleu.corpus_chrf(guesses, columns(references)).score
    )


def test_values_that_were_computed_once() -> None:
    """rouge-score 0.1.2 (means of its F), sacrebleu 2.6.0."""
    assert figure("rougeL", MEANT, SAID) == pytest.approx(51.5873, abs=1e-4)
    assert figure("rouge1", MEANT, SAID) == pytest.approx(51.5873, abs=1e-4)
    assert figure("rouge2", MEANT, SAID) == pytest.approx(47.1795, abs=1e-4)
    assert figure("bleu", MEANT, SAID) == pytest.approx(54.2924, abs=1e-4)
    assert figure("chrf", MEANT, SAID) == pytest.approx(55.9678, abs=1e-4)


def test_chinese_without_a_declared_language_is_counted_by_ideographs() -> None:
    texts = [("今天天气很好",), ("猫坐在垫子上",)]
    for metric in ("rougeL", "bleu"):
        assert figure(metric, texts, ["今天天气好", "猫在垫子上"], None) == figure(
            metric, texts, ["今天天气好", "猫在垫子上"], "zh"
        )
    assert figure("rougeL", texts, ["今天天气好", "猫在垫子上"], None) == pytest.approx(100 * 10 / 11)
    assert script_of(None, ["Кошка сидит на коврике"]) == "other"
    assert script_of(None, ["the 猫 sat"]) == script_of(None, [""]) == "english"
    assert script_of("de", ["die Katze"]) == "other"


def test_words_of_other_languages_keep_their_letters() -> None:
    assert figure("rouge1", [("Die Tür ist größer",)], ["die tür war größer"], "de") == pytest.approx(75)
    assert figure("rouge1", [("Кошка сидит",)], ["кошка сидит"], None) == 100


def test_a_task_of_texts_has_all_figures_and_an_interval_around_its_own() -> None:
    task = Task("t", "text", "chrf", {}, {}, language="en")
    rows = [Example("x", label=References(texts)) for texts in MEANT * 5]
    figures = score(task, SAID * 5, rows)
    assert figures.keys() == {"score", "rougeL", "rouge1", "rouge2", "bleu", "chrf", "em_f1", "exact_match"}
    assert figures["score"] == figures["chrf"]
    for metric in task.facts.metrics:
        low, high = interval(task.replace(metric=metric), SAID * 5, rows)
        assert low < figures[metric] < high


def test_writing_nothing_scores_nothing_and_the_reference_itself_all() -> None:
    for metric in ("rougeL", "rouge1", "rouge2", "bleu", "chrf"):
        assert figure(metric, [("a text of some words",)], [""]) == 0
        assert figure(metric, [("other", "a text of some words")], ["a text of some words"]) == pytest.approx(100)


def test_a_text_of_ten_thousand_characters_is_scored_in_time() -> None:
    text = "今天天气很好" * 1700
    assert figure("rougeL", [(text,)], [text[::-1]], "zh") < 100
