"""Rows that a user hands to a predictor (texts, pairs, tables) become examples, or one clear error."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from promptgraft.errors import UsageError
from promptgraft.task.examples import make_examples
from promptgraft.task.kinds import KINDS
from promptgraft.task.labelled import check_class, marked, with_lists
from promptgraft.task.load import columns_of
from promptgraft.task.table import Table, TableRow
from promptgraft.task.task import Example, Kind, Label, Task
from promptgraft.task.values import as_class, label_name

WHERE = "row"
"""What an error about a row of a table begins with, before the row's number."""


def examples_of(rows: object, task: Task, named: Collection[str] = ()) -> tuple[Example, ...]:
    """Turn rows into examples of the task's kind.

    Args:
        rows: a list (or another iterable) of texts, pairs, lists of words, `Example`s or dictionaries, or a table
            with named columns, which is read by the columns that the task was tuned from.
        named: the roles whose columns were named for these rows, and are not those that the task was tuned from.
    Raises:
        UsageError: it is no list of rows, or a row is not what the kind needs; with the row's number.
        TaskError: a column that was tuned from is not there.
    """
    values = _listed(rows, task)
    if values and all(isinstance(value, Mapping) for value in values):
        return _of_table(values, task, named)
    return tuple(_example(value, task, number) for number, value in enumerate(values))


def labelled_of(rows: object, task: Task, classes: Collection[str], named: Collection[str] = ()) -> tuple[Example, ...]:
    """Turn labelled rows into examples of a task with classes.

    Args:
        rows: a list (or another iterable) of (text, label), for pairs (text, text, label), of `Example`s or
            dictionaries, or a table with named columns; a label's column is the task's own, else `label`.
        classes: that a label may be.
        named: as of `examples_of`.
    Raises:
        UsageError: it is no list of rows, or a row is not what the kind needs, or has no label; with its number.
        TaskError: a column is not there, or a label is none of the classes.
    """
    values = _listed(rows, task)
    if not values:
        raise UsageError("there are no labelled rows", where=task.name, do="give some, or leave them out")
    apart = [_apart(value, task, number) for number, value in enumerate(values)]
    examples, given = examples_of([row for row, _ in apart], task, named), [label for _, label in apart]
    labels: Sequence[Label] = _several(given, classes) if task.facts.several else _one(given, classes)
    return tuple(replace(example, label=label) for example, label in zip(examples, labels, strict=True))


def _one(labels: Sequence[object], classes: Collection[str]) -> list[str]:
    """Each row's class."""
    given = []
    for number, label in enumerate(labels):
        if _absent(label) or not str(label).strip():
            raise UsageError("has no label", where=f"{WHERE} {number}", do="label the row or take it out")
        name = as_class(label_name(label), classes)
        check_class(name, classes, f"{WHERE} {number}")
        given.append(name)
    return given


def _several(labels: Sequence[object], classes: Collection[str]) -> list[tuple[str, ...]]:
    """The names of each row's labels, from lists or joined names."""
    rows: list[TableRow] = [({"label": _plain(label)}, number) for number, label in enumerate(labels)]
    given = []
    for row, number in with_lists(rows, "label", classes):
        if not isinstance(row["label"], list):
            do = "label the row or take it out; a row that no label fits has the list []"
            raise UsageError("has no labels", where=f"{WHERE} {number}", do=do)
        names = tuple(sorted({as_class(label_name(label), classes) for label in row["label"]}))
        for name in names:
            check_class(name, classes, f"{WHERE} {number}")
        given.append(names)
    return given


def unlabelled_of(rows: object, task: Task, named: Collection[str] = ()) -> tuple[list[Any], tuple[Example, ...]]:
    """The rows one by one as they were given, and as examples, which have a label where their row has one.

    Args:
        named: as of `examples_of`.
    Raises:
        UsageError, TaskError: as `examples_of` does.
    """
    values = _listed(rows, task)
    label = task.columns.get("label", "label")
    examples = examples_of(values, task, named)
    return values, tuple(
        marked(example, value, label) if isinstance(value, Mapping) else example
        for example, value in zip(examples, values, strict=True)
    )


def _apart(value: Any, task: Task, number: int) -> tuple[object, object]:
    """A labelled row without its label, and the label."""
    if isinstance(value, Example):
        return value, value.label
    if isinstance(value, Mapping):
        label = task.columns.get("label", "label")
        return value, value.get(label, value.get("label"))
    parts = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(parts, list | tuple) or len(parts) < 2:
        raise UsageError(f"this is not {task.facts.row} with its label", where=f"{WHERE} {number}")
    *row, label = parts
    return (row[0] if len(row) == 1 else tuple(row)), label


