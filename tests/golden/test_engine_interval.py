"""Intervals over rows: Wilson's is scipy's, the bootstrap's covers the truth about as often as it says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from promptgraft.engine.interval import RESAMPLES, drawn, interval, wilson
from promptgraft.task.metrics import score
from promptgraft.task.task import Example, Task

LABELS = {"bad": "bad", "good": "good"}


@given(st.integers(1, 3000).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_wilsons_interval_is_scipys(counted: tuple[int, int]) -> None:
    hits, rows = counted
    theirs = stats.binomtest(hits, rows).proportion_ci(0.95, method="wilson")
    assert wilson(hits, rows) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-4)


def test_accuracy_over_rows_is_judged_by_wilson() -> None:
    task = Task("toy", "classification", "accuracy", LABELS, {})
    examples = [Example(label="good")] * 10
    assert interval(task, ["good"] * 7 + ["bad"] * 3, examples) == wilson(7, 10)


def test_the_bootstrap_covers_the_truth() -> None:
    """Macro F1 of a classifier that is right in 80 % of one class and 60 % of another, over 200 samples of 150 rows."""
    task = Task("toy", "classification", "f1", LABELS, {})
    stream = random.Random(0)

    def sample(rows: int) -> tuple[list[str], list[Example]]:
        guesses, examples = [], []
        for _ in range(rows):
            label = "good" if stream.random() < 0.7 else "bad"
            right = stream.random() < (0.8 if label == "good" else 0.6)
            guesses.append(label if right else "bad" if label == "good" else "good")
            examples.append(Example(label=label))
        return guesses, examples

    truth = score(task, *sample(100_000))["score"]
    tries = 200
    ends = [interval(task, *sample(150)) for _ in range(tries)]
    covered = sum(low <= truth <= high for low, high in ends) / tries
    assert 0.90 <= covered <= 0.99


def test_the_same_rows_have_the_same_ends() -> None:
    task = Task("toy", "classification", "f1", LABELS, {})
    examples = [Example(label="good"), Example(label="bad")] * 30
    guesses = ["good"] * 40 + ["bad"] * 20
    assert interval(task, guesses, examples) == interval(task, guesses, examples)
    assert sum(len(draws) for draws in drawn(60)) == RESAMPLES
