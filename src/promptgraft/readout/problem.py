"""A probe as a small convex problem: what there is to fit, one fit at one strength, and how good a fit is.

Every kind becomes units with features: a row, a word of a row, or a choice of a row. Features are centred and divided
by their root-mean-square length, one number for all: with few rows that beats a standard deviation a feature
(8 labels a class on six tasks, frozen MiniLM: 64.4 against 63.7 %), and it makes one strength mean the same for
every backbone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import ThreadpoolController
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.choice import right_choice
from promptgraft.readout.regression import number
from promptgraft.readout.tagging import word_features, word_tag, words_of_rows
from promptgraft.task.task import Example, Kind, Task

KINDS: frozenset[Kind] = frozenset({"classification", "pair", "regression", "choice", "tagging"})
NEVER = -10.0
"""Bias of a class without a row: logits of the others sum to zero, so the best of them is never below it."""

SMALL = 2_000_000
"""Numbers in a problem up to which one thread is faster: for a few rows, threads that wait for one another cost
three times the work (17 prompts at 8 rows a class: 3.0 s on one thread, 10.2 s on two)."""

Array = NDArray[Any]


@cache
def thread_pools() -> ThreadpoolController:
    """The linear algebra libraries of this process; finding them takes longer than a small fit."""
    return ThreadpoolController()


@contextmanager
def fitting_threads(size: int) -> Iterator[None]:
    """As many threads as a problem of that size is worth."""
    if size > SMALL:
        yield
    else:
        with thread_pools().limit(limits=1, user_api="blas"):
            yield


@dataclass(frozen=True)
class Problem:
    """Units to fit and the labels they have.

    Attributes:
        y: class of each unit; the number (regression); 1 at the right choice, else 0.
        row: of each unit, counted from 0 over the rows that have a label.
        outputs: C; 1 for regression and choice.
    """

    kind: Kind
    x: Float[Array, "U F"]
    y: Float[Array, "U"] | Int[Array, "U"]
    row: Int[Array, "U"]
    outputs: int

    @property
    def rows(self) -> int:
        """Rows with a label."""
        return int(self.row[-1]) + 1 if len(self.row) else 0

    def part(self, units: Bool[Array, "U"]) -> Problem:
        """Only those units; rows keep their numbers."""
        return Problem(self.kind, self.x[units], self.y[units], self.row[units], self.outputs)


@dataclass(frozen=True)
class Fit:
    """scores = weight x + bias, on the features as they came."""

    weight: Float[Array, "C F"]
    bias: Float[Array, "C"]


def pose(task: Task, examples: Sequence[Example], features: Float[Tensor, "N F"], tokens: Tokens) -> Problem:
    """The problem of reading a task's labels from frozen features.

    Args:
        features: one a row; for choices one a sequence; for tagging one a token.

    Raises:
        RunError: a kind no probe is made for, or no row has a label.
        TaskError: a label the task does not have.
    """
    if task.kind not in KINDS:
        raise RunError(f"no probe reads a {task.kind} task", where=task.name, do="use method 'prompt-tuning'")
    if task.kind == "tagging":
        features, row = word_features(features, tokens), np.repeat(np.arange(tokens.count), tokens.row_words.diff())
    elif task.kind == "choice":
        row = np.repeat(np.arange(tokens.count), tokens.rows.diff())
    else:
        row = np.arange(tokens.count)
    labelled = np.array([example.label is not None for example in examples], dtype=bool)
    if not labelled.any():
        raise RunError("a probe needs rows with labels, and there are none", where=task.name)
    keep = labelled[row]
    x = features.detach().cpu().double().numpy()[keep]
    counted = (np.cumsum(labelled) - 1)[row[keep]]
    outputs = len(task.classes) if task.kind in ("classification", "pair", "tagging") else 1
    return Problem(task.kind, x, labels_of_units(task, examples, tokens)[keep], counted, outputs)


def labels_of_units(task: Task, examples: Sequence[Example], tokens: Tokens) -> Float[Array, "U"] | Int[Array, "U"]:
    """`Problem.y` of all units, with anything at units without a label."""
    if task.kind == "regression":
        return np.array([0.0 if one.label is None else number(one.label, task) for one in examples])
    if task.kind == "choice":
        places = [right_choice(example, task) for example in examples]
        lengths = tokens.rows.diff().tolist()
        return np.concatenate([np.arange(length) == place for place, length in zip(places, lengths, strict=True)]) * 1
    if task.kind == "tagging":
        rows = zip(examples, words_of_rows(tokens), strict=True)
        tags = [None if one.label is None else word_tag(one, word, task) for one, words in rows for word in words]
        return np.array(classes.class_indices(tags, task))
    return np.array(classes.class_indices((example.label for example in examples), task))


def solve(problem: Problem, strengths: Sequence[float], seed: int) -> list[Fit]:
    """The fit at each strength C (small C: strongly held towards zero).

    Classes: logistic regression. Numbers: ridge regression with alpha = 1 / C on standardised labels, given back in
    label units. Choices: logistic regression without intercept on right minus wrong choice, which for two
    choices is the softmax over choices itself, and else Bradley-Terry's approximation of it.
    """
    with fitting_threads(problem.x.size):
        if problem.kind == "choice":
            return solve_choices(problem, strengths, seed)
        return solve_units(problem, strengths, seed)


def solve_units(problem: Problem, strengths: Sequence[float], seed: int) -> list[Fit]:
    """`solve` for every kind but choices."""
    centre, basis = reduce(problem.x, centred=True)
    inputs = (problem.x - centre) @ basis.T
    fits = []
    for strength in strengths:
        if problem.kind == "regression":
            weight, bias = ridge(inputs, problem.y, strength)
        else:
            weight, bias = logistic(inputs, problem.y, problem.outputs, strength, seed)
        full = weight @ basis
        fits.append(Fit(full, bias - full @ centre))
    return fits


def reduce(x: Float[Array, "U F"], *, centred: bool) -> tuple[Float[Array, "F"], Float[Array, "R F"]]:
    """A centre and a basis over root-mean-square length, so that `(x - centre) @ basis.T` is short and of unit scale.

    With fewer units than features the basis spans the units only: an L2-held fit never leaves their span, so
    it is the same fit over U inputs instead of F.
    """
    centre = x.mean(0) if centred else np.zeros(x.shape[1])
    moved = x - centre
    length = float(np.sqrt((moved**2).sum(1).mean())) or 1.0
    if len(x) >= x.shape[1]:
        return centre, np.eye(x.shape[1]) / length
    return centre, np.linalg.svd(moved, full_matrices=False)[2] / length


def logistic(
    inputs: Float[Array, "U R"], y: Int[Array, "U"], outputs: int, strength: float, seed: int
) -> tuple[Float[Array, "C R"], Float[Array, "C"]]:
    """Multinomial logistic regression over the classes that have a unit; the others are never predicted."""
    present = np.unique(y)
    weight, bias = np.zeros((outputs, inputs.shape[1])), np.full(outputs, NEVER)
    bias[present] = 0.0
    if len(present) > 1:
        model = LogisticRegression(C=strength, max_iter=1000, random_state=seed).fit(inputs, y)
        if len(present) == 2:
            weight[present] = np.concatenate([-model.coef_, model.coef_]) / 2
            bias[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2
        else:
            weight[present], bias[present] = model.coef_, model.intercept_
    return weight, bias


def ridge(
    inputs: Float[Array, "U R"], y: Float[Array, "U"], strength: float
) -> tuple[Float[Array, "1 R"], Float[Array, "1"]]:
    """Ridge regression on labels of unit spread, given back in the labels' own units."""
    spread = float(y.std()) or 1.0
    model = Ridge(alpha=1 / strength).fit(inputs, (y - y.mean()) / spread)
    return model.coef_[None] * spread, np.array([float(model.intercept_) * spread + y.mean()])


