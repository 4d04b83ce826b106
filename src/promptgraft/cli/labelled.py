"""Reads the files that `predict` labels, from disk, a pipe or standard input, with all their columns."""

from __future__ import annotations

import difflib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """The task's kind and columns, which a reader needs to read a file for it."""

    kind: Kind
    columns: dict[str, str] = field(default_factory=dict)


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
            where = str(error.where).replace(str(copy), "standard input" if str(file) == "-" else str(file))
            raise TaskError(error.what.replace(str(copy), str(file)), where=where, do=error.do) from error


def rows_of(
    file: Path, task: Task, text: str | None, pair: str | None, *, header: bool, of_card: bool = True
) -> tuple[list[dict[str, Any]], list[Example], list[str]]:
    """The rows of a file with all their columns, the same rows as examples, and notes on what was read.

    The columns are those given, then those the task was tuned from, then what the file's format or their names tell.
    Labels are not read: a file to label may have anything in that column.

    Args:
        header: whether the first line of csv and tsv names the columns.
        of_card: whether the task is that of a prompt's card.
    Raises:
        TaskError: a column that was tuned from, or named, is not there.
    """
    from promptgraft.task.examples import make_examples
    from promptgraft.task.load import columns_of, read_inputs

    named = {role: name for role, name in (("text", text), ("pair", pair)) if name is not None}
    tuned = {role: name for role, name in task.columns.items() if role != "label"}
    shape = FileShape(task.kind, tuned | named)
    table = read_inputs(file, shape, header=header)
    first = table.rows[0][0]
    has_columns = table.columns.text is not None
    for name in () if has_columns else named.values():
        check_column(name, first, file)
    for name in () if has_columns or len(first) == 1 else shape.columns.values():
        check_column(name, first, file, f", from which {task.name} was tuned")
    columns = {role: name for role, name in columns_of(shape, table).items() if role != "label"}
    examples = list(make_examples(task.kind, columns, table.rows, str(file), labelled=False))
    columns_read = [] if has_columns else [columns_note(columns, tuned, list(first), of_card=of_card)]
    return [row for row, _ in table.rows], examples, [*table.notes, *columns_read]


def check_column(name: str, names: Iterable[str], where: Path, why: str = "") -> None:
    """Check that a file has a column.

    Raises:
        TaskError: it has not; with the nearest name there is.
    """
    names = list(names)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"its columns: {listed(names)}."
    do = f"{hint} Name it with --text-column or --pair-column"
    raise TaskError(f"no column {name!r}{why}", where=where, do=do)


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
