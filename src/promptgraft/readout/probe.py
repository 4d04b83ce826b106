"""Linear probes on frozen features are fitted as readouts, scored by cross-validation, and used to choose features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout.by_class import label_rates, of_labels
from promptgraft.readout.choice import Choice
from promptgraft.readout.classes import encode_names
from promptgraft.readout.fit import ProbeFit, Reduced, reduce, solve, unseen_scores
from promptgraft.readout.linear import Linear
from promptgraft.readout.multilabel import Multilabel
from promptgraft.readout.problem import Judged, Problem, judge, pose
from promptgraft.readout.readout import Readout
from promptgraft.readout.regression import Regression, differ
from promptgraft.readout.tagging import Tagging
from promptgraft.task.draws import Array
from promptgraft.task.task import Example, Task

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
SAFE_STRENGTH = 1.0
"""Held unless cross-validation is sure of another: on frozen MiniLM features of six tasks, six seeds, C = 1 throughout
gives 64.4 and 75.2 % at 8 and 32 labels a class, the C that cross-validates best 64.4 and 74.2."""
LABEL_STRENGTHS, SAFE_LABEL_STRENGTH = (1.0, 10.0, 100.0), 10.0
"""The same for several labels a row: on four tasks at 4 to 32 rows a label a strength of 10 gives a micro F1 within
about a point of the best, and the highest likelihood (MiniLM, two draws); all six strengths would take twice as long.
"""
MANY_LABELS = 20
"""Labels beyond which the safe strength alone is fitted: each has fits of its own."""
FOLDS = 5
MOST_UNITS = 2000
"""Rows, choices or words that cross-validation looks at; the probe itself is fitted to all."""


@dataclass(frozen=True)
class Probe:
    """A fitted readout and the strength that cross-validation gave it."""

    readout: Readout
    strength: float


@dataclass(frozen=True)
class CrossValidated:
    """The cross-validated estimate of what a probe scores on unseen rows.

    Attributes:
        value: mean over rows: accuracy (classes, choices, words), ranking precision (several labels) or R squared
            (regression).
        error: standard error over rows; that another draw of training rows would move the value too is not in it.
        hits: of each row, mean over repeats; their mean is the value.
        likelihood: log probability of each row's label, mean over repeats; what feature variants are compared by.
        odds: the log odds of every label, mean over repeats (several labels).
    """

    value: float
    error: float
    hits: Float[Array, "B"]
    likelihood: Float[Array, "B"]
    odds: Float[Array, "B C"] | None = None


def fit_probe(
    task: Task, examples: Sequence[Example], features: Float[Tensor, "N F"], tokens: Tokens, seed: int
) -> Probe:
    """Fit the readout of a task's kind to frozen features; its strength is chosen by cross-validation.

    Args:
        features: one a row; for choices one a sequence; for tagging one a token.

    Raises:
        RunError: a kind no probe is made for (span), or no row has a label.
    """
    problem = pose(task, examples, features, tokens)
    sample = sample_rows(problem, seed)
    reduced = reduce(sample)
    strength, judged = best_strength(reduced, seed) if sample.rows > 1 else (strengths_for(sample)[1], None)
    (fit,) = solve(reduced if sample is problem else reduce(problem), [strength])
    readout = as_readout(task, problem, fit)
    return Probe(readout if judged is None else settled(readout, judged.odds, sample, task), strength)


def settled(readout: Readout, odds: Float[Array, "B C"] | None, problem: Problem, task: Task) -> Readout:
    """The readout with a threshold by log odds of rows it has not seen, for kinds that have such."""
    if odds is None:
        return readout
    return readout.settled(of_labels(torch.from_numpy(odds)), torch.from_numpy(problem.y), task)


def as_readout(task: Task, problem: Problem, fit: ProbeFit) -> Readout:
    """Turn a fit into a readout with the same scores, which can be trained on, stored and carried."""
    weight, bias = torch.from_numpy(fit.weight).float(), torch.from_numpy(fit.bias).float()
    if task.kind == "choice":
        return Choice.load({"weight": weight[0]})
    if task.kind == "regression":
        mean, sd = float(problem.y.mean()), float(problem.y.std()) if differ(problem.y) else 1.0
        moments = torch.tensor([mean, sd])
        return Regression.load({"weight": weight[0] / sd, "bias": (bias[0] - mean) / sd, "moments": moments})
    if task.kind == "multilabel":
        _, least = label_rates(task)
        odds = {"labels": encode_names(task.classes), "weight": weight, "bias": bias, "least": least}
        return Multilabel.load({**odds, "threshold": torch.tensor(0.0)})
    kind = Tagging if task.kind == "tagging" else Linear
    return kind.load({"labels": encode_names(task.classes), "weight": weight, "bias": bias})


def cross_validate(
    task: Task,
    examples: Sequence[Example],
    features: Float[Tensor, "N F"],
    tokens: Tokens,
    seed: int,
    repeats: int = 3,
) -> CrossValidated:
    """Score a probe by repeated cross-validation over labelled rows, in 5 folds balanced by class.

    The strength is picked once on the first folds, for all folds: nested picking costs ten times as much, and with
    the safe strength as the prior the gain that this could fake is small (tests hold it to noise on random labels).

    Raises:
        RunError: a kind no probe is made for, or fewer than two rows with a label.
    """
    problem = sample_rows(pose(task, examples, features, tokens), seed)
    if problem.rows < 2:
        raise RunError("a cross-validated probe needs two rows with labels", where=task.name)
    reduced = reduce(problem)
    strength, first = best_strength(reduced, seed)
    repetitions = out_of_fold(reduced, [strength], range(seed + 1, seed + repeats)) if repeats > 1 else []
    runs = [first, *(run for (run,) in repetitions)]
    hits = np.mean([run.hit for run in runs], axis=0)
    likelihood = np.mean([run.likelihood for run in runs], axis=0)
    odds = np.mean([run.odds for run in runs if run.odds is not None], axis=0) if first.odds is not None else None
    return CrossValidated(float(hits.mean()), standard_error(hits), hits, likelihood, odds)


def choose(
    task: Task,
    examples: Sequence[Example],
    options: Mapping[str, tuple[Float[Tensor, "N F"], Tokens]],
    seed: int,
) -> tuple[str, dict[str, CrossValidated]]:
    """Choose the features whose probe gives unseen rows' labels the highest likelihood; return all estimates too.

    The first option wins a tie. It is not preferred further: held on to within one standard error, `cross` costs
    4.3 points at 8 labels a class on four sets of pairs (frozen MiniLM, mrpc, rte, snli, qqp: 59.0 against 63.3,
    the best variant of each draw 64.6) and 0.6 at 32. Likelihood, since right rows are too coarse a count on 16 (60.7).
    """
    estimates = {name: cross_validate(task, examples, *option, seed) for name, option in options.items()}
    return max(estimates, key=lambda name: estimates[name].likelihood.mean()), estimates


def best_strength(reduced: Reduced, seed: int) -> tuple[float, Judged]:
    """The strength with most unseen rows right, if surely better than the safe one, and how it reads each row.

    Right rows, not their likelihood: that favours bold strengths, which read fewer rows right (32 labels a class:
    74.6 against 74.9 %).
    """
    strengths, held = strengths_for(reduced.problem)
    (runs,) = out_of_fold(reduced, strengths, [seed])
    best, safe = int(np.argmax([run.hit.mean() for run in runs])), strengths.index(held)
    chosen = best if surely_better(runs[best].hit, runs[safe].hit) else safe
    return strengths[chosen], runs[chosen]


def strengths_for(problem: Problem) -> tuple[tuple[float, ...], float]:
    """The strengths that are tried on a problem, and the safe one."""
    if problem.kind == "multilabel":
        many = problem.outputs > MANY_LABELS
        return (SAFE_LABEL_STRENGTH,) if many else LABEL_STRENGTHS, SAFE_LABEL_STRENGTH
    return STRENGTHS, SAFE_STRENGTH


def surely_better(first: Float[Array, "B"], second: Float[Array, "B"]) -> bool:
    """Whether the mean difference over rows is more than two standard errors above zero."""
    difference = first - second
    return float(difference.mean()) > 2 * standard_error(difference)


def standard_error(values: Float[Array, "B"]) -> float:
    """The standard error of the mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")


