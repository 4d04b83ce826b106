"""Reads files of every format into rows; every error names its file and line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from promptgraft.errors import TaskError, shortened
from promptgraft.task.classnames import INFO, info_beside, name_classes
from promptgraft.task.content import NoRowsError, decode, read_bytes, text_lines
from promptgraft.task.delimited import OWN, read_delimited
from promptgraft.task.formats.all import FORMATS
from promptgraft.task.formats.contract import Content, Format, ReadRows
from promptgraft.task.jsonrows import read_json_rows, read_jsonl_rows
from promptgraft.task.parquet import read_parquet_rows
from promptgraft.task.table import Columns, Table, TableRow
from promptgraft.task.task import Kind

ENDINGS = ("jsonl", "json", "csv", "tsv", "parquet")
TEXT_ENDINGS = ("txt", "conll", "iob", "iob2", "bio", "bioes", "ann")
"""Endings of files that are read only where their lines are in a known format."""
ONE_LABEL = ("classification", "multilabel", "pair", "regression")
"""Kinds that a file's format does not tell apart."""


def read_table(
    path: str | Path, *, header: bool = True, kind: Kind | None = None, named: Collection[str] = ()
) -> Table:
    """The rows of one data file: jsonl, json, csv, tsv or parquet, each also as .gz, or an export of a labelling tool.

    Text is UTF-8, or what its byte order mark says. json is a list of objects or {"data": [...]}. In csv and tsv the
    first line names the columns and all values are strings; a dialect is recognised (`delimited.read_delimited`). What
    `formats` knows is recognised by its content, whatever its ending. Blank lines are no rows.

    Args:
        header: whether the first line of csv and tsv names the columns.
        kind: what the rows are for; a format of another kind is then not looked for.
        named: columns that must be there; a format that does not keep them is not used.
    Raises: TaskError for a missing, empty, damaged or ragged file, naming file and line.
    """
    path = Path(path)
    ending = file_format(path)
    raw = read_bytes(path)
    if ending not in OWN and not header:
        raise TaskError("only csv and tsv have a header to do without", where=path, do="leave out --no-header")
    features, source = info_beside(path), INFO
    if ending == "parquet":
        rows, written = read_parquet_rows(raw, path)
        features, source = (written, path.name) if written else (features, source)
        notes: list[str] = []
    else:
        text, notes = text_of(raw, path, ending)
        table = (
            as_format(Content(path, text=text), notes, kind, named)
            if header and not ending.startswith("json")
            else None
        )
        if table is not None:
            return table
        if ending not in ENDINGS:
            raise unknown_format(path, ending)
        rows, more_notes = read_rows(text, path, ending, header)
        notes += more_notes
    if not rows:
        raise NoRowsError("the file holds no rows", path)
    rows, more_notes, classes = name_classes(rows, features, path, source)
    notes += more_notes
    table = as_format(Content(path, rows=rows), notes, kind, named) if header else None
    return table or Table(str(path), rows, tuple(notes), unlabelled=bool(classes))


def file_format(path: Path) -> str:
    """The file's format by its name, without .gz: `train.jsonl.gz` is "jsonl"."""
    return Path(path.name.removesuffix(".gz")).suffix.removeprefix(".").lower()


def read_lines(path: Path, kind: Kind) -> Table:
    """Reads a .txt file to predict: in a known format of this kind, else one text a line without blank lines."""
    text, notes = decode(read_bytes(path), path)
    table = as_format(Content(path, text=text), notes, kind, ())
    rows: list[TableRow] = [({"text": line}, n) for n, line in enumerate(text_lines(text), 1) if line.strip()]
    return table or Table(str(path), rows, tuple(notes), columns=Columns(text="text"))


def unknown_format(path: Path, ending: str) -> TaskError:
    """The error for a file of no known format."""
    name = "." + ending if ending else ""
    texts = "; of texts without labels, declare these (--label, labels=)" if ending == "txt" else ""
    return TaskError(f"unknown format {name!r}", where=path, do=f"use one of: {', '.join(ENDINGS)}{texts}")


def text_of(raw: bytes, path: Path, ending: str) -> tuple[str, list[str]]:
    """The text of a file, and notes on it. Raises: TaskError, which for an unknown ending names the ending."""
    try:
        return decode(raw, path)
    except TaskError:
        if ending in ENDINGS or ending == "txt":
            raise
        raise unknown_format(path, ending) from None


def read_rows(text: str, path: Path, ending: str, header: bool) -> tuple[list[TableRow], list[str]]:
    """The rows of a text by its file's ending, and notes on them."""
    if ending == "jsonl":
        return read_jsonl_rows(text, path)
    if ending == "json":
        return read_json_rows(text, path)
    return read_delimited(text, path, ending, header)


def as_format(content: Content, notes: Sequence[str], kind: Kind | None, named: Collection[str]) -> Table | None:
    """The table of the first format that recognises the content and serves the kind and the named columns."""
    for form in FORMATS.values():
        if form.of_lines != (content.text is not None) or (kind and form.kind and kind != form.kind):
            continue
        if form.recognise(content):
            reading = read_as(form, content)
            if kind == "classification" and reading.kind == "multilabel":
                reading = one_label(reading)
            if serves(reading, kind, named, content):
                return table_of(reading, form.name, content.path, notes)
    return None


def read_as(form: Format, content: Content) -> ReadRows:
    """Reads a file's content by a format. Raises: TaskError for anything in it that is damaged."""
    try:
        return form.read(content)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as problem:
        what = (
            f"read as {form.name}, a row is not like the others ({type(problem).__name__}: {shortened(str(problem))})"
        )
        raise TaskError(what, where=content.path, do="export it again") from None


def one_label(reading: ReadRows) -> ReadRows:
    """A reading of several labels a row as one of a label a row: rows with several, or none, are unlabelled."""
    column = reading.columns.label or ""
    rows: list[TableRow] = []
    for row, line in reading.rows:
        labels = row[column] or []
        rows.append((row | {column: labels[0] if len(labels) == 1 else None}, line))
    return replace(reading, rows=rows, kind=None)


def serves(reading: ReadRows, kind: Kind | None, named: Collection[str], content: Content) -> bool:
    """Whether a format's rows suit the kind, and keep those named columns that the file itself has."""
    fits = kind in ONE_LABEL if reading.kind in (None, "classification", "pair", "regression") else kind == reading.kind
    columns = set(reading.rows[0][0]) if reading.rows else set()
    file_columns = set(content.rows[0][0]) if content.rows else set()
    return (kind is None or fits) and all(name in columns for name in named if name in file_columns)


def table_of(reading: ReadRows, name: str, path: Path, notes: Sequence[str]) -> Table:
    """The table of a format's rows. Raises: TaskError where no row is left."""
    format_notes = [f"{path.name}: {note}" for note in (f"read as {name}", *reading.notes)]
    if not reading.rows:
        do = "give a file with at least one row of use"
        raise TaskError(
            f"read as {name}, no row is left ({'; '.join(reading.notes) or 'it is empty'})", where=path, do=do
        )
    return Table(str(path), reading.rows, (*notes, *format_notes), reading.kind, reading.columns, unlabelled=True)
