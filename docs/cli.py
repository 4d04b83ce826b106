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
by Ctrl-C; the same command then goes on where it was.
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
