"""What a template is made of: its own words, and slots for fields, the answer, vectors and demonstrations."""

from __future__ import annotations

import json
from dataclasses import dataclass

from promptgraft.errors import UsageError

FIELDS = ("text", "text_a", "text_b", "choices")
"""Slots that a row's own texts fill: its text, or its first and second text, or its options."""
MOST_VECTORS = 512
"""No position of a model is left beyond about as many."""
MOST_DEMONSTRATIONS = 256
NEWLINE = "\n"
NEAR = "near"
"""What follows the number of demonstrations that are chosen for each row."""


@dataclass(frozen=True, slots=True)
class Wording:
    """Words of the template itself; they are never cut."""

    text: str

    def __str__(self) -> str:
        return self.text.replace("{", "{{").replace("}", "}}")


@dataclass(frozen=True, slots=True)
class Field:
    """The place of one of the row's own texts."""

    name: str

    def __str__(self) -> str:
        return f"{{{self.name}}}"


@dataclass(frozen=True, slots=True)
class Blank:
    """The one place of the answer: where a masked model has its mask and the others begin to write."""

    def __str__(self) -> str:
        return "{mask}"


@dataclass(frozen=True, slots=True)
class Soft:
    """Vectors that are trained: a number of them, or as many as some words have tokens, started from these.

    Raises:
        UsageError: no vector, or more than a model has places for.
    """

    count: int | None = None
    words: str | None = None

    def __post_init__(self) -> None:
        if (self.count is None) == (self.words is None):
            raise ValueError("either a number of vectors or words")
        if self.count is not None and not 1 <= self.count <= MOST_VECTORS:
            raise UsageError(f"{{soft:{self.count}}} in the template", do=f"give 1 to {MOST_VECTORS} vectors")
        if self.words is not None and not self.words.strip():
            raise UsageError(f"{self} in the template has no words", do='write {soft:"It was"} or {soft:5}')

    def __str__(self) -> str:
        return f"{{soft:{self.count if self.words is None else json.dumps(self.words, ensure_ascii=False)}}}"


@dataclass(frozen=True, slots=True)
class Demos:
    """Labelled examples, each the line that follows with its answer filled in, and what stands between them.

    Attributes:
        near: every row is shown the examples that are nearest to it; else all rows are shown the same, drawn by seed.
    Raises:
        UsageError: no example, or more than anyone means.
    """

    count: int
    separator: str = NEWLINE
    near: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_DEMONSTRATIONS:
            raise UsageError(f"{{demos:{self.count}}} in the template", do=f"give 1 to {MOST_DEMONSTRATIONS} examples")

    def __str__(self) -> str:
        separator = "" if self.separator == NEWLINE else f":{json.dumps(self.separator, ensure_ascii=False)}"
        return f"{{demos:{self.count}{f' {NEAR}' if self.near else ''}{separator}}}"


@dataclass(frozen=True, slots=True)
class FieldText:
    """What a row has for a field: the only part of a filled template that may be cut, from its right end.

    Attributes:
        field: the field's name.
    """

    text: str
    field: str


TemplatePart = Wording | Field | Blank | Soft | Demos
FilledPart = Wording | FieldText | Blank | Soft
Filled = tuple[FilledPart, ...]
"""A template with a row in it."""
