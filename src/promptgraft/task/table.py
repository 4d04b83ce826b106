"""A data file as a table: its rows, which column plays which role, and notes on reading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from promptgraft.task.task import Kind

TableRow = tuple[dict[str, Any], int]
"""A row's values by column, and the line of the file it starts on (parquet: the row's number from 1)."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a file plays which role; None where there is none, or where it is still to be inferred.

    | kind                             | text     | pair        | question | choices | label   |
    | classification, pair, regression | text     | second text |          |         | label   |
    | choice                           | text     |             | question | choices | label   |
    | tagging                          | tokens   |             |          |         | tags    |
    | span                             | question | context     |          |         | answers |
    | text                             | text     | second text |          |         | target  |
    """

    text: str | None = None
    pair: str | None = None
    question: str | None = None
    choices: str | None = None
    label: str | None = None

    def named(self) -> dict[str, str]:
        """The column of every role that has one."""
        return {role: name for role in self.__slots__ if (name := getattr(self, role)) is not None}

    def over(self, other: Columns) -> Columns:
        """These columns, filled up from another set where a role has none."""
        return Columns(**{**other.named(), **self.named()})


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one data file.

    Attributes:
        where: the file, for errors, which add the row's line.
        notes: what was recognised, chosen or dropped while reading.
        kind, columns: what the file's format says of them; all that is None is inferred from names and values.
        unlabelled: whether rows may lack a label, as items that no one has annotated yet do; for training they are
            left out.
    """

    where: str
    rows: Sequence[TableRow]
    notes: tuple[str, ...] = ()
    kind: Kind | None = None
    columns: Columns = field(default_factory=Columns)
    unlabelled: bool = False
