"""Notes on signs that rows have several labels, which no kind of task supports yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from promptgraft.errors import listed_quoted
from promptgraft.task.names import IDS
from promptgraft.task.table import Columns, Table, TableRow
from promptgraft.task.task import Kind

JOINTS = ("|", ";", ",", "#", "+", "/", "&")
FLAGS = {"0", "1", "0.0", "1.0", "True", "False", "true", "false"}
NO_KIND = "several labels a row are no kind of task yet"


def multilabel_notes(kind: Kind, columns: Columns, train: Table, labels: Collection[str]) -> list[str]:
    """A note for labels such as `a|b`, and one for further columns of 0 and 1 beside a label that is one of them."""
    if kind not in ("classification", "pair"):
        return []
    joined = [label for label in labels if is_joined(label, labels)]
    notes = []
    if joined:
        names = listed_quoted(joined)
        notes.append(f"labels that join others are classes of their own: {names}; {NO_KIND}")
    flags = many_hot(train.rows, taken=(columns.text, columns.pair))
    if columns.label in flags and len(flags) > 1:
        others = listed_quoted([name for name in flags if name != columns.label])
        notes.append(f"further columns of 0 and 1 are not used: {others}; {NO_KIND}")
    return notes


def is_joined(label: str, labels: Collection[str]) -> bool:
    """Whether a label joins two or more others: `a|b` where a or b is a label as well."""
    for joint in JOINTS:
        parts = [part.strip() for part in label.split(joint)]
        if len(parts) > 1 and all(parts) and any(part in labels for part in parts):
            return True
    return False


def many_hot(rows: Sequence[TableRow], taken: Collection[str | None]) -> list[str]:
    """The columns that hold nothing but 0 and 1 (or true and false)."""
    names = [name for name in rows[0][0] if name not in taken and name.strip().lower() not in IDS]
    return [name for name in names if all(str(row.get(name)).strip() in FLAGS for row, _ in rows)]
