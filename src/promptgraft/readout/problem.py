"""A probe is a small convex problem: this module poses it from features and labels, and judges fits.

Every kind becomes units with features: a row, a word of a row, or a choice of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.choice import right_choice
from promptgraft.readout.regression import number
from promptgraft.readout.tagging import word_features, word_tag, words_of_rows
from promptgraft.task.draws import Array
from promptgraft.task.figures import ranking_precision
from promptgraft.task.task import Example, Kind, Task

Values = Float[Array, "U"] | Int[Array, "U"] | Int[Array, "U C"]


@dataclass(frozen=True)
class Problem:
    """The units that a probe is fitted to, with their labels.

    Attributes:
        y: class of each unit; the number (regression); 1 at the right choice, else 0; of several labels 1 at each that
            the row has, else 0.
        row: of each unit, counted from 0 over the rows that have a label, and a word where words are tagged.
        outputs: C; 1 for regression and choice.
    """

    kind: Kind
    x: Float[Array, "U F"]
    y: Values
    row: Int[Array, "U"]
    outputs: int

    @property
    def rows(self) -> int:
        """The number of rows with a label."""
        return int(self.row[-1]) + 1 if len(self.row) else 0

    def part(self, units: Bool[Array, "U"]) -> Problem:
        """The problem with only those units; rows keep their numbers."""
        return Problem(self.kind, self.x[units], self.y[units], self.row[units], self.outputs)


def pose(task: Task, examples: Sequence[Example], features: Float[Tensor, "N F"], tokens: Tokens) -> Problem:
    """Pose the problem of reading a task's labels from frozen features.

    Args:
        features: one a row; for choices one a sequence; for tagging one a token.

    Raises:
        RunError: a kind no probe is made for, or no row has a label.
        TaskError: a label the task does not have.
    """
    if not task.facts.probe:
        raise RunError(f"no probe reads a {task.kind} task", where=task.name, do="use method 'prompt-tuning'")
    if task.facts.scored == "word":
        features, row = word_features(features, tokens), np.repeat(np.arange(tokens.count), tokens.row_words.diff())
    elif task.facts.scored == "option":
        row = np.repeat(np.arange(tokens.count), tokens.rows.diff())
    else:
        row = np.arange(tokens.count)
    labelled = np.array([example.label is not None for example in examples], dtype=bool)
    keep = labelled[row]
    if not keep.any():
        raise RunError("a probe needs rows with labels, and there are none", where=task.name)
    x = features.detach().cpu().double().numpy()[keep]
    _, counted = np.unique(row[keep], return_inverse=True)
    outputs = len(task.classes) if task.facts.named_labels else 1
    return Problem(task.kind, x, labels_of_units(task, examples, tokens)[keep], counted, outputs)


def labels_of_units(task: Task, examples: Sequence[Example], tokens: Tokens) -> Values:
    """The values `Problem.y` of all units; those of units without a label mean nothing."""
    if task.kind == "multilabel":
        return classes.indicators([example.label for example in examples], task)
    if task.kind == "regression":
        return np.array([0.0 if example.label is None else number(example.label, task) for example in examples])
    if task.kind == "choice":
        places = [right_choice(example, task) for example in examples]
        lengths = tokens.rows.diff().tolist()
        return np.concatenate([np.arange(length) == place for place, length in zip(places, lengths, strict=True)]) * 1
    if task.kind == "tagging":
        rows = zip(examples, words_of_rows(tokens), strict=True)
        tags = [
            None if example.label is None else word_tag(example, word, task)
            for example, words in rows
            for word in words
        ]
        return np.array(classes.class_indices(tags, task))
    return np.array(classes.class_indices((example.label for example in examples), task))


@dataclass(frozen=True)
class Judged:
    """How well a fit reads each row of a part.

    Attributes:
        hit: right or wrong (classes, choices), the precision of the labels' ranking (several labels), the share of
            words that are right (tagging), or 1 - squared error over the labels' variance (regression; its mean is R
            squared).
        likelihood: log probability of the gold label (several labels: sum over all; tagging: mean over words;
            regression: minus squared error over the labels' variance): finer than hits, so it picks between strengths.
        odds: the log odds of every label (several labels).
    """

    rows: Int[Array, "N"]
    hit: Float[Array, "N"]
    likelihood: Float[Array, "N"]
    odds: Float[Array, "N C"] | None = None


def judge(scores: Float[Array, "U C"], part: Problem, variance: float) -> Judged:
    """Judge rows by their scores: hits and likelihoods.

    Args:
        variance: of all labels, 1 where they are the same (regression).
    """
    rows, place = np.unique(part.row, return_inverse=True)
    if part.kind == "regression":
        error = (scores[:, 0] - part.y) ** 2 / variance
        return Judged(rows, 1 - error, -error)
    if part.kind == "multilabel":
        odds = np.where(part.y > 0, scores, -scores)
        return Judged(rows, ranking_precision(scores, part.y), -np.logaddexp(0, -odds).sum(1), scores)
    if part.kind == "choice":
        return judge_choices(scores[:, 0], part.y, rows, place)
    log = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    units = np.bincount(place)
    hit = np.bincount(place, scores.argmax(1) == part.y) / units
    return Judged(rows, hit, np.bincount(place, log[np.arange(len(log)), part.y]) / units)


def judge_choices(
    scores: Float[Array, "U"], y: Int[Array, "U"], rows: Int[Array, "N"], place: Int[Array, "U"]
) -> Judged:
    """Judge rows of choices: whether the right one scores highest, and its log probability."""
    best_wrong, total = np.full(len(rows), -np.inf), np.full(len(rows), -np.inf)
    np.maximum.at(best_wrong, place[y == 0], scores[y == 0])
    np.logaddexp.at(total, place, scores)
    right = np.empty(len(rows))
    right[place[y == 1]] = scores[y == 1]
    return Judged(rows, (right > best_wrong) * 1.0, right - total)
