"""Recognises and reads several labels a row: lists, joined names such as `a|b`, and columns of 0 and 1."""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from promptgraft.errors import TaskError, listed_quoted
from promptgraft.task.names import IDS, LABELS, pick
from promptgraft.task.table import Columns, Table, TableRow
from promptgraft.task.task import Example, Kind, Task
from promptgraft.untrusted import read_json

SEPARATORS = ("|", ";", ",", "#")
"""What joins labels where a file does not say it; others are tried where the kind is given."""
JOINTS = (*SEPARATORS, "+", "/", "&")
FLAGS = {"0", "1", "0.0", "1.0", "True", "False", "true", "false"}
SET = {"1", "1.0", "True", "true"}
ASK = "--kind multilabel reads them as several"
FROM_FLAGS = "labels"
"""The column that columns of 0 and 1 become."""


def multilabel_notes(
    kind: Kind, columns: Columns, train: Table, labels: Collection[str], splits: Mapping[str, Sequence[Example]]
) -> list[str]:
    """Notes on signs of several labels in a task of one label a row, and on rows without a label in one of several."""
    if kind == "multilabel":
        counts = {split: sum(example.label == () for example in examples) for split, examples in splits.items()}
        return [
            f"{split}: {count} of {len(splits[split])} rows {'has' if count == 1 else 'have'} no label"
            for split, count in counts.items()
            if count
        ]
    if kind not in ("classification", "pair"):
        return []
    joined = [label for label in labels if is_joined(label, labels)]
    notes = []
    if joined:
        notes.append(f"labels that join others are classes of their own: {listed_quoted(joined)}; {ASK}")
    flags = many_hot(train.rows, taken=(columns.text, columns.pair))
    if columns.label in flags and len(flags) > 1:
        others = listed_quoted([name for name in flags if name != columns.label])
        notes.append(f"further columns of 0 and 1 are not used: {others}; {ASK}")
    return notes


def is_joined(label: str, labels: Collection[str]) -> bool:
    """Whether a label joins two or more others: `a|b` where a or b is a label as well."""
    return any(
        len(parts) > 1 and any(part in labels for part in parts) for parts in (parts_of(label, j) for j in JOINTS)
    )


def parts_of(label: str, joint: str) -> list[str]:
    """The names that a joint separates; the label alone where a name between two joints is empty."""
    parts = [part.strip() for part in label.split(joint)]
    return parts if all(parts) else [label]


def inferred_separator(labels: Collection[str]) -> str | None:
    """The separator of labels that show by themselves that they join names; None where they do not.

    At least half of the names that are joined stand in another label too: `a|b` beside `a|c` and `b`, but not
    `business, finance` beside `sports`. Numbers between commas must be three or more once, or are decimal commas.
    """
    for separator in SEPARATORS:
        groups = [parts_of(label, separator) for label in set(labels)]
        joined = [parts for parts in groups if len(parts) > 1]
        if not joined:
            continue
        counts = Counter(name for parts in groups for name in set(parts))
        names = {name for parts in joined for name in parts}
        decimal = separator == "," and all(name.isdecimal() for name in names) and max(map(len, joined)) < 3
        if not decimal and 2 * sum(counts[name] > 1 for name in names) >= len(names):
            return separator
    return None


def chosen_separator(labels: Collection[str], declared: Collection[str]) -> str | None:
    """The separator of labels that are known to be several a row: under which all names are declared, else the first.

    Args:
        declared: in task.toml.
    """
    candidates = [joint for joint in JOINTS if any(len(parts_of(label, joint)) > 1 for label in labels)]
    if declared:
        unknown = {
            joint: sum(name not in declared for label in labels for name in parts_of(label, joint))
            for joint in candidates
        }
        undivided = sum(label not in declared for label in labels)
        candidates = [joint for joint in sorted(candidates, key=unknown.__getitem__) if unknown[joint] < undivided]
        return next(iter(candidates), None)
    return inferred_separator(labels) or next(iter(candidates), None)