def out_of_fold(reduced: Reduced, strengths: Sequence[float], seeds: Sequence[int]) -> list[list[Judged]]:
    """Judge every row by a fit that has not seen it, for each seed of folds and each strength."""
    problem = reduced.problem
    training_rows = [
        fold != held for fold in (deal_folds(problem, seed) for seed in seeds) for held in range(fold.max() + 1)
    ]
    variance = float(problem.y.var()) if differ(problem.y) else 1.0
    judged = []
    for rows, scores in zip(training_rows, unseen_scores(reduced, np.array(training_rows), strengths), strict=True):
        part = problem.part(~rows[problem.row])
        judged.append([judge(part_scores, part, variance) for part_scores in scores])
    folds = len(training_rows) // max(1, len(seeds))
    by_seed = [judged[start : start + folds] for start in range(0, len(judged), folds)]
    return [[join(parts) for parts in zip(*runs, strict=True)] for runs in by_seed]


def join(parts: Sequence[Judged]) -> Judged:
    """Join the rows of several folds, in order of their numbers."""
    rows = np.concatenate([part.rows for part in parts])
    order = rows.argsort()
    hit, likelihood = (
        np.concatenate(side)[order] for side in zip(*((p.hit, p.likelihood) for p in parts), strict=True)
    )
    odds = [part.odds for part in parts if part.odds is not None]
    return Judged(rows[order], hit, likelihood, np.concatenate(odds)[order] if odds else None)


