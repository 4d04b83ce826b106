"""The names of splits, and tables that are split by a column."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from promptgraft.errors import TaskError, quoted
from promptgraft.task.names import pick
from promptgraft.task.table import Table, TableRow
from promptgraft.task.task import SPLITS

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched"),
    "test": ("test", "test_matched"),
}
"""What files, parts of a data set and values of a column are called that hold a split, the usual name first."""


def split_named(name: object) -> str | None:
    """The split that a name stands for; None where it is none's."""
    text = str(name).strip().lower()
    return next((split for split, names in SPLIT_NAMES.items() if text in names), None)


def by_column(table: Table, named: Collection[str] = ()) -> tuple[dict[str, Table], list[str]]:
    """The table by the splits that its column `split` says, with a note; as train alone where it has no such column.

    Every value must be a split's name, train's among them.

    Args:
        named: columns that have another role.
    """
    column = pick(("split",), table.rows[0][0])
    if column is None or column in named:
        return {"train": table}, []
    splits = [split_named(row.get(column)) for row, _ in table.rows]
    if None in splits or "train" not in splits:
        return {"train": table}, []
    rows: dict[str, list[TableRow]] = {split: [] for split in SPLITS if split in splits}
    for split, (row, line) in zip(splits, table.rows, strict=True):
        rows[split or ""].append(({name: value for name, value in row.items() if name != column}, line))
    counts = ", ".join(f"{len(part)} {split}" for split, part in rows.items())
    note = f"split by the column {quoted(column)}: {counts} rows"
    return {split: replace(table, rows=part, notes=()) for split, part in rows.items()}, [note]


def with_train(tables: dict[str, Table], address: str, do: str) -> dict[str, Table]:
    """The tables. Raises: TaskError where train is not among them."""
    if "train" not in tables:
        raise TaskError("no train split", where=address, do=do)
    return tables
