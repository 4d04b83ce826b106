"""Prints docs/cli.md, the page on the command line, from the help texts: python docs/cli.py > docs/cli.md"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import typer
from typer.testing import CliRunner

from promptgraft.cli.main import app

WIDTH = "110"
MADE_WITH = f"typer {version('typer')} and rich {version('rich')}"  # they decide how help is laid out
HEAD = f"""# The command line

<!-- Made from the help texts by `python docs/cli.py > docs/cli.md`, with {MADE_WITH}. -->

A TASK is a file, a folder with `task.toml`, or `hub:DATASET`. Results go to standard output; notes (what was inferred,
cut, sampled or chosen) and progress go to standard error. Exit status: 0 success, 1 failure, 2 wrong usage, 130 stopped
by Ctrl-C. After a stop, the same tune, transfer, compare, distil or search continues from what was saved: every result,
every answer of a search, and the training state every few seconds. If nothing was saved yet, the message says so.

`predict` reads a file by the columns that the prompt was tuned from, and says which. A file without them is refused,
unless `--text-column` names the column, the file has a single column, or it is an export in a known format. `--file -`
reads standard input; `--format` gives its format.

What `predict` writes can be read back unchanged. In csv, in tsv and on the screen, null values, and values of columns
that a row does not have, are empty cells; lists and objects are JSON. Dates and times are written in ISO 8601, bytes in
base64, decimals as text; parquet keeps its types. In JSON, numbers that are not finite are null. On the screen a record
takes one line, and a cell of more than 1,000 characters is cut. Cells that begin with `=`, `+`, `-` or `@` are written
as they are, and spreadsheets run them as formulas: for files from strangers add `--safe-cells`, which puts an
apostrophe before such cells unless they are numbers.

A text that is longer than the model reads is cut, with a note. `--windows` halves it until every part is read whole,
and takes the mean of the parts' probabilities (in regression, of their numbers).

Printed text cannot control the terminal: control characters, and characters that change the direction of text, are
shown as escapes such as `\\x1b`; so are characters that the console's encoding does not have. `python -m promptgraft`
is the same command.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section(list(words)) for words in commands(app, ()))])


def commands(group: typer.Typer, before: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups before what is in them."""
    yield before
    yield from ((*before, str(command.name)) for command in group.registered_commands)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from commands(inner.typer_instance, (*before, str(inner.name)))


def section(words: list[str]) -> str:
    """What `promptgraft WORDS --help` prints, under a heading."""
    name = " ".join(["promptgraft", *words])
    shown = CliRunner().invoke(app, [*words, "--help"], prog_name="promptgraft", env={"COLUMNS": WIDTH}).stdout
    lines = (line.rstrip() for line in shown.strip("\n").splitlines())
    return f"## {name}\n\n```text\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    print(page(), end="")
