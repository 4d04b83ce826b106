"""Reads the files that `predict` labels, from disk, a pipe or standard input, with all their columns."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptgraft.errors import TaskError, UsageError, listed, quoted
from promptgraft.task.readers import file_format

if TYPE_CHECKING:
    from promptgraft.task.task import Example, Kind, Task

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "txt")
CHOOSE_FORMAT = f"add --format {'|'.join(FORMATS)}"
SAVE_FIRST = f"save it in a file whose name ends in .{', .'.join(FORMATS)}"


@dataclass(frozen=True)
class FileShape:
    """The task's name, kind and columns, which a reader needs to read a file for it."""

    name: str
    kind: Kind
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GivenRows:
    """The rows that a verb is given.

    Attributes:
        rows: with all their columns.
        examples: the same.
        places: what each is called, such as `new.csv:4`.
        notes: on what was read.
    """

    rows: list[dict[str, Any]]
    examples: list[Example]
    places: list[str]
    notes: list[str] = field(default_factory=list)


def name_of(file: Path) -> str:
    """What a file is called in what is said of it."""
    return "standard input" if str(file) == "-" else str(file)


@contextmanager
def regular(file: Path, form: str | None, do: str = CHOOSE_FORMAT) -> Iterator[Path]:
    """A context with a file whose name tells its format: the file itself, or a copy of what a pipe holds.

    Args:
        file: `-` is standard input.
        form: one of `FORMATS`; None: what the name says.
        do: what to do where nothing says what a pipe holds.
    Raises:
        UsageError: nothing says what a pipe holds, or the path is a folder.
    """
    if file.is_dir():
        raise UsageError(f"--file {file}: this is a folder", do="name a file in it")
    if form is None and (file.is_file() or not (str(file) == "-" or file.exists())):
        yield file
        return
    form = form or file_format(file)
    if form not in FORMATS:
        raise UsageError(f"--file {file}: nothing says what it holds", do=do)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"input.{form}"
        copy.write_bytes(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
        try:
            yield copy
        except TaskError as error:
            where = str(error.where).replace(str(copy), name_of(file))
            raise TaskError(error.what.replace(str(copy), str(file)), where=where, do=error.do) from error


def rows_of(
    file: Path, task: Task, named: Mapping[str, str], *, name: str, header: bool, of_card: bool = True
) -> GivenRows:
    """The rows of a file.

    The columns are those given, then those the task was tuned from, then what the file's format or their names tell.
    Labels are not read: a file to label may have anything in that column.

    Args:
        named: the columns that are given, by what they hold.
        name: what the file is called.
        header: whether the first line of csv and tsv names the columns.
        of_card: whether the task is that of a prompt's card.
    Raises:
        TaskError: a column that was tuned from, or named, is not there.
    """
    from promptgraft.task.examples import make_examples
    from promptgraft.task.load import columns_of, read_inputs

    tuned = {role: column for role, column in task.columns.items() if role != "label"}
    shape = FileShape(task.name, task.kind, {**tuned, **named})
    table = read_inputs(file, shape, header=header)
    columns = {role: column for role, column in columns_of(shape, table, named).items() if role != "label"}
    examples = list(make_examples(task.kind, columns, table.rows, str(file), labelled=False))
    columns_read = []
    if table.columns.text is None:
        columns_read = [columns_note(columns, tuned, list(table.rows[0][0]), of_card=of_card)]
    rows, places = [row for row, _ in table.rows], [f"{name}:{line}" for _, line in table.rows]
    return GivenRows(rows, examples, places, [*table.notes, *columns_read])


def columns_note(columns: Mapping[str, str], tuned: Mapping[str, str], names: Sequence[str], *, of_card: bool) -> str:
    """A note on which columns are read and why, and which are not used.

    Args:
        of_card: whether there is a prompt, whose card may name them.
    """
    columns_text = ", ".join(f"{role} = {name!r}" for role, name in columns.items())
    unused = [quoted(name) for name in names if name not in columns.values()]
    unused_text = f" (not used: {listed(unused)})" if unused else ""
    if not tuned:
        why = ", since the prompt's card names none" if of_card else ""
        return f"columns inferred{why}: {columns_text}{unused_text}"
    ground = "as tuned" if dict(columns) == dict(tuned) else "tuned from " + ", ".join(map(repr, tuned.values()))
    return f"columns read: {columns_text}, {ground}{unused_text}"
