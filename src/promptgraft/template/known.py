"""The library of templates: found by name, listed by language, style, family and kind of task."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from promptgraft.arguments import checked
from promptgraft.errors import UsageError, nearest, quoted, unknown
from promptgraft.template.parts import Blank, Field
from promptgraft.template.template import Template

Style = Literal["cloze", "question", "descriptive"]
"""A sentence with a gap; a question about the text; a description of the work, then the text."""
STYLES: tuple[Style, ...] = get_args(Style)
LIBRARY = Path(__file__).parent / "library"
EXPECTED = "give a name of `promptgraft templates list`, or a text such as '{text} It was {mask}.'"
"""What a template is given as."""


@dataclass(frozen=True)
class KnownTemplate:
    """A template with what it is for; one of a user's own has its text alone.

    Attributes:
        text: as `Template.parse` reads it.
        kinds: kinds of task that it fits.
        words: usual label -> the words that stand for it, the first the most usual; none where answers are free.
    """

    text: str
    name: str = ""
    language: str = ""
    style: str = ""
    family: str = ""
    kinds: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def template(self) -> Template:
        """The template itself."""
        return Template.parse(self.text)

    @property
    def left_to_right(self) -> bool:
        """Whether a model that only looks back sees all fields before it answers."""
        parts = self.template.parts
        blank = next((at for at, part in enumerate(parts) if isinstance(part, Blank)), len(parts))
        return not any(isinstance(part, Field) for part in parts[blank:])


@cache
def index() -> dict[str, KnownTemplate]:
    """Name -> template, for all of the library."""
    return {template.name: template for path in sorted(LIBRARY.glob("*.toml")) for template in _read(path)}


def _read(path: Path) -> Iterator[KnownTemplate]:
    """The templates of one family's file."""
    content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    sets = {
        name: {label: tuple(words) for label, words in labels.items()}
        for name, labels in content.get("words", {}).items()
    }
    for entry in content["templates"]:
        words = sets[entry["words"]] if "words" in entry else {}
        yield KnownTemplate(
            entry["text"],
            entry["name"],
            entry["language"],
            entry["style"],
            content["family"],
            tuple(content["kinds"]),
            words,
        )


@checked
def templates(
    *, language: str | None = None, style: str | None = None, family: str | None = None, kind: str | None = None
) -> tuple[KnownTemplate, ...]:
    """The templates of the library, all or those of a language, style, family or kind of task.

    Raises:
        UsageError: the library has no such language, style, family or kind.
    """
    entries = index().values()
    known = {
        "language": {entry.language for entry in entries},
        "style": {entry.style for entry in entries},
        "family": {entry.family for entry in entries},
        "kind": {name for entry in entries for name in entry.kinds},
    }
    wanted = {"language": language, "style": style, "family": family, "kind": kind}
    for what, name in wanted.items():
        if name is not None and name not in known[what]:
            raise unknown(f"{what} of templates", name, known[what])
    return tuple(
        entry
        for entry in entries
        if language in (None, entry.language)
        and style in (None, entry.style)
        and family in (None, entry.family)
        and (kind is None or kind in entry.kinds)
    )


@checked
def find_template(name: str) -> KnownTemplate:
    """A template of the library by its name.

    Raises:
        UsageError: there is no template of this name.
    """
    return _found(name, "see `promptgraft templates list`")


def _found(name: str, do: str) -> KnownTemplate:
    """A template by its name; where none is of a name like it, the error says what to do."""
    if name not in index():
        near = nearest(name, index())
        raise UsageError(f"unknown template {quoted(name)}", do=do if near is None else f"did you mean {near!r}?")
    return index()[name]


def open_template(given: str) -> KnownTemplate:
    """A template by its name in the library, or the one that a text with slots in braces describes.

    Raises:
        UsageError: it is neither.
    """
    if "{" in given:
        template = KnownTemplate(given)
        return KnownTemplate(str(template.template))
    if any(character.isspace() for character in given.strip()):
        raise UsageError(f"the template {quoted(given)} has no slot", do="write {text} where the row's text stands")
    return _found(given, EXPECTED)
