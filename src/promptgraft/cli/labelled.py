"""Files to label and labelled files."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptgraft.errors import TaskError, UsageError, listed, quoted

if TYPE_CHECKING:
    from promptgraft.task.task import Example, Kind, Task

DELIMITERS = {"csv": ",", "tsv": "\t"}
WRITABLE = (*DELIMITERS, "jsonl")


@dataclass(frozen=True)
class Shape:
    """What the reader must know of the task a file is for."""

    kind: Kind
    columns: dict[str, str] = field(default_factory=dict)


def rows_of(
    file: Path, task: Task, text: str | None, pair: str | None, *, header: bool
) -> tuple[list[dict[str, Any]], list[Example], list[str]]:
    """The rows of a file with all their columns, the same rows as examples, and notes on what was read.

    The columns are those given, then those the task was tuned from, then what the file's format or their names tell.
    Labels are not read: a file to label may have anything in that column.

    Args:
        header: whether the first line of csv and tsv names the columns.
    Raises:
        TaskError: a column that was tuned from, or named, is not there.
    """
    from promptgraft.task.examples import make_examples
    from promptgraft.task.load import columns_of, read_inputs

    given = {role: name for role, name in (("text", text), ("pair", pair)) if name is not None}
    tuned = {role: name for role, name in task.columns.items() if role != "label"}
    shape = Shape(task.kind, tuned | given)
    table = read_inputs(file, shape, header=header)
    first = table.rows[0][0]
    told = table.columns.text is not None
    for name in () if told else given.values():
        check_column(name, first, f"{file}: no column {name!r}")
    for name in () if told or len(first) == 1 else shape.columns.values():
        check_column(name, first, f"{file}: no column {name!r}, from which {task.name} was tuned")
    columns = {role: name for role, name in columns_of(shape, table).items() if role != "label"}
    examples = list(make_examples(task.kind, columns, table.rows, str(file), labelled=False))
    read = [] if told else [columns_note(columns, tuned, list(first))]
    return [row for row, _ in table.rows], examples, [*table.notes, *read]


def check_column(name: str, names: Iterable[str], what: str) -> None:
    """That a file has a column.

    Raises:
        TaskError: it has not; with the nearest name there is.
    """
    names = list(names)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"its columns: {listed(names)}"
    raise TaskError(what, do=f"{hint} Name it with --text-column or --pair-column")


def columns_note(columns: Mapping[str, str], tuned: Mapping[str, str], names: Sequence[str]) -> str:
    """Which columns are read, on what ground, and which are not."""
    read = ", ".join(f"{role} = {name!r}" for role, name in columns.items())
    unused = [quoted(name) for name in names if name not in columns.values()]
    rest = f" (not used: {listed(unused)})" if unused else ""
    if not tuned:
        return f"columns inferred, since the prompt's card names none: {read}{rest}"
    ground = "as tuned" if dict(columns) == dict(tuned) else "tuned from " + ", ".join(map(repr, tuned.values()))
    return f"columns read: {read}, {ground}{rest}"


def written(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write rows as csv, tsv or jsonl, by the file's ending; whole or not at all."""
    from promptgraft.prompt.atomic import write_bytes

    ending = out.suffix.removeprefix(".").lower()
    if ending not in WRITABLE:
        raise UsageError(f"--out {out}: cannot write {ending!r}", do=f"use one of: {', '.join(WRITABLE)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    text = as_lines(rows) if ending == "jsonl" else as_table(rows, DELIMITERS[ending])
    write_bytes(out, text.encode())


def as_lines(rows: Sequence[dict[str, Any]]) -> str:
    """An object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_table(rows: Sequence[dict[str, Any]], delimiter: str) -> str:
    """A header, then a line a row; lists as JSON."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: as_text(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def as_text(value: Any) -> str:
    """A value as a cell shows it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else str(value)
