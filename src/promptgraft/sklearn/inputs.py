"""What scikit-learn hands over is checked and made rows of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d

from promptgraft.task.task import Example, Label

Texts = tuple[tuple[str, ...], ...]
"""Rows of one or two texts."""


def texts(X: object) -> Texts:
    """X as rows of one or two texts.

    Raises:
        ValueError: no rows, or rows that are not one or two texts.
    """
    if isinstance(X, str) or not hasattr(X, "__len__") or not hasattr(X, "__getitem__"):
        raise ValueError(f"X must be a sequence of texts, not {type(X).__name__}")
    table: Any = X.to_numpy() if hasattr(X, "to_numpy") else X
    rows = tuple((row,) if isinstance(row, str) else _cells(row) for row in table)
    if not rows:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    widths = {len(row) for row in rows}
    if len(widths) > 1 or not widths <= {1, 2}:
        raise ValueError(f"X must have one text or two a row, not {sorted(widths)} columns")
    return rows


def _cells(row: object) -> tuple[str, ...]:
    """The texts of a row that is not a single text."""
    cells = tuple(row) if isinstance(row, Sequence | np.ndarray) else (row,)
    for cell in cells:
        if not isinstance(cell, str):
            raise ValueError(f"X must hold texts, not {type(cell).__name__} ({cell!r})")
    return tuple(str(cell) for cell in cells)


def targets(estimator: BaseEstimator, X: object, y: object) -> npt.NDArray[Any]:
    """y as one column, checked to be as long as X and without gaps."""
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
    column = column_or_1d(y, warn=True)
    if gaps := [number for number, value in enumerate(column.tolist()) if value is None]:
        raise ValueError(f"y has no label in row {gaps[0]} (None): label the row or take it out")
    assert_all_finite(column, input_name="y")
    check_consistent_length(X, column)
    return np.asarray(column)


def sorted_classes(y: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The classes in y, sorted, and the number of each row's.

    Raises:
        ValueError: they are of types that do not sort.
    """
    try:
        return np.unique(y, return_inverse=True)
    except TypeError as error:
        names = ", ".join(sorted({type(value).__name__ for value in y.tolist()}))
        raise ValueError(f"y mixes classes of types that do not sort ({names}): make all of them texts") from error


def example_of(row: tuple[str, ...], label: Label | None) -> Example:
    """A row as an example of a task."""
    return Example(text=row[0], pair=row[1] if len(row) == 2 else None, label=label)
