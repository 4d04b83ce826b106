"""Logistic regressions solved together are scikit-learn's one by one, and know nothing of one another."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from promptgraft.readout import fit as fit_module
from promptgraft.readout.fit import reduce, solve, unseen_scores
from promptgraft.readout.logistic import logistic
from promptgraft.readout.problem import Problem
from promptgraft.task.draws import Array
from promptgraft.task.task import Kind

STRENGTHS = (0.01, 1.0, 1000.0)


def drawn(rows: int, width: int, classes: int, apart: float, seed: int = 0) -> tuple[Array, Array]:
    """Units of about unit length around the centre of their class."""
    numbers = np.random.default_rng(seed)
    y = numbers.permutation(np.arange(rows) % classes)
    x = numbers.normal(size=(rows, width)) + apart * numbers.normal(size=(classes, width))[y]
    return x / np.sqrt((x**2).sum(1).mean()), y


def reference(x: Array, y: Array, strength: float, *, bias: bool = True) -> tuple[Array, Array]:
    """Weight and bias of each class by scikit-learn, brought close to the optimum.

    So close that its last search along a line may find nothing better, and warn: on which processors it does is chance.
    """
    model = LogisticRegression(C=strength, tol=1e-12, max_iter=100_000, fit_intercept=bias, solver="newton-cg")
    with warnings.catch_warnings(action="ignore"):
        model.fit(x, y)
    if len(model.coef_) == 1:
        return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate(
            [-model.intercept_, model.intercept_]
        ) / 2
    return model.coef_, model.intercept_


def fitted(x: Array, y: Array, seen: Array, strengths: Sequence[float], classes: int) -> Array:
    present = np.stack([np.bincount(y[part], minlength=classes) > 0 for part in seen])
    return logistic(x, y, seen, np.array(strengths), present)


@pytest.mark.parametrize(
    ("rows", "width", "classes", "apart"),
    [(16, 15, 2, 0.2), (24, 60, 3, 3.0), (90, 5, 4, 1.0), (200, 30, 2, 0.0), (180, 40, 60, 2.0)],
    ids=["few rows", "apart", "more rows than features", "noise", "sixty classes"],
)
def test_coefficients_are_scikit_learns(rows: int, width: int, classes: int, apart: float) -> None:
    x, y = drawn(rows, width, classes, apart)
    found = fitted(x, y, np.ones((3, rows), dtype=bool), STRENGTHS, classes)
    for own, strength in zip(found, STRENGTHS, strict=True):
        weight, bias = reference(x, y, strength)
        scale = np.abs(weight).max()
        np.testing.assert_allclose(own[:, :-1], weight, atol=1e-4 * scale)
        np.testing.assert_allclose(own[:, -1], bias, atol=1e-4 * max(scale, np.abs(bias).max()))
        assert ((x @ own[:, :-1].T + own[:, -1]).argmax(1) == (x @ weight.T + bias).argmax(1)).all()


def test_parts_without_a_class_are_fitted_to_the_others() -> None:
    x, y = drawn(40, 12, 4, 1.0)
    parts = np.stack([y != 3, y < 2, y == 0])
    three, two, one = fitted(x, y, parts, [10.0] * 3, 4)
    for own, part, count in ((three, parts[0], 3), (two, parts[1], 2)):
        weight, _ = reference(x[part], y[part], 10.0)
        np.testing.assert_allclose(own[:count, :-1], weight, atol=1e-5 * np.abs(weight).max())
        assert (own[count:] == 0).all()
    assert (one == 0).all()


def test_without_a_bias() -> None:
    x, _ = drawn(30, 8, 2, 1.0)
    every = np.ones((1, 30), dtype=bool)
    found = logistic(x, np.ones(30, dtype=np.int64), every, np.array([2.0]), np.ones((1, 2), dtype=bool), bias=False)
    weight, _ = reference(np.concatenate([x, -x]), np.repeat([1, 0], 30), 1.0, bias=False)
    np.testing.assert_allclose(found[0], weight, atol=1e-6)


@given(st.integers(4, 30), st.integers(1, 40), st.integers(2, 5), st.floats(0, 100), st.integers(0, 99))
def test_what_else_is_solved_does_not_matter(rows: int, width: int, classes: int, apart: float, seed: int) -> None:
    x, y = drawn(rows, width, classes, apart, seed)
    seen = np.random.default_rng(seed).random((6, rows)) < 0.7
    seen[:, 0] = True
    strengths = [0.01, 1000.0, 1.0, 100.0, 0.1, 10.0]
    together = fitted(x, y, seen, strengths, classes)
    assert np.isfinite(together).all()
    for place in range(6):
        (alone,) = fitted(x, y, seen[place : place + 1], strengths[place : place + 1], classes)
        np.testing.assert_allclose(together[place], alone, rtol=0, atol=1e-10 * max(1, np.abs(alone).max()))


def posed(kind: Kind, rows: int, width: int) -> Problem:
    """A problem of that kind; a row has two words (tagging) or three choices."""
    many = {"tagging": 2, "choice": 3}.get(kind, 1)
    x, y = drawn(rows * many, width, 3, 0.5)
    if kind == "choice":
        y = np.tile([0, 1, 0], rows)
    if kind == "multilabel":
        return Problem(kind, 7 * x + 3, np.stack([y > 0, y > 1, y == 0, y < 0], axis=1) * 1, np.arange(rows), 4)
    if kind == "regression":
        return Problem(kind, 7 * x + 3, 5 * x[:, 0] + y, np.arange(rows), 1)
    return Problem(kind, 7 * x + 3, y, np.arange(rows).repeat(many), 1 if kind == "choice" else 4)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "choice", "regression", "tagging"])
@pytest.mark.parametrize("width", [6, 90], ids=["more units than features", "fewer"])
def test_scores_of_unseen_rows_are_those_of_fits_to_the_seen(kind: Kind, width: int) -> None:
    problem = posed(kind, 25, width)
    seen = np.stack([np.arange(25) % 4 != held for held in range(4)])
    found = unseen_scores(reduce(problem), seen, STRENGTHS)
    for rows, scores in zip(seen, found, strict=True):
        part, rest = (problem.part(which[problem.row]) for which in (rows, ~rows))
        counted = Problem(kind, part.x, part.y, np.unique(part.row, return_inverse=True)[1], part.outputs)
        for one, fit in zip(scores, solve(reduce(counted), STRENGTHS), strict=True):
            expected = rest.x @ fit.weight.T + fit.bias
            if kind == "choice":  # only the differences between a row's choices are told
                expected = (expected.reshape(-1, 3) - expected.reshape(-1, 3)[:, 1:2]).reshape(-1, 1)
            np.testing.assert_allclose(one, expected, atol=1e-7 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("kind", ["classification", "choice", "tagging"])
def test_large_problems_are_fitted_alike(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    reduced = reduce(posed(kind, 60, 8))
    together = solve(reduced, STRENGTHS)
    monkeypatch.setattr(fit_module, "TOGETHER", 0)
    for one, other in zip(together, solve(reduced, STRENGTHS), strict=True):
        np.testing.assert_allclose(one.weight, other.weight, atol=0.03 * np.abs(one.weight).max())


@pytest.mark.parametrize("at_once", [fit_module.LABELS_AT_ONCE, 1], ids=["together", "one by one"])
def test_several_labels_are_scikit_learns_regressions_of_each_against_its_absence(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "LABELS_AT_ONCE", at_once)
    problem = posed("multilabel", 60, 8)
    reduced = reduce(problem)
    assert problem.y.ndim == 2
    for strength, fit in zip(STRENGTHS, solve(reduced, STRENGTHS), strict=True):
        odds = problem.x @ fit.weight.T + fit.bias
        for label in range(3):
            model = LogisticRegression(C=strength, max_iter=10_000, tol=1e-10).fit(reduced.inputs, problem.y[:, label])
            expected = model.decision_function(reduced.inputs)
            np.testing.assert_allclose(odds[:, label], expected, atol=1e-4 * max(1, np.abs(expected).max()))
        np.testing.assert_allclose(odds[:, 3], np.log(0.5 / 60.5), atol=1e-12)  # no row has it


def test_features_that_say_nothing_are_no_trouble() -> None:
    problem = Problem("classification", np.ones((10, 4)), np.arange(10) % 2, np.arange(10), 2)
    (fit,) = solve(reduce(problem), [1.0])
    np.testing.assert_allclose(fit.weight, 0, atol=1e-12)
    np.testing.assert_allclose(fit.bias, 0, atol=1e-12)


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel"])
def test_rows_that_are_all_one_say_nothing_of_another(kind: Kind) -> None:
    """Their mean differs from them by rounding, which is no direction that a fit could go in."""
    generator = np.random.default_rng(0)
    rows = np.stack([generator.normal(size=384)] * 7)
    y = {"multilabel": np.eye(7, 2, dtype=np.int64), "regression": np.arange(7) / 7}.get(kind, np.arange(7) % 2)
    reduced = reduce(Problem(kind, rows, y, np.arange(7), 1 if kind == "regression" else 2))
    (fit,) = solve(reduced, [1.0])
    np.testing.assert_allclose(fit.weight, 0, atol=1e-9)


def test_rows_that_differ_by_rounding_alone_are_solved_at_every_strength() -> None:
    """Single precision leaves a ten millionth of a feature, which is no direction either."""
    generator = np.random.default_rng(0)
    side = np.where(np.arange(16) % 2, 1, -1)[:, None]
    rows = generator.normal(size=32) + 1e-8 * side * generator.normal(size=32)
    reduced = reduce(Problem("classification", rows, np.arange(16) % 2, np.arange(16), 2))
    with np.errstate(divide="raise", invalid="raise"):
        for fit in solve(reduced, STRENGTHS):
            np.testing.assert_allclose(fit.weight, 0, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 5])
def test_an_offset_is_the_prior_mean_of_the_weights(classes: int) -> None:
    """Weights held towards M are M and weights held towards zero, over scores that M gives already: by scipy."""
    x, y = drawn(30, 6, classes, 1.0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    mean = np.random.default_rng(1).normal(size=(classes, 6))
    mean -= mean.mean(0)
    strength = 3.0
    everything, present = np.ones((1, 30), dtype=bool), np.ones((1, classes), dtype=bool)
    found = logistic(x, y, everything, np.array([strength]), present, bias=False, offset=(mean @ x.T)[None])[0]

    def loss(flat: Array) -> float:
        weights = flat.reshape(classes, 6)
        scores = x @ weights.T
        entropy = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(30), y]
        held = ((weights - mean) ** 2).sum() / 2
        return float((strength / 2 if classes == 2 else strength) * entropy.sum() + held)

    theirs = minimize(loss, mean.ravel(), method="BFGS", options={"gtol": 1e-8}).x.reshape(classes, 6)
    assert np.allclose(found + mean, theirs, atol=1e-4)
