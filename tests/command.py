"""What the tests of the command line share: a call in this process, and what it left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

QUICK = ("--steps", "3", "--length", "3", "--evaluations", "2")


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@dataclass(frozen=True)
class Tuned:
    """A run folder and a bank that holds its prompt as `shop_questions_zh`."""

    run: Path
    bank: Path
    said: Said


def call(*words: object) -> Said:
    """promptgraft WORDS..., in this process."""
    from promptgraft.cli.main import app  # not above: shapes are checked in what is imported from here on

    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="promptgraft")
    return Said(done.exit_code, done.stdout, done.stderr)