def as_list(value: Any) -> list[Any] | None:
    """A list, or the list that a text writes as JSON or as Python does; None for anything else."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str) or value.strip()[:1] != "[" or value.strip()[-1:] != "]":
        return None
    try:
        parsed = read_json(value, None, TaskError)
    except TaskError:
        try:
            with warnings.catch_warnings(action="ignore"):  # of what Python's parser thinks of its escapes
                parsed = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return parsed if isinstance(parsed, list) else None


def several(values: Sequence[Any]) -> str:
    """Why values of a label column are several labels a row; empty where they are not."""
    lists = [as_list(value) for value in values]
    if lists and all(part is not None for part in lists):
        most = max(len(part or ()) for part in lists)
        return "" if all(len(part or ()) == 1 for part in lists) else f"lists of up to {most} labels"
    texts = {value.strip() for value in values if isinstance(value, str)}
    separator = inferred_separator(texts)
    if separator is None:
        return ""
    return f"up to {max(len(parts_of(text, separator)) for text in texts)} labels a row, joined by {separator!r}"


def separator_of(task: Task) -> str:
    """What joins the labels of a row in csv and tsv: as in the task's own file, else what no label holds."""
    free = (joint for joint in JOINTS if not any(joint in name for name in task.labels))
    return task.separator or next(free, SEPARATORS[0])


def list_labels(
    tables: Mapping[str, Table], column: str, declared: Collection[str]
) -> tuple[dict[str, Table], str | None]:
    """Tables whose label column holds a list in every row with a label, and what had joined the labels in texts."""
    texts = {
        value.strip()
        for table in tables.values()
        for row, _ in table.rows
        if isinstance(value := row.get(column), str) and as_list(value) is None and value.strip()
    }
    separator = chosen_separator(texts, declared)
    return {
        split: replace(table, rows=[(row | {column: listed(row[column], separator)}, line) for row, line in table.rows])
        for split, table in tables.items()
        if all(column in row for row, _ in table.rows)
    }, separator


def listed(value: Any, separator: str | None) -> Any:
    """The labels of one cell as a list; what is missing stays so."""
    if (labels := as_list(value)) is not None:
        return labels
    if isinstance(value, str):
        text = value.strip()
        return [] if not text else [text] if separator is None else parts_of(text, separator)
    return value if value is None or value != value or isinstance(value, dict) else [value]


def gather_flags(
    tables: Mapping[str, Table], given: Columns, kind: Kind | None
) -> tuple[dict[str, Table], list[str], list[str]]:
    """Tables in which columns of 0 and 1 are one column of lists, their names, and a note; as they are where none are.

    Two or more such columns are labels where no column has the usual name of a label, or where that one is one of them
    and the kind is given. A row of another split where one is neither 0 nor 1 has no label.
    """
    train = tables["train"]
    label = given.label or train.columns.label
    if kind not in (None, "multilabel") or label is not None:
        return dict(tables), [], []
    flags = many_hot(train.rows, (given.text, given.pair))
    usual = pick(LABELS, train.rows[0][0])
    if len(flags) < 2 or (usual is not None and not (kind == "multilabel" and usual in flags)):
        return dict(tables), [], []
    name = FROM_FLAGS if FROM_FLAGS not in train.rows[0][0] or FROM_FLAGS in flags else f"{FROM_FLAGS} of the columns"
    gathered = {}
    for split, table in tables.items():
        rows = [(gathered_row(row, flags, name), line) for row, line in table.rows]
        gathered[split] = replace(table, rows=rows, columns=replace(table.columns, label=name), unlabelled=True)
    note = f"{len(flags)} columns of 0 and 1 are the labels: {listed_quoted(flags)}"
    return gathered, flags, [f"{note} (one of them alone: --label-column)"]


def gathered_row(row: Mapping[str, Any], flags: Sequence[str], name: str) -> dict[str, Any]:
    """The row with the names of the columns that are 1 in place of these columns; None where one is neither 0 nor 1."""
    values = {flag: str(row.get(flag)).strip() for flag in flags}
    known = all(value in FLAGS for value in values.values())
    labels = [flag for flag, value in values.items() if value in SET] if known else None
    return {column: value for column, value in row.items() if column not in values} | {name: labels}


def many_hot(rows: Sequence[TableRow], taken: Collection[str | None]) -> list[str]:
    """The columns that hold nothing but 0 and 1 (or true and false)."""
    names = [name for name in rows[0][0] if name not in taken and name.strip().lower() not in IDS]
    return [name for name in names if all(str(row.get(name)).strip() in FLAGS for row, _ in rows)]
