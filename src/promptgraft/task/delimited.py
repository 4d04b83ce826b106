"""Reads csv and tsv: finds the delimiter, whether the first line names the columns, and the rows."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptgraft.errors import TaskError, listed_quoted, quoted
from promptgraft.task.compare import count_rows
from promptgraft.task.names import USUAL
from promptgraft.task.table import TableRow

OWN = {"csv": ",", "tsv": "\t"}
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_COLUMNS = 100_000
"""The most columns of a table of texts; each is read several times to infer what it holds."""
TextLine = tuple[list[str], int]
"""The fields of a row, and the line of the file it starts on."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """The text of a file, without the `skipped` lines before its first row."""

    text: str
    path: Path
    skipped: int = 0

    def lines(self, delimiter: str, quoting: Any = csv.QUOTE_MINIMAL) -> list[TextLine]:
        """Every row that is not blank. Raises: TaskError for quotes that do not pair."""
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        return list(numbered(reader, self.path, 1 + self.skipped))


def read_delimited(text: str, path: Path, ending: str, header: bool = True) -> tuple[list[TableRow], list[str]]:
    """The rows of a csv or tsv text, with notes on what was recognised.

    The delimiter is the one of the file's ending, or what a first line `sep=;` (as spreadsheets write it) says, or
    another one by which all rows have as many fields as the header. A tsv whose quotes do not pair is read as one
    without quoting.

    Args:
        header: whether the first line names the columns; else they are `text` or `column_1`, `column_2`, ...
    """
    source, declared = declared_delimiter(text, path)
    with long_fields():
        delimiter, lines, notes = dialect(source, declared, OWN[ending])
        if not lines:
            return [], notes
        names, rows = (lines[0][0], lines[1:]) if header else (default_names(lines), lines)
        refuse_twice(names, f"{path}:{lines[0][1]}")
        if len(names) > MOST_COLUMNS:
            what = f"{len(names):,} columns; at most {MOST_COLUMNS:,} are read"
            raise TaskError(what, where=f"{path}:{lines[0][1]}", do="keep those of the task")
        if header and not any(name.strip().lower() in USUAL for name in names):
            notes.append(header_note(path, names))
        notes.extend(joined_rows(source, rows, len(names), delimiter))
    return [(row_by_column(names, values, f"{path}:{line}", delimiter), line) for values, line in rows], notes


def declared_delimiter(text: str, path: Path) -> tuple[TextSource, str | None]:
    """The text without a first line such as `sep=;`, and the delimiter that this line names, if there is one."""
    first, line_end, body = text.partition("\n")
    first = first.rstrip("\r").strip('"')
    if line_end and first.lower().startswith("sep=") and len(first) == len("sep=") + 1:
        return TextSource(body, path, 1), first[-1]
    return TextSource(text, path), None


def dialect(source: TextSource, declared: str | None, usual: str) -> tuple[str, list[TextLine], list[str]]:
    """The delimiter, the rows that it gives, and notes on what was recognised.

    Raises: TaskError where quotes do not pair.
    """
    prefix = f"{source.path.name}: its fields are separated by "
    if declared is not None:
        return declared, source.lines(declared), [] if declared == usual else [prefix + word(declared)]
    lines, problem = lines_by(source, usual)
    if rectangular(lines):
        return usual, lines, []
    first = source.text.lstrip().partition("\n")[0]
    others = [delimiter for delimiter in DELIMITERS if delimiter != usual and delimiter in first]
    for delimiter in others:
        rows, _ = lines_by(source, delimiter)
        if rectangular(rows):
            return delimiter, rows, [prefix + word(delimiter)]
    if usual == "\t" and (problem is not None or not even(lines)):
        plain = source.lines(usual, csv.QUOTE_NONE)
        if even(plain) and not (others and usual not in first):
            note = f"{source.path.name}: its quotes do not pair, so they were read as plain characters"
            return usual, plain, [note]
    if problem is not None and others and usual not in first:
        usual, (lines, problem) = others[0], lines_by(source, others[0])
    if problem is not None:
        raise problem
    return usual, lines, []


def lines_by(source: TextSource, delimiter: str) -> tuple[list[TextLine], TaskError | None]:
    """The rows that a delimiter gives, or the error where it gives none."""
    try:
        return source.lines(delimiter), None
    except TaskError as problem:
        return [], problem


def even(lines: list[TextLine]) -> bool:
    """Whether all rows have the same number of fields."""
    return len({len(values) for values, _ in lines}) == 1


def rectangular(lines: list[TextLine]) -> bool:
    """Whether all rows have the same number of fields, and at least two."""
    return even(lines) and len(lines[0][0]) > 1


def word(delimiter: str) -> str:
    """A delimiter's name in messages."""
    return DELIMITERS.get(delimiter, quoted(delimiter))


def joined_rows(source: TextSource, rows: list[TextLine], width: int, delimiter: str) -> Iterator[str]:
    """A note where quotes may have joined rows, since every line has the same number of fields without quoting too."""
    joined = [line for values, line in rows if any("\n" in value or "\r" in value for value in values)]
    if joined and all(len(values) == width for values, _ in source.lines(delimiter, csv.QUOTE_NONE)):
        count = f"{count_rows(len(joined))} with line ends in quotes (first: line {joined[0]})"
        yield f"{source.path.name}: {count}; if quotes are plain characters there, double them"


def numbered(reader: Any, path: Path, first: int) -> Iterator[TextLine]:
    """The rows of a csv reader that are not blank, each with the line it starts on, counted from `first`."""
    start = first
    try:
        for values in reader:
            if values:
                yield values, start
            start = reader.line_num + first
    except csv.Error as error:
        do = 'double the quotes inside a field, and put it in quotes: "a ""b"" c"'
        separator = word(reader.dialect.delimiter)
        raise TaskError(f"broken row ({error}; separated by {separator})", where=f"{path}:{start}", do=do) from None


def default_names(lines: list[TextLine]) -> list[str]:
    """The columns' names of a file without a header."""
    width = len(lines[0][0])
    return ["text"] if width == 1 else [f"column_{n}" for n in range(1, width + 1)]


def refuse_twice(names: list[str], where: str) -> None:
    """Raises an error where two columns have the same name."""
    counts = Counter(names)
    twice = next((name for name in names if counts[name] > 1), None)
    if twice is not None:
        do = "rename one of them, or give --no-header if this is a row"
        raise TaskError(f"column {quoted(twice)} stands twice", where=where, do=do)


def header_note(path: Path, names: list[str]) -> str:
    """A note that the first line was taken for the names of the columns, though none of them is a usual one."""
    columns = listed_quoted(names)
    return (
        f"{path.name}: its first line was taken for the names of the columns: {columns} (if it is a row: --no-header)"
    )


def row_by_column(header: list[str], values: list[str], where: str, delimiter: str) -> dict[str, Any]:
    """A row as a dictionary by column; a row with more or fewer fields than the header is an error."""
    if len(values) != len(header):
        what = f"the row has {len(values)} fields, the header has {len(header)} (separated by {word(delimiter)})"
        raise TaskError(what, where=where, do="put fields that hold the delimiter or a newline in quotes")
    return dict(zip(header, values, strict=True))


@contextmanager
def long_fields() -> Iterator[None]:
    """Lets csv read fields of any length. The limit belongs to the whole process, so it is restored afterwards."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
