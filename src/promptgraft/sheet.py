"""Shows an object in a console or a notebook: a heading, some facts and a small table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from promptgraft.untrusted import visible

WIDE, LONG, HIGH = 100, 40, 12
"""The most characters of a line and of a cell, and the most rows of a table, that fit a screen."""


@dataclass(frozen=True)
class Sheet:
    """A description of an object that fits a screen; long lines are cut, and rows left out are counted."""

    heading: str
    facts: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: Sequence[Sequence[str]] = ()

    def text(self) -> str:
        """The text that `repr` gives."""
        lines = [self.columns, *self._cut_rows()] if self.rows else []
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))] if lines else []
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        body = [*(short(fact, WIDE - 2) for fact in self.facts), *(_cut(line, WIDE - 2) for line in table)]
        return "\n".join([short(self.heading, WIDE), *(f"  {line}" for line in [*body, *self._remainder()])])

    def html(self) -> str:
        """The HTML that `_repr_html_` gives."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self._cut_rows())
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if self.rows else ""
        facts = "<br>".join(escape(short(fact, 2 * WIDE)) for fact in (*self.facts, *self._remainder()))
        return f"<div><b>{escape(short(self.heading, WIDE))}</b><br>{facts}{table}</div>"

    def _cut_rows(self) -> list[tuple[str, ...]]:
        return [tuple(short(cell, LONG) for cell in row) for row in self.rows[:HIGH]]

    def _remainder(self) -> list[str]:
        return [f"... and {len(self.rows) - HIGH} more"] if len(self.rows) > HIGH else []


def short(text: str, longest: int) -> str:
    """Text on one line that is safe to show, cut to `longest` characters."""
    begin = text[: 8 * longest]  # a text may have megabytes
    return _cut(visible(" ".join(begin.split())), longest)


def _cut(line: str, longest: int) -> str:
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def first_few(names: Sequence[str], most: int = 6) -> str:
    """The first few of many names, joined by commas, with the number of the others."""
    remainder = f", ... and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(short(name, LONG) for name in names[:most]) + remainder
