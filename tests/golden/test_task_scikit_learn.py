"""Metrics are scikit-learn's and scipy's; an interval is what they give on Python's own resamples."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    label_ranking_average_precision_score,
    matthews_corrcoef,
    recall_score,
)

from promptgraft.engine.interval import RESAMPLES, drawn, interval
from promptgraft.task.figures import ranking_precision
from promptgraft.task.metrics import score
from promptgraft.task.task import Answers, Example, Kind, Label, Task

CLASSES = ("a", "b", "c", "d")
CLOSE = {"rel": 0, "abs": 1e-12 * 100}
ROWS = st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=30)


def task(kind: Kind, metric: str, positive: str | None = None) -> Task:
    return Task("t", kind, metric, {name: name for name in CLASSES}, {}, positive=positive)


def examples(labels: list[Label]) -> list[Example]:
    return [Example("x", label=label) for label in labels]


@pytest.mark.filterwarnings("ignore:A single label")
@given(ROWS)
def test_figures_of_classes_are_scikit_learns(rows: list[tuple[str, str]]) -> None:
    true, said = zip(*rows, strict=True)
    got = score(task("classification", "f1"), said, examples([*true]))
    assert got["accuracy"] == pytest.approx(100 * accuracy_score(true, said), **CLOSE)
    assert got["score"] == pytest.approx(100 * f1_score(true, said, average="macro", zero_division=0), **CLOSE)
    recall = recall_score(true, said, labels=sorted(set(true)), average="macro", zero_division=0)
    assert got["macro_recall"] == pytest.approx(100 * recall, **CLOSE)
    assert got["matthews"] == pytest.approx(100 * matthews_corrcoef(true, said), **CLOSE)


SETS = st.frozensets(st.sampled_from(CLASSES))


def indicators(sets: Sequence[Collection[str]]) -> np.ndarray:
    return np.array([[name in row for name in CLASSES] for row in sets], dtype=int)


@given(st.lists(st.tuples(SETS, SETS), min_size=1, max_size=30))
def test_figures_of_several_labels_are_scikit_learns(rows: list[tuple[frozenset[str], frozenset[str]]]) -> None:
    true, said = zip(*rows, strict=True)
    got = score(task("multilabel", "micro_f1"), [tuple(row) for row in said], examples([tuple(row) for row in true]))
    left, right = indicators(true), indicators(said)
    occurs = (left | right).any(0)
    assert got["accuracy"] == pytest.approx(100 * accuracy_score(left, right), **CLOSE)
    assert got["score"] == got["micro_f1"]
    assert got["micro_f1"] == pytest.approx(100 * f1_score(left, right, average="micro", zero_division=0), **CLOSE)
    if occurs.any():
        macro = f1_score(left, right, average=None, zero_division=0)[occurs].mean()
        assert got["macro_f1"] == pytest.approx(100 * macro, **CLOSE)
    else:
        assert got["macro_f1"] == 0


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 99))
def test_the_precision_of_a_ranking_of_labels_is_scikit_learns(rows: int, labels: int, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    true, odds = numbers.integers(0, 2, (rows, labels)), numbers.integers(-2, 3, (rows, labels)).astype(float)
    found = ranking_precision(odds, true).mean()
    assert found == pytest.approx(label_ranking_average_precision_score(true, odds), abs=1e-12)


def test_the_ranking_of_labels_is_judged_where_their_probabilities_are_known() -> None:
    true, said = [("a", "c"), (), ("b",)], [("a",), ("d",), ("b",)]
    shares = np.random.default_rng(0).random((3, 4))
    got = score(task("multilabel", "micro_f1"), said, examples([*true]), shares)
    expected = label_ranking_average_precision_score(indicators(true), shares)
    assert got["label_ranking"] == pytest.approx(100 * expected)
    assert "label_ranking" not in score(task("multilabel", "micro_f1"), said, examples([*true]))


@given(ROWS)
def test_f1_of_the_positive_class_is_scikit_learns(rows: list[tuple[str, str]]) -> None:
    true, said = zip(*rows, strict=True)
    got = score(task("pair", "f1", "a"), said, examples([*true]))["score"]
    reference = f1_score([name == "a" for name in true], [name == "a" for name in said], zero_division=0)
    assert got == pytest.approx(100 * reference, **CLOSE)


@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(-5, 5, width=16)), min_size=3, max_size=30))
def test_correlations_are_scipys(rows: list[tuple[int, float]]) -> None:
    true, said = ([float(value) for value in side] for side in zip(*rows, strict=True))
    got = score(task("regression", "pearson_spearman"), said, examples([*true]))
    if len(set(true)) > 1 and len(set(said)) > 1:
        assert got["pearson"] == pytest.approx(100 * pearsonr(true, said)[0], abs=1e-10)
        assert got["spearman"] == pytest.approx(100 * spearmanr(true, said)[0], abs=1e-10)
    else:
        assert got["score"] == 0


def test_many_rows_overflow_nothing() -> None:
    true, said = ["a", "b"] * 200_000, ["a", "b", "a", "a"] * 100_000
    got = score(task("classification", "matthews"), said, examples([*true]))["score"]
    assert got == pytest.approx(100 * matthews_corrcoef(true, said), **CLOSE)


def test_rows_are_drawn_as_python_draws_them() -> None:
    python = random.Random(13)
    expected = [python.choices(range(37), k=37) for _ in range(RESAMPLES)]
    assert np.concatenate([*drawn(37)]).tolist() == expected


def test_more_rows_than_are_drawn_in_one_go_are_the_same_rows() -> None:
    parts = [*drawn(30_000)]
    assert len(parts) > 1
    assert sum(map(len, parts)) == RESAMPLES
    python = random.Random(13)
    for row in parts[0]:
        assert row.tolist() == python.choices(range(30_000), k=30_000)
    assert parts[1][0].tolist() == python.choices(range(30_000), k=30_000)


def noisy(kind: Kind) -> tuple[list[Label], list[Label]]:
    """Labels of 40 rows, and what some model might say of them."""
    numbers = random.Random(3)
    if kind == "regression":
        true = [numbers.random() for _ in range(40)]
        return [*true], [value + numbers.random() for value in true]
    if kind == "multilabel":
        sets = [[tuple(sorted(numbers.sample(CLASSES, n % 4))) for n in range(40)] for _ in range(2)]
        return [*sets[0]], [*sets[1][::-1]]
    if kind == "span":
        answers = ["New York", "the tower", "a river"]
        return [Answers((text,), (0,)) for text in answers * 14], [
            numbers.choice([*answers, "York"]) for _ in range(42)
        ]
    if kind == "tagging":
        tags = ("O", "B-A", "I-A", "B-B")
        rows = [[tuple(numbers.choices(tags, k=1 + n % 5)) for n in range(40)] for _ in range(2)]
        return [*rows[0]], [*rows[1]]
    return [*numbers.choices(CLASSES, k=40)], [*numbers.choices(CLASSES, k=40)]


@pytest.mark.parametrize(
    ("kind", "metric", "positive"),
    [
        ("classification", "f1", None),
        ("pair", "f1", "a"),
        ("classification", "macro_recall", None),
        ("classification", "matthews", None),
        ("regression", "pearson_spearman", None),
        ("multilabel", "micro_f1", None),
        ("multilabel", "macro_f1", None),
        ("tagging", "accuracy", None),
        ("tagging", "span_f1", None),
        ("span", "em_f1", None),
    ],
)
def test_an_interval_is_of_scores_of_drawn_rows(kind: Kind, metric: str, positive: str | None) -> None:
    true, said = noisy(kind)
    asked, rows, python = task(kind, metric, positive), examples(true), random.Random(13)
    values = []
    for _ in range(RESAMPLES):
        index = python.choices(range(len(rows)), k=len(rows))
        values.append(score(asked, [said[i] for i in index], [rows[i] for i in index])["score"])
    values.sort()
    assert interval(asked, said, rows) == pytest.approx((values[25], values[974]), **CLOSE)
