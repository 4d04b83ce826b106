"""Counts that metrics are computed from, for all rows or for many bootstrap draws of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Pairs:
    """The label and the prediction of every row, as class numbers.

    Attributes:
        names: of the K classes that occur on either side, sorted.
        code: K times the label's number, plus the prediction's.
    """

    names: tuple[str, ...]
    code: Int[Array, "B"]

    @classmethod
    def of(cls, labels: Sequence[str], predictions: Sequence[str]) -> Pairs:
        """Pairs from the names of labels and predictions."""
        names = tuple(sorted({*labels, *predictions}))
        number = {name: n for n, name in enumerate(names)}
        pairs = zip(labels, predictions, strict=True)
        return cls(names, np.array([number[label] * len(names) + number[guess] for label, guess in pairs]))

    def confusion(self, draws: Int[Array, "D N"] | None = None) -> Int[Array, "D K K"]:
        """The confusion matrix of every draw: labels down, predictions across; without draws, of all rows once."""
        drawn = self.code[None] if draws is None else self.code[draws]
        classes = len(self.names)
        cells = drawn + classes**2 * np.arange(len(drawn))[:, None]
        counted = np.bincount(cells.ravel(), minlength=len(drawn) * classes**2)
        return counted.reshape(len(drawn), classes, classes)


def f1_of_classes(confusion: Int[Array, "D K K"]) -> Float[Array, "D K"]:
    """F1 of every class; 0 for a class that does not occur."""
    right, both = right_of_classes(confusion), confusion.sum(1) + confusion.sum(2)
    return np.asarray(2 * right / np.maximum(both, 1))


def macro_f1_of(confusion: Int[Array, "D K K"]) -> Float[Array, "D"]:
    """Mean F1 of the classes that occur among labels or predictions."""
    occurs = confusion.sum(1) + confusion.sum(2) > 0
    return np.asarray(f1_of_classes(confusion).sum(1) / occurs.sum(1))


def macro_recall_of(confusion: Int[Array, "D K K"]) -> Float[Array, "D"]:
    """Mean share of right rows of the classes that occur among the labels."""
    true = confusion.sum(2)
    return np.asarray((right_of_classes(confusion) / np.maximum(true, 1)).sum(1) / (true > 0).sum(1))


def matthews_of(confusion: Int[Array, "D K K"]) -> Float[Array, "D"]:
    """Matthews correlation of K classes (Gorodkin 2004); 0 where either side is constant."""
    counts = confusion.astype(float)  # fourth powers of the number of rows leave 64-bit integers soon
    labels, predictions, rows = counts.sum(2), counts.sum(1), counts.sum((1, 2))
    both = right_of_classes(counts).sum(1) * rows - (labels * predictions).sum(1)
    spread = (rows**2 - (labels**2).sum(1)) * (rows**2 - (predictions**2).sum(1))
    return np.where(spread > 0, both / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


def right_of_classes(confusion: Shaped[Array, "D K K"]) -> Shaped[Array, "D K"]:
    """How many rows of each class are predicted correctly."""
    return np.diagonal(confusion, axis1=1, axis2=2)


def correlation(left: Float[Array, "D N"], right: Float[Array, "D N"]) -> Float[Array, "D"]:
    """Pearson's correlation of every draw; 0 where either side is constant."""
    constant = (left == left[:, :1]).all(1) | (right == right[:, :1]).all(1)
    left, right = (side - side.mean(1, keepdims=True) for side in (left, right))
    length = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    correlations = (left * right).sum(1) / np.where(constant | (length == 0), 1, length)
    return np.where(constant, 0.0, correlations.clip(-1, 1))
