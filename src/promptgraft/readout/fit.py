"""A probe's problem is fitted to all of its units, or to many parts of them at once.

Features are centred and divided by their root-mean-square length, one number for all: with few rows that beats a
standard deviation a feature (8 labels a class on six tasks, frozen MiniLM: 64.4 against 63.7 %), and it makes one
strength mean the same for every backbone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import ThreadpoolController

from promptgraft.readout.logistic import logistic
from promptgraft.readout.problem import Problem, Values
from promptgraft.task.draws import Array

NEVER = -10.0
"""Bias of a class without a row: logits of the others sum to zero, so the best of them is never below it."""

SMALL = 2_000_000
"""Numbers in a problem up to which one thread is faster: for a few rows, threads that wait for one another cost
three times the work (17 prompts at 8 rows a class: 3.0 s on one thread, 10.2 s on two)."""

TOGETHER = 2_000_000
"""Inputs times classes up to which the fits of a cross-validation are solved as one; beyond it their products fill a
thread by themselves, and scikit-learn, which ends further from the optimum, takes as long or less (30 fits on one
thread: 16 rows of 2 classes 3.5 against 58 ms, 192 rows of 6 classes 70 against 228; 2,000 rows of 6 classes 2.7
against 2.8 s, 616 rows of 77 classes 8.2 against 2.7)."""

LABELS_AT_ONCE = 4_000_000
"""Scores of units in the fits of several labels that are solved as one: about 200 MB with what is made of them."""

SAME = 1e-13
"""A square below this share of the largest is rounding: no axis of its own, no length."""


@cache
def thread_pools() -> ThreadpoolController:
    """The linear algebra libraries of this process; finding them takes longer than a small fit."""
    return ThreadpoolController()


@contextmanager
def fitting_threads(size: int) -> Iterator[None]:
    """Use one thread for a small problem, all threads for a larger one."""
    if size > SMALL:
        yield
    else:
        with thread_pools().limit(limits=1, user_api="blas"):
            yield


@dataclass(frozen=True)
class ProbeFit:
    """A fitted linear map, scores = weight x + bias, on the original features."""

    weight: Float[Array, "C F"]
    bias: Float[Array, "C"]


@dataclass(frozen=True)
class Reduced:
    """A problem with its inputs centred, rotated to their principal axes and scaled to unit length.

    With fewer units than features the axes span the units only: an L2-held fit never leaves their span, so it is the
    same fit over fewer inputs.

    Attributes:
        inputs: `(x - centre) @ basis.T` of each unit; of choices, of each right minus wrong one, without a centre.
        outputs: C; 2 for choices (right and wrong), 1 for regression.
    """

    problem: Problem
    inputs: Float[Array, "N R"]
    basis: Float[Array, "R F"]
    centre: Float[Array, "F"]
    y: Values
    row: Int[Array, "N"]
    outputs: int

    @property
    def bias(self) -> bool:
        return self.problem.kind != "choice"


def reduce(problem: Problem) -> Reduced:
    """Reduce a problem to what all fits to its parts share.

    Choices: logistic regression without bias on right minus wrong choice, which for two choices is the softmax over
    choices itself, and else Bradley-Terry's approximation of it.
    """
    x, y, row, outputs = problem.x, problem.y, problem.row, problem.outputs
    if problem.kind == "choice":
        right = np.zeros((problem.rows, x.shape[1]))
        right[row[y == 1]] = x[y == 1]
        wrong = y == 0
        x, row, outputs = right[row[wrong]] - x[wrong], row[wrong], 2
        y, centre = np.ones(len(x), dtype=np.int64), np.zeros(x.shape[1])
    else:
        centre = x.mean(0)
    apart = x - centre if is_apart(x, centre) else np.zeros_like(x)
    with fitting_threads(x.size):
        inputs, basis = principal(apart, typical_distance(x, centre))
    return Reduced(problem, inputs, basis, centre, y, row, outputs)


def is_apart(x: Float[Array, "N F"], centre: Float[Array, "F"]) -> bool:
    """Whether units lie further from their centre than rounding moves them."""
    return bool(((x - centre) ** 2).sum(1).mean() > SAME * (x**2).sum(1).mean())


def typical_distance(x: Float[Array, "N F"], centre: Float[Array, "F"]) -> float:
    """The root-mean-square distance of units from their centre; 1 where they are all one."""
    return float(np.sqrt(((x - centre) ** 2).sum(1).mean())) if is_apart(x, centre) else 1.0


def principal(x: Float[Array, "N F"], length: float) -> tuple[Float[Array, "N R"], Float[Array, "R F"]]:
    """Rotate units to their principal axes, divided by their length (`typical_distance`); return them and the axes."""
    x = x / length
    if len(x) >= x.shape[1]:
        axes = np.linalg.eigh(x.T @ x)[1].T
        return x @ axes.T, axes / length
    square, units = np.linalg.eigh(x @ x.T)
    nonzero = square > SAME * max(square[-1], SAME)
    size = np.sqrt(square[nonzero])
    return units[:, nonzero] * size, (units[:, nonzero] / size).T @ x / length


def lengths(x: Float[Array, "N R"], seen: Bool[Array, "J N"], *, centred: bool) -> Float[Array, "J"]:
    """The root-mean-square length of each part's units, from their centre if `centred`; 1 where it is zero."""
    share = seen / seen.sum(1, keepdims=True)
    squares = share @ (x**2).sum(1)
    spread = squares - ((share @ x) ** 2).sum(1) if centred else squares
    return np.where(spread > SAME * squares, np.sqrt(np.maximum(spread, 0)), 1.0)