def deal_folds(problem: Problem, seed: int) -> Int[Array, "B"]:
    """Shuffle rows and deal them out to folds like cards: each class from the first fold on, numbers in their order.

    Classes of one row are dealt out together. Where classes are of one size every fold leaves a balanced rest; a
    rest that lacks one more row of the very class it is asked about is worse than chance (sst2, 16 rows: 44 %
    where unseen rows give 61).
    """
    shuffled = np.random.default_rng(seed).permutation(problem.rows)
    fold = np.empty(problem.rows, dtype=np.int64)
    folds = min(FOLDS, problem.rows)
    if problem.kind in ("choice", "tagging"):
        fold[shuffled] = np.arange(problem.rows) % folds
    elif problem.kind == "regression":
        fold[shuffled[problem.y[shuffled].argsort(kind="stable")]] = np.arange(problem.rows) % folds
    else:
        return deal_labels(rarest_label(problem.y) if problem.kind == "multilabel" else problem.y, seed)
    return fold


def rarest_label(y: Int[Array, "B C"]) -> Int[Array, "B"]:
    """The rarest label of each row, so that it is spread evenly over folds; C where a row has none."""
    rank = np.where(y > 0, y.sum(0) + np.arange(y.shape[1]) / (y.shape[1] + 1), np.inf)
    return np.asarray(np.where(y.any(1), rank.argmin(1), y.shape[1]))


def deal_labels(y: Int[Array, "B"], seed: int) -> Int[Array, "B"]:
    """Deal rows out to folds class by class; classes of one row are dealt out together."""
    shuffled = np.random.default_rng(seed).permutation(len(y))
    fold = np.empty(len(y), dtype=np.int64)
    counts = np.bincount(y)
    group = np.where(counts == 1, -1, np.arange(len(counts)))[y]
    for label in np.unique(group):
        members = shuffled[group[shuffled] == label]
        fold[members] = np.arange(len(members)) % min(FOLDS, len(y))
    return fold


def sample_rows(problem: Problem, seed: int) -> Problem:
    """Draw rows by seed, as many as hold 2,000 units."""
    if len(problem.x) <= MOST_UNITS:
        return problem
    order = np.random.default_rng(seed).permutation(problem.rows)
    units = np.bincount(problem.row, minlength=problem.rows)
    chosen = np.zeros(problem.rows, dtype=bool)
    chosen[order[np.cumsum(units[order]) <= MOST_UNITS]] = True
    part = problem.part(chosen[problem.row])
    return Problem(part.kind, part.x, part.y, (np.cumsum(chosen) - 1)[part.row], part.outputs)
