"""Log loss and Brier score are scikit-learn's, calibration error is that of a worked example, and intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from promptgraft.engine.reliability import Reliability, reliability
from promptgraft.task.draws import Array


def drawn(seed: int, rows: int, classes: int, sharper: float = 1.0) -> tuple[Array, Array]:
    """Rows' probabilities and classes drawn by them; `sharper` than 1 makes the probabilities too sure."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(rows, classes))
    true = softmax(scores)
    gold = (random.random((rows, 1)) > true.cumsum(1)).sum(1).clip(0, classes - 1)
    return softmax(sharper * scores), gold


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(2, 60), st.integers(2, 5))
def test_losses_are_scikit_learns(seed: int, rows: int, classes: int) -> None:
    shares, gold = drawn(seed, rows, classes, 3.0)
    labels = list(range(classes))
    found = reliability(shares, gold)
    assert found.log_loss.value == pytest.approx(log_loss(gold, shares, labels=labels), abs=1e-12)
    if classes > 2:
        theirs = brier_score_loss(gold, shares, labels=labels, scale_by_half=False)
    else:
        theirs = 2 * brier_score_loss(gold, shares[:, 1], labels=labels, pos_label=1)
    assert found.brier.value == pytest.approx(theirs, abs=1e-12)


def test_a_probability_of_nothing_has_scikit_learns_loss() -> None:
    shares, gold = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0])
    assert reliability(shares, gold).log_loss.value == pytest.approx(log_loss(gold, shares), abs=1e-12)


def test_calibration_error_of_a_worked_example() -> None:
    """Two answers of 0.62 of which one is right, three of 0.9 that are all right, in two of the 15 bins.

    The first bin is off by 0.12, the second by 0.1: (2 * 0.12 + 3 * 0.1) / 5 = 0.108.
    """
    shares = np.array([[0.62, 0.38], [0.38, 0.62], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    found = reliability(shares, np.array([0, 0, 0, 0, 1]))
    assert found.ece.value == pytest.approx(10.8)
    assert [(part.rows, part.confidence, part.accuracy) for part in found.bins] == [
        (2, pytest.approx(0.62), 0.5),
        (3, pytest.approx(0.9), 1.0),
    ]


def error_of(found: Reliability) -> float:
    return sum(part.rows * abs(part.accuracy - part.confidence) for part in found.bins)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 80), st.integers(2, 5))
def test_calibration_error_is_that_of_its_bins(seed: int, rows: int, classes: int) -> None:
    shares, gold = drawn(seed, rows, classes)
    found = reliability(shares, gold)
    assert sum(part.rows for part in found.bins) == rows
    assert found.ece.value == pytest.approx(100 * error_of(found) / rows)
    for figure in (found.ece, found.log_loss, found.brier):
        assert figure.low <= figure.high
    assert 0 <= found.ece.low <= found.ece.value <= found.ece.high


def test_right_probabilities_show_the_error_that_is_said() -> None:
    found = [reliability(*drawn(seed, 500, 3)) for seed in range(30)]
    chance = np.mean([own.perfect for own in found])
    assert np.mean([own.ece.value for own in found]) == pytest.approx(chance, rel=0.1)


def test_intervals_cover_the_truth() -> None:
    """Probabilities of scores that are twice as large as is right, on 300 rows, 60 times."""
    truth = reliability(*drawn(0, 10_000, 2, 2.0))
    found = [reliability(*drawn(seed, 300, 2, 2.0)) for seed in range(1, 61)]
    for name in ("ece", "log_loss", "brier"):
        value = getattr(truth, name).value
        covered = np.mean([getattr(own, name).low <= value <= getattr(own, name).high for own in found])
        assert covered >= 0.85, name


def test_the_same_rows_have_the_same_figures() -> None:
    assert reliability(*drawn(1, 60, 3)) == reliability(*drawn(1, 60, 3))
