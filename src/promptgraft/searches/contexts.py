"""A template's words in a row of the task, so that a model can say what would stand in a phrase's place."""

from __future__ import annotations

import random
from dataclasses import dataclass

from promptgraft.searches.asker import Asker, WordGap
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.phrases import Phrases, cleaned
from promptgraft.searches.space import Space
from promptgraft.task.task import Example, Task
from promptgraft.template.parts import Blank, Field, TemplatePart
from promptgraft.template.template import content

SHOWN = 200
"""Characters of a row that a model sees around a gap."""
LIKELY = 8
"""Words that are asked for in a gap; one of them is drawn."""


@dataclass(frozen=True)
class Place:
    """A phrase of a candidate's template that a model is to fill: units `first` to `last - 1`, or none."""

    candidate: Candidate
    phrases: Phrases
    first: int
    last: int


def gap_of(place: Place, example: Example, task: Task) -> WordGap:
    """The text around a phrase, with a row in the template and what its label says at the answer's place."""
    answer = place.candidate.answer_of(example, task)[:SHOWN]

    def text(units: tuple[str | TemplatePart, ...]) -> str:
        return "".join(_shown(unit, example, answer) for unit in units)

    units = place.phrases.units
    before, after = text(units[: place.first]), text(units[place.last :])
    spaced = "" if place.phrases.is_chinese or not before or before[-1].isspace() else " "
    return WordGap(before + spaced, after)


def _shown(unit: str | TemplatePart, example: Example, answer: str) -> str:
    if isinstance(unit, str):
        return unit
    if isinstance(unit, Field):
        return content(unit.name, example)[:SHOWN]
    return answer if isinstance(unit, Blank) else ""


def filled(places: list[Place], space: Space, asker: Asker, generator: random.Random) -> list[str]:
    """For each place a word that the model finds likely there, in a row drawn at random; empty where it has none."""
    gaps = [gap_of(place, generator.choice(space.rows), space.task) for place in places]
    answers = asker.likely_words(gaps, LIKELY)
    return [cleaned(generator.choice(words)[0]) if words else "" for words in answers]
