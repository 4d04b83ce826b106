"""The contract of a data format: a name, a function that recognises it, and a function that reads its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptgraft.errors import TaskError, shortened
from promptgraft.task.table import Columns, TableRow
from promptgraft.task.task import Kind


@dataclass(frozen=True, slots=True)
class Content:
    """A file as formats receive it: its text, or the rows of a table (of json, jsonl, csv, tsv or parquet)."""

    path: Path
    text: str | None = None
    rows: Sequence[TableRow] = ()


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The rows that a format read from a file, and what it knows about them.

    Attributes:
        rows: their label is None where there is none yet.
        columns: which of their columns play a role; those that are None are inferred.
        kind: None for one label a row (classification, pair or regression, by the columns and their values).
        notes: what was converted or dropped, with numbers.
    """

    rows: Sequence[TableRow]
    columns: Columns = field(default_factory=Columns)
    kind: Kind | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """A format of data files.

    Attributes:
        name: what a note calls it.
        recognise: whether a content is of it; never raises.
        read: its rows, in the file's order; raises TaskError with file:line for what is damaged.
        of_lines: whether it looks at the text; else at the rows of a table.
        kind: of its rows, where they are of one kind whatever they hold.
    """

    name: str
    recognise: Callable[[Content], bool]
    read: Callable[[Content], ReadRows]
    of_lines: bool = False
    kind: Kind | None = None


class Count:
    """Counts what was left out or decided while reading, by reason, for the notes."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()

    def add(self, reason: str, number: int = 1) -> None:
        """Add a number to the count of a reason."""
        self.reasons[reason] += number

    def notes(self) -> tuple[str, ...]:
        """One note for each reason: the reason and its number."""
        return tuple(f"{reason}: {number}" for reason, number in self.reasons.items() if number)


def rows_with(content: Content, *columns: str) -> bool:
    """Whether there are rows, and every row has all these columns."""
    return bool(content.rows) and all(all(name in row for name in columns) for row, _ in content.rows)


def rows_by(content: Content, convert: Callable[[dict[str, Any]], Iterable[dict[str, Any]]]) -> list[TableRow]:
    """The rows that `convert` gives for each row of a file, with the line of that row.

    Raises: TaskError with file:line for a row that lacks what the others have.
    """
    rows: list[TableRow] = []
    for row, line in content.rows:
        try:
            rows.extend((new, line) for new in convert(row))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as problem:
            what = f"a row that is not like the others ({type(problem).__name__}: {shortened(str(problem))})"
            raise TaskError(what, where=f"{content.path}:{line}", do="repair it") from None
    return rows
