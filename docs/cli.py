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
cut, sampled or chosen) and progress go to standard error. Exit status: 0 done, 1 could not, 2 wrong usage, 130 stopped
by Ctrl-C; the same tune, transfer, compare, distil or search then goes on from what was kept: every result, every
answer of a search, and the state of training every few seconds. A stop before that says so.

`predict` reads a file by the columns that the prompt was tuned from, and says which; a file without them is refused.
`--file -` is standard input; `--format` says what it holds.

What `predict` writes reads back as it was. In csv, tsv and on the screen null is an empty cell, and so is what only
other rows have; lists and objects are JSON. Dates and times are ISO 8601, bytes base64, decimals text; parquet keeps
its types. JSON has null for numbers that are not finite. On the screen a record is one line, and of a cell of
more than 1,000 characters the beginning. Cells that begin with `=`,
`+`, `-` or `@` are written as they are, and spreadsheets run them: for files from strangers add `--safe-cells`, which
puts an apostrophe before those that are no numbers.

A text that is longer than the model reads is cut, and that is said. `--windows` halves it until every part is read
whole, and takes the mean of the parts' probabilities (of a regression, of their numbers).

What is printed acts on no terminal: control characters, and those that turn the direction of text, are shown as escapes
such as `\\x1b`; so is what the console's encoding does not have. `python -m promptgraft` is the same command.
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
