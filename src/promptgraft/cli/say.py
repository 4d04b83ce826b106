"""Prints what a verb has to say: results to standard output, notes and progress to standard error."""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.box import ROUNDED
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from promptgraft.cli.values import json_value
from promptgraft.untrusted import visible

LONGEST_CELL = 1000
"""Characters of a cell that are shown; nobody reads more, and --json and files have all of them."""
PLAIN_WIDTH = 100_000  # columns of a pipe: nothing is wrapped or cut


@dataclass(frozen=True)
class Output:
    """The options every verb has."""

    json: Annotated[bool, typer.Option("--json", help="Results as JSON, for programs.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False


class Say:
    """Prints the results, notes and errors of one verb.

    Attributes:
        folder: where the verb keeps its work while it runs; None before it is known, and where it keeps none.
    """

    folder: Path | None = None

    def __init__(self, output: Output) -> None:
        self.json, self.quiet, self.debug = output.json, output.quiet, output.debug
        self.out, self.err = console(stderr=False), console(stderr=True)
        self._notes: set[str] = set()

    def note(self, *notes: str) -> None:
        """Print notes on what was inferred, cut, sampled or chosen, each of them once."""
        for note in notes:
            if note not in self._notes and not self.quiet:
                self.err.print(Text(visible(f"note: {note}"), style="dim"), soft_wrap=True)
            self._notes.add(note)

    def problem(self, line: str) -> None:
        """Print the one line of an error."""
        self.err.print(Text(visible(f"promptgraft: {line}")), soft_wrap=True)

    def trace(self, text: str) -> None:
        """Print where an error comes from."""
        self.err.print(Text(visible(text, lines=True)), soft_wrap=True)

    def line(self, text: str) -> None:
        """Print a line of the result, for people."""
        if not self.json:
            self.out.print(Text(visible(text, lines=True)), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", best: int = -1) -> None:
        """Print a table of the result, for people; columns whose name ends in a space are aligned to the right.

        Of a very long cell the beginning is shown.

        Args:
            best: the row to set off.
        """
        if self.json:
            return
        fancy = self.out.is_terminal
        table = Table(
            title=visible(title) or None, title_justify="left", box=ROUNDED if fancy else None, pad_edge=fancy
        )
        for name in columns:
            justify: JustifyMethod = "right" if name.endswith(" ") else "left"
            table.add_column(Text(visible(name.rstrip())), justify=justify, overflow="fold")
        for number, row in enumerate(rows):
            table.add_row(*(Text(shown(cell)) for cell in row), style="bold" if number == best else None)
        self.out.print(table)

    def either(self, fancy: Callable[[], RenderableType], simple: Callable[[], str]) -> None:
        """Print one of two forms of a result for people: `fancy` on a terminal, `simple` to a pipe."""
        if self.json:
            return
        if self.out.is_terminal:
            self.out.print(fancy())
        else:
            self.line(simple())

    def data(self, value: object) -> None:
        """Print the result as JSON, for programs."""
        if self.json:
            self.out.out(json_text(value, ascii_only=not self.out.encoding.startswith("utf")), highlight=False)


def shown(cell: str) -> str:
    """A cell as it is shown: the beginning of a very long one, with how long it is."""
    if len(cell) <= LONGEST_CELL:
        return visible(cell)
    return f"{visible(cell[:LONGEST_CELL])}... ({len(cell):,} characters)"


def json_text(value: object, *, ascii_only: bool) -> str:
    """A value as JSON text that has no effect on a terminal.

    Args:
        ascii_only: for consoles that cannot show the rest.
    """
    text = json.dumps(json_value(value), ensure_ascii=ascii_only, indent=2)
    acting = (letter for letter in set(text) if letter != "\n" and visible(letter) != letter)
    return text.translate({ord(letter): json.dumps(letter)[1:-1] for letter in acting})


def typed_command() -> str:
    """The command as a page shows it: of an absolute path, which is private, only the last part."""
    return shlex.join(["promptgraft", *map(without_place, sys.argv[1:])])


def without_place(word: str) -> str:
    """A word of the command line, an absolute path in it without its folder."""
    option, sign, value = word.rpartition("=")
    return f"{option}{sign}{Path(value).name}" if Path(value).is_absolute() or value.startswith("~") else word


def console(*, stderr: bool) -> Console:
    """A console as wide as its terminal; for a pipe, as wide as its lines.

    It keeps the stream there is now: progress goes on while a library's own output is turned away. What the stream's
    encoding does not have is escaped.
    """
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    terminal = Console(file=stream, highlight=False)
    return terminal if terminal.is_terminal else Console(file=stream, highlight=False, width=PLAIN_WIDTH)