def solve(reduced: Reduced, strengths: Sequence[float]) -> list[ProbeFit]:
    """Fit all units at each strength C (small C: strongly held towards zero).

    Classes: logistic regression. Numbers: ridge regression with alpha = 1 / C.
    """
    ((weights, biases),) = fit_parts(reduced, np.ones((1, len(reduced.inputs)), dtype=bool), strengths)
    if reduced.problem.kind == "choice":
        return [ProbeFit((weight[1:] - weight[:1]) @ reduced.basis, np.zeros(1)) for weight in weights]
    full = weights @ reduced.basis
    return [ProbeFit(weight, bias - weight @ reduced.centre) for weight, bias in zip(full, biases, strict=True)]


def unseen_scores(
    reduced: Reduced, seen: Bool[Array, "J B"], strengths: Sequence[float]
) -> list[list[Float[Array, "_ C"]]]:
    """Scores of the rows that each part leaves out, by the fits to that part at each strength.

    Args:
        seen: the rows of each part.
    """
    scores_by_part = []
    fits = fit_parts(reduced, seen[:, reduced.row], strengths)
    for rows, (weights, biases) in zip(seen, fits, strict=True):
        inputs = reduced.inputs[~rows[reduced.row]]
        scores = inputs @ weights.transpose(0, 2, 1) + biases[:, None]
        if reduced.problem.kind == "choice":
            scores = scores_of_choices(scores, reduced.problem.y[~rows[reduced.problem.row]])
        scores_by_part.append([*scores])
    return scores_by_part


def scores_of_choices(margins: Float[Array, "S N 2"], y: Int[Array, "U"]) -> Float[Array, "S U 1"]:
    """Turn margins into scores of choices: 0 for the right one, minus its lead over them for the wrong ones."""
    scores = np.zeros((len(margins), len(y), 1))
    scores[:, y == 0, 0] = margins[..., 0] - margins[..., 1]
    return scores


FitWeights = tuple[Float[Array, "S C R"], Float[Array, "S C"]]
"""Weights of the fits at each strength, and their biases, on `Reduced.inputs`."""


def fit_parts(reduced: Reduced, seen: Bool[Array, "J N"], strengths: Sequence[float]) -> list[FitWeights]:
    """Fit many parts of the units, each at all strengths.

    Features are centred and scaled by each part's own units.
    """
    length = lengths(reduced.inputs, seen, centred=reduced.bias)
    held = np.array(strengths) / length[:, None] ** 2
    with fitting_threads(reduced.problem.x.size):
        if reduced.problem.kind == "regression":
            return [
                ridge(reduced.inputs[part], reduced.y[part], strength)
                for part, strength in zip(seen, held, strict=True)
            ]
        if reduced.problem.kind == "multilabel":
            return label_by_label(reduced, seen, held)
        if reduced.inputs.size * reduced.outputs > TOGETHER:
            return [one_by_one(reduced, part, strength) for part, strength in zip(seen, held, strict=True)]
        return together(reduced, seen, held)


