"""Reads tables that are in memory: pandas, polars and pyarrow frames, rows of `datasets`, lists of dictionaries.

None of these libraries is imported: a table is known by what it can do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from promptgraft.errors import TaskError, listed_quoted, quoted
from promptgraft.task.classnames import name_classes
from promptgraft.task.formats.contract import Content
from promptgraft.task.readers import as_format
from promptgraft.task.splits import SPLIT_NAMES, by_column, with_train
from promptgraft.task.table import Table
from promptgraft.task.task import Kind

TaskData = Any
"""What a task is loaded from: a path, or a table in memory (`frames.is_table`)."""
NAME = "data"
"""What a task from a table is called unless it is named."""
WANTED = "give a file, a table (pandas, polars, pyarrow, datasets) or a list of dictionaries"
MISSING = ("NAType", "NaTType")
"""The types of pandas' missing values, which no comparison finds."""


def is_table(data: object) -> bool:
    """Whether something is rows with named columns, or splits of such, and no path."""
    return not isinstance(data, str | Path)


def is_frame(data: object) -> bool:
    """Whether something is rows with named columns: a frame, or a list of dictionaries."""
    named = any(hasattr(data, name) for name in ("columns", "column_names"))
    listed = isinstance(data, list | tuple) and bool(data) and isinstance(data[0], Mapping)
    return (named and hasattr(data, "__len__")) or listed


def read_frames(
    data: Any, where: str, *, kind: Kind | None, named: Collection[str]
) -> tuple[dict[str, Table], list[str]]:
    """The tables of a frame by split, train always among them, and notes.

    Rows count from 0 in errors. A row whose label is missing is left out of training.

    Args:
        data: a frame, a list of dictionaries, or a mapping of splits to these (a DatasetDict).
        where: what errors call it.
        kind, named: as of `readers.read_table`.
    Raises: TaskError where it is no table, has no rows or no train split.
    """
    if not isinstance(data, Mapping):
        table = as_table(rows_of(data, where), features_of(data), where, kind, named)
        tables, notes = by_column(table, named)
        return tables, [*table.notes, *notes]
    parts = {split: next((n for n in usual if n in data), None) for split, usual in SPLIT_NAMES.items()}
    rows = {split: (name, rows_of(data[name], f"{where}[{name}]")) for split, name in parts.items() if name is not None}
    tables = {
        split: as_table(part, features_of(data[name]), f"{where}[{name}]", kind, named)
        for split, (name, part) in rows.items()
        if part
    }
    unused = [str(name) for name in data if name not in parts.values()]
    notes = [note for table in tables.values() for note in table.notes]
    if unused:
        notes.append(f"splits that are not used: {listed_quoted(unused)}")
    return with_train(tables, where, f"its splits: {listed_quoted(list(map(str, data))) or 'none'}"), notes


def as_table(
    rows: Sequence[Mapping[str, Any]],
    features: Mapping[str, Any],
    where: str,
    kind: Kind | None,
    named: Collection[str],
) -> Table:
    """Rows as a table, which may be in the format of a labelling tool; what only some rows have is None in others."""
    if not rows:
        raise TaskError("the table has no rows", where=where, do="give one with at least one row")
    names: dict[str, Any] = dict.fromkeys(name for row in rows for name in row)
    numbered = [({**names, **row}, number) for number, row in enumerate(rows)]
    table_rows, notes, _ = name_classes(numbered, features, Path(where), "its features")
    table = as_format(Content(Path(where), rows=table_rows), notes, kind, named)
    return table or Table(where, table_rows, tuple(notes), unlabelled=True)


def rows_of(data: Any, where: str) -> list[dict[str, Any]]:
    """The rows of a frame as dictionaries of plain values.

    Raises: TaskError for anything that is no table, or has a column twice.
    """
    if hasattr(data, "to_pylist"):  # pyarrow
        refuse_twice(data.column_names, where)
        records = data.to_pylist()
    elif hasattr(data, "column_names") and hasattr(data, "to_list"):  # datasets
        records = data.to_list()
    elif hasattr(data, "columns") and hasattr(data, "to_dicts"):  # polars
        records = data.to_dicts()
    elif hasattr(data, "columns") and hasattr(data, "to_dict"):  # pandas
        refuse_twice(data.columns, where)
        records = data.to_dict("records")
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
        records = list(data)
    else:
        raise TaskError(f"a {type(data).__name__} is no table", where=where, do=WANTED)
    for number, row in enumerate(records):
        if not isinstance(row, Mapping):
            raise TaskError(f"a row is a {type(row).__name__}, not a dictionary", where=f"{where}:{number}", do=WANTED)
    return [{str(name): plain(value) for name, value in row.items()} for row in records]


def refuse_twice(columns: Iterable[object], where: str) -> None:
    """Raises an error where two columns have the same name."""
    name, count = Counter(map(str, columns)).most_common(1)[0] if len(list(columns)) else ("", 0)
    if count > 1:
        raise TaskError(f"column {quoted(name)} stands twice", where=where, do="rename one of them")


def plain(value: Any) -> Any:
    """A cell's value without the types of the library: arrays are lists, numpy's scalars Python's, missing is None."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    if type(value).__name__ in MISSING or (isinstance(value, float) and value != value):
        return None
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return {str(name): plain(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def features_of(data: Any) -> dict[str, Any]:
    """The features of a data set of `datasets`, as it writes them; empty for any other table."""
    features: Any = getattr(data, "features", None)
    return dict(features.to_dict()) if hasattr(features, "to_dict") else {}
