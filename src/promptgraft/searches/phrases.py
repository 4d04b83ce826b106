"""A template as words that can be edited and slots that stay where they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from promptgraft.errors import UsageError
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.space import Space
from promptgraft.template.parts import Blank, TemplatePart, Wording
from promptgraft.template.template import Template

CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
PIECE = re.compile(rf"\s*(?:[{CJK}]|[^\s{CJK}]+)|\s+$")
"""A word with the space before it; of scripts without spaces a character; or the space at an end."""
MOST_WORDS = 60
"""Words of a template that an edit leaves at most, those of demonstrations apart."""


@dataclass(frozen=True)
class Phrases:
    """The words of a template, in order, with its slots between them.

    Attributes:
        units: a text is a word with the space before it.
        is_chinese: whether words stand side by side without a space.
    """

    units: tuple[str | TemplatePart, ...]
    is_chinese: bool

    @classmethod
    def of(cls, template: str, *, is_chinese: bool) -> Phrases:
        """The words of a template's text."""
        units: list[str | TemplatePart] = []
        for part in Template.parse(template).parts:
            units += PIECE.findall(part.text) if isinstance(part, Wording) else [part]
        return cls(tuple(units), is_chinese)

    def __str__(self) -> str:
        parts = (Wording(unit) if isinstance(unit, str) else unit for unit in self.units)
        return str(Template(tuple(parts)))

    @property
    def words(self) -> list[int]:
        """Where its words are."""
        return [place for place, unit in enumerate(self.units) if isinstance(unit, str) and unit.strip()]

    def spans(self, most: int) -> list[tuple[int, int]]:
        """The phrases of up to so many words side by side: first word, and one past the last."""
        words = set(self.words)
        return [
            (first, last)
            for first in self.words
            for last in range(first + 1, first + most + 1)
            if all(place in words for place in range(first, last))
        ]

    def text(self, first: int, last: int) -> str:
        """The words of a phrase."""
        return "".join(unit for unit in self.units[first:last] if isinstance(unit, str)).strip()

    def replaced(self, first: int, last: int, words: str) -> Phrases:
        """With other words in the place of a phrase; with none it is deleted."""
        before = self.units[first]
        lead = before[: len(before) - len(before.lstrip())] if isinstance(before, str) else ""
        new = [lead + words] if words else []
        return replace(self, units=(*self.units[:first], *new, *self.units[last:]))

    def swapped(self, one: tuple[int, int], two: tuple[int, int]) -> Phrases:
        """With two phrases, the first before the second, in each other's place."""
        earlier, later = self.text(*one), self.text(*two)
        return self.replaced(*two, earlier).replaced(*one, later)

    def inserted(self, place: int, words: str) -> Phrases:
        """With words before a unit; at the end, behind all of them. `places` says where."""
        if self.is_chinese:
            return replace(self, units=(*self.units[:place], words, *self.units[place:]))
        follows = self.units[place] if place < len(self.units) else " "
        touches = not isinstance(follows, str) or not follows[:1].isspace()
        text = f"{' ' if place else ''}{words}{' ' if touches else ''}"
        return replace(self, units=(*self.units[:place], text, *self.units[place:]))

    def places(self, left_to_right: bool) -> list[int]:
        """Where words can be inserted: anywhere, before the answer where nothing may stand behind it.

        Space that stands before a slot stays before it.
        """
        blank = next((place for place, unit in enumerate(self.units) if isinstance(unit, Blank)), len(self.units))
        last = blank if left_to_right else len(self.units)
        spaces = {place + 1 for place, unit in enumerate(self.units) if isinstance(unit, str) and not unit.strip()}
        return [place for place in range(last + 1) if place not in spaces]


def edited(candidate: Candidate, phrases: Phrases, origin: str) -> Candidate | None:
    """The candidate with other words in its template; None where they are none, or too many."""
    if len(phrases.words) > MOST_WORDS:
        return None
    try:
        template = str(Template.parse(str(phrases)))
    except UsageError:
        return None
    return None if template == candidate.template else replace(candidate, template=template, origin=origin)


def with_words(space: Space, words: Sequence[str], origin: str) -> Candidate | None:
    """The template that edits begin with, with words right before its answer; None where they are too many."""
    phrases = Phrases.of(space.start.template, is_chinese=space.is_chinese)
    for word in words:
        blank = next(place for place, unit in enumerate(phrases.units) if isinstance(unit, Blank))
        places = [place for place in phrases.places(space.left_to_right) if place <= blank]
        phrases = phrases.inserted(places[-1], word)
    return edited(space.start, phrases, origin)


def cleaned(text: str, most: int = 12) -> str:
    """What a model wrote as words for a template: one line, no space around, not more than so many words."""
    pieces = PIECE.findall(" ".join(text.split()))
    return "".join(pieces[:most]).strip()
