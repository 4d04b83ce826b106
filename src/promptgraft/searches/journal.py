"""A journal keeps every answer of the models, so that a search that was killed goes on where it was.

Algorithms are deterministic: given the same answers they ask the same questions. So nothing of them is stored, a search
that is started again asks from the beginning and finds its answers here, up to the last one that was kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from promptgraft.errors import RunError
from promptgraft.prompt.atomic import naming
from promptgraft.untrusted import read_json


@dataclass(frozen=True)
class KeptAnswer:
    """An answer.

    Attributes:
        question: a hash over what was asked.
        passes, tokens, seconds: what it cost.
        answer: as JSON has it; None where it was refused, because it cost more than was left.
    """

    question: str
    passes: int
    tokens: int
    seconds: float
    answer: Any


class Journal:
    """The answers so far, on disk where there is a path; the first ones are those of before.

    Attributes:
        seconds: that the answers took which were recalled.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._kept: list[KeptAnswer] = []
        if path is not None and path.exists():
            self._kept = list(_whole(path))
        self._next = 0
        self.seconds = 0.0

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    def recall(self, question: str) -> KeptAnswer | None:
        """The answer that is kept of the next question; None where it was not answered before.

        Raises:
            RunError: another question was answered there.
        """
        if self._next == len(self._kept):
            return None
        entry = self._kept[self._next]
        if entry.question != question:
            raise RunError("was kept by another search", where=self.path, do="name another folder, or pass --replace")
        self._next += 1
        self.seconds += entry.seconds
        return entry

    def keep(self, entry: KeptAnswer) -> None:
        """Keep the answer of a new question."""
        self._kept.append(entry)
        self._next = len(self._kept)
        if self.path is None:
            return
        line = json.dumps([entry.question, entry.passes, entry.tokens, entry.seconds, entry.answer])
        with naming(self.path), self.path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _whole(path: Path) -> Iterator[KeptAnswer]:
    """The entries of a file; what a kill left of a last line is cut off.

    Raises:
        RunError: a line before the last one is damaged.
    """
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
    for number, line in enumerate(content[:end].splitlines(), 1):
        damaged = RunError("is damaged", where=f"{path}:{number}", do="remove it, or pass --replace")
        try:
            entry = read_json(line, None, RunError)
        except RunError:
            raise damaged from None
        if not _is_answer(entry):
            raise damaged
        yield KeptAnswer(*entry)


def _is_answer(entry: Any) -> bool:
    """Whether a line has the fields of a kept answer."""
    if not isinstance(entry, list) or len(entry) != len(fields(KeptAnswer)):
        return False
    question, passes, tokens, seconds, _ = entry
    return isinstance(question, str) and all(isinstance(value, int | float) for value in (passes, tokens, seconds))
