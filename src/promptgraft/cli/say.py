"""What a verb says: results to standard output, notes and progress to standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.box import ROUNDED
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 100_000  # columns of a pipe: nothing is wrapped or cut


@dataclass(frozen=True)
class Output:
    """The options every verb has."""

    json: Annotated[bool, typer.Option("--json", help="Results as JSON, for programs.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False


class Say:
    """The voice of one verb."""

    def __init__(self, output: Output) -> None:
        self.json, self.quiet, self.debug = output.json, output.quiet, output.debug
        self.out, self.err = console(stderr=False), console(stderr=True)
        self._said: set[str] = set()

    def note(self, *notes: str) -> None:
        """What was inferred, cut, sampled or chosen; each once."""
        for note in notes:
            if note not in self._said and not self.quiet:
                self.err.print(Text(f"note: {note}", style="dim"), soft_wrap=True)
            self._said.add(note)

    def problem(self, line: str) -> None:
        """The one line of an error."""
        self.err.print(Text(f"promptgraft: {line}"), soft_wrap=True)

    def line(self, text: str) -> None:
        """A line of the result, for people."""
        if not self.json:
            self.out.print(Text(text), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", best: int = -1) -> None:
        """A table of the result, for people; columns whose name ends in a space are aligned to the right.

        Args:
            best: the row to set off.
        """
        if self.json:
            return
        fancy = self.out.is_terminal
        table = Table(title=title or None, title_justify="left", box=ROUNDED if fancy else None, pad_edge=fancy)
        for name in columns:
            table.add_column(name.rstrip(), justify="right" if name.endswith(" ") else "left", overflow="fold")
        for number, row in enumerate(rows):
            table.add_row(*map(Text, row), style="bold" if number == best else None)
        self.out.print(table)

    def either(self, fancy: Callable[[], RenderableType], simple: Callable[[], str]) -> None:
        """One of two forms of a result for people: for a terminal, or for a pipe."""
        if self.json:
            return
        if self.out.is_terminal:
            self.out.print(fancy())
        else:
            self.line(simple())

    def data(self, value: object) -> None:
        """The result, for programs."""
        if self.json:
            self.out.out(json.dumps(plain(value), ensure_ascii=False, indent=2), highlight=False)


def console(*, stderr: bool) -> Console:
    """A console as wide as its terminal; a pipe has all the width it needs.

    It keeps the stream there is now: progress goes on while a library's own output is turned away.
    """
    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=stream, highlight=False)
    return made if made.is_terminal else Console(file=stream, highlight=False, width=PLAIN_WIDTH)


def plain(value: Any) -> Any:
    """A value without what JSON does not know: a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
