"""Several labels a row as estimators are given them: sets of labels, or a matrix of 0 and 1 with a column a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from promptgraft.task.draws import Array


@dataclass(frozen=True)
class LabelSets:
    """The labels of every row.

    Attributes:
        classes: sorted; of a matrix its columns, by name where it has names.
        table: 1 where a row has a label.
        is_matrix: whether they were given as a matrix, as scikit-learn does.
    """

    classes: Array
    table: Int[Array, "B C"]
    is_matrix: bool

    @property
    def names(self) -> list[str]:
        """The classes as names of a task."""
        return [str(label) for label in self.classes.tolist()]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The names of each row's labels, sorted as a task has them."""
        names = self.names
        return [tuple(sorted(names[place] for place in np.flatnonzero(row))) for row in self.table]


def label_sets(y: Any) -> LabelSets | None:
    """The labels of every row; None where rows have one label each.

    Raises:
        ValueError: a matrix that holds anything but 0 and 1, rows that are no sets of labels, labels that do not sort.
    """
    names = [str(name) for name in y.columns] if hasattr(y, "columns") else None
    matrix = np.asarray(y.toarray() if hasattr(y, "toarray") else y) if _is_matrix(y) else None
    if matrix is not None:
        if not np.isin(matrix, (0, 1)).all():
            raise ValueError("y with several columns must hold 0 and 1: 1 where a row has the column's label")
        classes = np.arange(matrix.shape[1]) if names is None else np.array(names)
        return LabelSets(classes, matrix.astype(np.int64), True)
    if getattr(y, "ndim", 1) > 1 or not (isinstance(y, Sequence | np.ndarray) or hasattr(y, "to_numpy")):
        return None
    rows = [row if isinstance(row, str) or not hasattr(row, "__len__") else listed(row) for row in y]
    if not rows or not any(isinstance(row, list | tuple | set | frozenset) for row in rows):
        return None
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple | set | frozenset):
            raise ValueError(f"y[{number}] is {row!r}, and other rows are lists of labels: make it a list too")
    return _of_sets(rows)


def listed(row: Any) -> Any:
    """A row's labels as a list, whatever array or series holds them; a set stays one."""
    for convert in ("tolist", "to_list"):
        if hasattr(row, convert):
            return getattr(row, convert)()
    return row


def _of_sets(rows: Sequence[Any]) -> LabelSets:
    try:
        classes = np.array(sorted({label for row in rows for label in row}))
    except TypeError as error:
        raise ValueError(f"the labels in y do not sort ({error})") from None
    place = {label: number for number, label in enumerate(classes.tolist())}
    table = np.zeros((len(rows), len(classes)), dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, [place[label] for label in row]] = 1
    return LabelSets(classes, table, False)


def _is_matrix(y: Any) -> bool:
    """Whether y is rows and several columns of numbers, in scikit-learn's convention a column a label."""
    if hasattr(y, "toarray"):
        return True
    if isinstance(y, list | tuple):
        rows = [row for row in y if isinstance(row, list | tuple | np.ndarray)]
        numbers = all(not isinstance(value, str) and value in (0, 1) for row in rows for value in row)
        return bool(rows) and len(rows) == len(y) and numbers and {len(row) for row in rows} == {max(2, len(rows[0]))}
    shape: tuple[int, ...] = tuple(getattr(y, "shape", ()))
    return len(shape) == 2 and shape[-1] > 1