def solve_choices(problem: Problem, strengths: Sequence[float], seed: int) -> list[Fit]:
    """Fits over the differences between each row's right choice and its wrong ones."""
    right = np.zeros((int(problem.row.max()) + 1, problem.x.shape[1]))
    right[problem.row[problem.y == 1]] = problem.x[problem.y == 1]
    wrong = problem.y == 0
    differences = right[problem.row[wrong]] - problem.x[wrong]
    _, basis = reduce(differences, centred=False)
    inputs = differences @ basis.T
    both, sides = np.concatenate([inputs, -inputs]), np.repeat([1, 0], len(inputs))
    fits = []
    for strength in strengths:
        model = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000, random_state=seed).fit(both, sides)
        fits.append(Fit(model.coef_ @ basis, np.zeros(1)))
    return fits


@dataclass(frozen=True)
class Judged:
    """How well a fit reads each row of a part.

    Attributes:
        hit: right or wrong (classes, choices), the share of words that are right (tagging), or 1 - squared error
            over the labels' variance (regression; its mean is R squared).
        likelihood: log probability of the gold label (tagging: mean over words; regression: minus squared
            error over the labels' variance): finer than hits, so it picks between strengths.
    """

    rows: Int[Array, "N"]
    hit: Float[Array, "N"]
    likelihood: Float[Array, "N"]


def judge(fit: Fit, part: Problem, variance: float) -> Judged:
    """Hits and likelihoods of rows that the fit has not seen.

    Args:
        variance: of all labels (regression).
    """
    rows, place = np.unique(part.row, return_inverse=True)
    scores = part.x @ fit.weight.T + fit.bias
    if part.kind == "regression":
        error = (scores[:, 0] - part.y) ** 2 / (variance or 1.0)
        return Judged(rows, 1 - error, -error)
    if part.kind == "choice":
        return judge_choices(scores[:, 0], part.y, rows, place)
    log = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    units = np.bincount(place)
    hit = np.bincount(place, scores.argmax(1) == part.y) / units
    return Judged(rows, hit, np.bincount(place, log[np.arange(len(log)), part.y]) / units)


def judge_choices(
    scores: Float[Array, "U"], y: Int[Array, "U"], rows: Int[Array, "N"], place: Int[Array, "U"]
) -> Judged:
    """Whether the right choice scores above all others, and its log probability among them."""
    best_wrong, total = np.full(len(rows), -np.inf), np.full(len(rows), -np.inf)
    np.maximum.at(best_wrong, place[y == 0], scores[y == 0])
    np.logaddexp.at(total, place, scores)
    right = np.empty(len(rows))
    right[place[y == 1]] = scores[y == 1]
    return Judged(rows, (right > best_wrong) * 1.0, right - total)