def _listed(rows: object, task: Task) -> list[Any]:
    """A list of the rows, whatever container holds them."""
    values = _plain(rows)
    if isinstance(values, str | bytes | Mapping | Example) or not isinstance(values, Iterable):
        problem = f"rows must be a list, not {type(rows).__name__}"
        hint = "put it in one: [...]" if isinstance(rows, str | Mapping | Example) else f"with {task.facts.row} a row"
        raise UsageError(problem, do=hint)
    return list(values)


def _plain(rows: Any) -> object:
    """Turn tables into lists of dictionaries, arrays and columns into lists; return all else as it is."""
    if hasattr(rows, "to_pylist"):  # pyarrow
        return rows.to_pylist()
    if hasattr(rows, "columns") and hasattr(rows, "to_dicts"):  # polars
        return rows.to_dicts()
    if hasattr(rows, "columns") and hasattr(rows, "to_dict"):  # pandas
        return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    return rows.tolist() if hasattr(rows, "tolist") else rows


def _of_table(rows: list[Mapping[str, Any]], task: Task, named: Collection[str]) -> tuple[Example, ...]:
    """Examples from the rows of a table, read by the task's columns; labels in it are not read."""
    numbered = [(dict(row), number) for number, row in enumerate(rows)]
    columns = columns_of(task, Table("the rows", numbered), named, option=bool(named))
    columns.pop("label", None)
    for number, row in enumerate(rows):
        for name in columns.values():
            if _absent(row.get(name)):
                raise UsageError(f"column {name!r} is empty", where=f"{WHERE} {number}", do=f"give {task.facts.row}")
    return make_examples(task.kind, columns, numbered, WHERE, labelled=False)


def _absent(value: object) -> bool:
    """Whether a cell holds nothing: None, or the number that is not a number."""
    return value is None or (isinstance(value, float) and value != value)


def _example(value: object, task: Task, number: int) -> Example:
    """The example of one row that does not come from a table."""
    example = value if isinstance(value, Example) else _from_values(value, task.kind, paired="pair" in task.columns)
    if example is None or not _is_complete(example, task.kind):
        shown = type(value).__name__ if not isinstance(value, list | tuple) else _shape(value)
        do = "split the text into its words" if task.kind == "tagging" and _is_text(value) else None
        raise UsageError(f"this is {shown}, not {task.facts.row}", where=f"{WHERE} {number}", do=do)
    return example


def _is_text(value: object) -> bool:
    """Whether a row is a text and no words."""
    return isinstance(value, str) or (isinstance(value, Example) and bool(value.text) and not value.tokens)


def _from_values(value: object, kind: Kind, *, paired: bool) -> Example | None:
    """An example made of plain values; None where they are not what the kind needs.

    Args:
        paired: whether the task was read from two columns of text.
    """
    if isinstance(value, str):
        return Example(text=value) if KINDS[kind].single else None
    parts: Any = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(parts, list | tuple):
        return None
    texts = all(isinstance(part, str) for part in parts)
    match kind:
        case "tagging" if texts:
            return Example(tokens=tuple(parts))
        case "choice" if len(parts) == 2 and isinstance(parts[0], str) and isinstance(parts[1], list | tuple):
            return Example(text=parts[0], choices=tuple(parts[1]))
        case "classification" | "multilabel" | "regression" | "text" if len(parts) == 1 and texts:
            return Example(text=parts[0])
        case "pair" | "span" | "multilabel" | "regression" | "text" if len(parts) == 2 and texts:
            return Example(text=parts[0], pair=parts[1])
        case "classification" if paired and len(parts) == 2 and texts:
            return Example(text=parts[0], pair=parts[1])
    return None


def _is_complete(example: Example, kind: Kind) -> bool:
    """Whether an example has all that its kind needs, and nothing that the model would not read."""
    texts: tuple[object, object] = (example.text, example.pair)  # whoever made the example may have given anything
    if not isinstance(texts[0], str) or not isinstance(texts[1], str | None):
        return False
    match kind:
        case "tagging":
            return not example.text and all(isinstance(word, str) for word in example.tokens)
        case "choice":
            return len(example.choices) >= 2 and all(isinstance(choice, str) for choice in example.choices)
        case "pair" | "span":
            return example.pair is not None
    return not example.tokens and not example.choices


def _shape(parts: list[Any] | tuple[Any, ...]) -> str:
    """The types in a row, in words."""
    kinds = ", ".join(type(part).__name__ for part in parts[:4]) + (", ..." if len(parts) > 4 else "")
    return f"{len(parts)} values ({kinds})" if parts else "empty"
