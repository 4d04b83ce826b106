"""Reads rows that are added to a task which was loaded before: labelled ones, and ones that may get a label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from promptgraft.errors import TaskError, either, quoted, unknown
from promptgraft.task.compare import count_rows
from promptgraft.task.examples import make_examples
from promptgraft.task.infer import infer_columns
from promptgraft.task.kinds import KINDS
from promptgraft.task.labels import in_classes
from promptgraft.task.load import TaskLike, columns_of, read_inputs
from promptgraft.task.multilabel import as_list, chosen_separator, gathered_row
from promptgraft.task.multilabel import listed as labels_listed
from promptgraft.task.names import LABELS
from promptgraft.task.table import Columns, TableRow
from promptgraft.task.task import Example
from promptgraft.task.values import label_name, missing


def read_labelled(
    path: str | Path, task: TaskLike, classes: Collection[str], named: Collection[str] = ()
) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The labelled rows of a file, read by the task's columns, and notes; rows without a label are left out.

    Args:
        named: the roles whose columns were named for this file.
    Raises:
        TaskError: a column is not there, no row has a label, or one is none of the classes; with file:line.
    """
    table = read_inputs(path, task)
    columns = columns_of(task, table, named)
    label = columns.get("label") or table.columns.label
    if KINDS[task.kind].several:
        label = label or LABELS[0]
        table = replace(table, rows=with_lists(table.rows, label, classes))
    if label not in table.rows[0][0]:
        known = {role: name for role, name in columns.items() if role != "label"}
        found, notes = infer_columns(Columns(**known), task.kind, table.rows, table.where)
        columns, label = found.named(), found.label
    else:
        columns, notes = columns | {"label": label}, []
    kept = [(row, line) for row, line in table.rows if not missing(row.get(str(label)))]
    if not kept:
        raise TaskError(f"no row has a label (column {quoted(label)})", where=table.where, do="label some rows")
    examples = make_examples(task.kind, columns, kept, table.where, labelled=True)
    examples = in_classes(task.kind, examples, classes)
    for example, (_, line) in zip(examples, kept, strict=True):
        for name in example.label if isinstance(example.label, tuple) else (str(example.label),):
            check_class(name, classes, f"{table.where}:{line}")
    if len(kept) < len(table.rows):
        notes = [*notes, f"{table.where}: {count_rows(len(table.rows) - len(kept))} without a label, left out"]
    return examples, (*table.notes, *notes)


def with_lists(rows: Sequence[TableRow], label: str, classes: Collection[str]) -> list[TableRow]:
    """Rows whose labels are lists: those of columns of 0 and 1 that have the classes' names, or of joined names."""
    names = rows[0][0]
    if label not in names and all(name in names for name in classes):
        return [(gathered_row(row, list(classes), label), line) for row, line in rows]
    texts = {value.strip() for row, _ in rows if isinstance(value := row.get(label), str) and as_list(value) is None}
    joint = chosen_separator(texts - {""}, classes)
    return [
        (row | {label: labels_listed(row[label], joint)}, line) if label in row else (row, line) for row, line in rows
    ]


def read_rows(
    path: str | Path, task: TaskLike, classes: Collection[str], named: Collection[str] = ()
) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The rows of a file of a task's kind, with a label where they have one, and notes.

    Args:
        classes: that a row's one class may be.
        named: the roles whose columns were named for this file.
    Raises:
        TaskError: the file or a column cannot be read, or a label is none of the classes; with file:line.
    """
    table = read_inputs(path, task)
    names, columns = table.rows[0][0], columns_of(task, table, named)
    known = columns.get("label") or table.columns.label
    label = next((name for name in (known, *LABELS) if name in names), None)
    columns = {role: name for role, name in columns.items() if role != "label"}
    if label is not None and label not in columns.values():
        columns["label"] = str(label)
    examples = make_examples(task.kind, columns, table.rows, table.where, labelled=False)
    examples = in_classes(task.kind, examples, classes)
    for example, (_, line) in zip(examples, table.rows, strict=True):
        if KINDS[task.kind].one_class and example.label is not None and example.label not in classes:
            error = unknown("class", str(example.label), classes, TaskError)
            do = either(str(error.do), "name another --label-column")
            raise TaskError(error.what, where=f"{table.where}:{line}", do=do)
    return examples, tuple(table.notes)


def read_unlabelled(
    path: str | Path, task: TaskLike, named: Collection[str] = ()
) -> tuple[tuple[dict[str, Any], ...], tuple[Example, ...], tuple[str, ...]]:
    """The rows of a file with all their columns, the same as examples, and notes.

    An example has a label where its row has anything in the label's column.

    Args:
        named: the roles whose columns were named for this file.
    Raises:
        TaskError: the file, or a column of the task, cannot be read.
    """
    table = read_inputs(path, task)
    columns = columns_of(task, table, named)
    label = columns.pop("label", None) or table.columns.label
    notes = list(table.notes)
    if table.columns.text is None and columns.keys() - task.columns.keys():
        notes.append(f"columns inferred: {', '.join(f'{role} = {quoted(name)}' for role, name in columns.items())}")
    examples = make_examples(task.kind, columns, table.rows, table.where, labelled=False)
    rows = tuple(row for row, _ in table.rows)
    return rows, tuple(marked(example, row, label) for example, row in zip(examples, rows, strict=True)), tuple(notes)


def marked(example: Example, row: Mapping[str, Any], label: str | None) -> Example:
    """The example with what stands in its row's column of labels, if anything does."""
    value = None if label is None else row.get(label)
    return example if missing(value) else replace(example, label=label_name(value))


def check_class(label: str, classes: Collection[str], where: str) -> None:
    """Raises a TaskError where a label is none of the classes, with the nearest that is one."""
    if label in classes:
        return
    twin = next((known for known in classes if known.casefold() == label.casefold()), None)
    hint = str(unknown("class", label, classes, TaskError).do)
    add = f"add the class with --label {label}=DESCRIPTION"
    do = either(hint, add) if twin is None else f"did you mean {quoted(twin)}?"
    raise TaskError(f"the label {quoted(label)} is none of the classes", where=where, do=do)