def label_by_label(reduced: Reduced, seen: Bool[Array, "J N"], strengths: Float[Array, "J S"]) -> list[FitWeights]:
    """One logistic regression of every label against its absence, for all parts and strengths at once.

    Labels are solved in groups that fit into memory. Where all units of a part agree there is nothing to tell apart:
    the bias is then the log odds of their share, with one more unit that is half of either.
    """
    parts, count = strengths.shape
    group = max(1, LABELS_AT_ONCE // (2 * parts * count * max(1, len(reduced.inputs))))
    fits = [
        labels_together(reduced, seen, strengths, labels)
        for labels in np.split(reduced.y, range(group, reduced.outputs, group), axis=1)
    ]
    weights, biases = (np.concatenate(side, axis=2) for side in zip(*fits, strict=True))
    return [*zip(weights, biases, strict=True)]


def labels_together(
    reduced: Reduced, seen: Bool[Array, "J N"], strengths: Float[Array, "J S"], labels: Int[Array, "N L"]
) -> tuple[Float[Array, "J S L R"], Float[Array, "J S L"]]:
    """Weights and biases of some labels' log odds, for all parts and strengths."""
    (parts, count), many, width = strengths.shape, labels.shape[1], reduced.inputs.shape[1]
    having, rows = seen @ labels, seen.sum(1, keepdims=True)
    part, strength, label = np.nonzero(np.repeat(((having > 0) & (having < rows))[:, None], count, axis=1))
    share = np.repeat(((having + 0.5) / (rows + 1))[:, None], count, axis=1)
    weights, biases = np.zeros((parts, count, many, width)), np.log(share) - np.log1p(-share)
    if len(part):
        sides = np.ones((len(part), 2), dtype=bool)
        fits = logistic(reduced.inputs, labels.T[label], seen[part], strengths[part, strength], sides)
        odds = fits[:, 1] - fits[:, 0]
        weights[part, strength, label], biases[part, strength, label] = odds[:, :width], odds[:, width]
    return weights, biases


def together(reduced: Reduced, seen: Bool[Array, "J N"], strengths: Float[Array, "J S"]) -> list[FitWeights]:
    """Solve the logistic regressions of all parts at all strengths as one problem."""
    count = strengths.shape[1]
    present = np.stack([classes_of(reduced, part) for part in seen])
    present_in_fit, fitted = present.repeat(count, 0), seen.repeat(count, 0)
    twice = 1 if reduced.bias else 2  # choices: right minus wrong tells the same as wrong minus right
    solutions = logistic(
        reduced.inputs, reduced.y, fitted, twice * strengths.ravel(), present_in_fit, bias=reduced.bias
    )
    width = reduced.inputs.shape[1]
    weights = solutions[..., :width].reshape(len(seen), count, reduced.outputs, width)
    biases = np.where(present_in_fit, solutions[..., -1] if reduced.bias else 0.0, NEVER).reshape(len(seen), count, -1)
    return [*zip(weights, biases, strict=True)]


def classes_of(reduced: Reduced, part: Bool[Array, "N"]) -> Bool[Array, "C"]:
    """The classes that a part's fit is over: those with a unit in the part; right and wrong for choices."""
    if reduced.problem.kind == "choice":
        return np.ones(2, dtype=bool)
    return np.bincount(reduced.y[part], minlength=reduced.outputs) > 0


def one_by_one(reduced: Reduced, part: Bool[Array, "N"], strengths: Float[Array, "S"]) -> FitWeights:
    """Fit a part by scikit-learn's logistic regression, on inputs centred and scaled by the part's own units."""
    from sklearn.linear_model import LogisticRegression

    inputs, y = reduced.inputs[part], reduced.y[part]
    present = np.flatnonzero(classes_of(reduced, part))
    shape = len(strengths), reduced.outputs
    weights, biases = np.zeros((*shape, inputs.shape[1])), np.full(shape, NEVER)
    biases[:, present] = 0.0
    if len(present) < 2:
        return weights, biases
    length = lengths(inputs, np.ones((1, len(inputs)), dtype=bool), centred=reduced.bias)[0]
    middle = inputs.mean(0) if reduced.bias else np.zeros(inputs.shape[1])
    inputs = (inputs - middle) / length
    if not reduced.bias:
        inputs, y = np.concatenate([inputs, -inputs]), np.repeat([1, 0], len(inputs))
    for place, strength in enumerate(strengths):
        scaled = strength * length**2
        model = LogisticRegression(C=scaled, fit_intercept=reduced.bias, max_iter=1000).fit(inputs, y)
        weight, bias = model.coef_ / length, np.broadcast_to(model.intercept_, len(model.coef_))
        if len(weight) == 1:
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weights[place, present], biases[place, present] = weight, bias - weight @ middle
    return weights, biases


def ridge(inputs: Float[Array, "N R"], y: Float[Array, "N"], strengths: Float[Array, "S"]) -> FitWeights:
    """Fit ridge regressions at each strength, in the labels' own units."""
    middle, level = inputs.mean(0), float(y.mean())
    centred = inputs - middle
    alphas = np.eye(inputs.shape[1]) / strengths[:, None, None]
    weights = np.linalg.solve(centred.T @ centred + alphas, (centred.T @ (y - level))[:, None])[..., 0]
    return weights[:, None], (level - weights @ middle)[:, None]
