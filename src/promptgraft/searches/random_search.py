"""Random search: a template at random with a few of its words changed at random; what any algorithm has to beat."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from promptgraft.searches.algorithm import Algorithm, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.phrases import Phrases, edited
from promptgraft.searches.space import Space

AT_ONCE, MOST_EDITS = 16, 4


@register
class RandomSearch(Algorithm):
    """Candidates are drawn independently of each other, over the space that edits of words reach.

    A template that fits (the start, or one of the library), of which up to four words are replaced by, deleted, swapped
    with, or joined by words drawn from the model's vocabulary. Bergstra and Bengio 2012 is the case for taking it
    seriously.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "templates with a few words changed at random"

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self._begun = False

    def propose(self) -> Sequence[Candidate]:
        if not self._begun:
            self._begun = True
            return [self.space.start]
        bases = [self.space.start, *self.space.library]
        drawn = (random_edits(self.random.choice(bases), self.space, self.random) for _ in range(AT_ONCE))
        return [candidate for candidate in drawn if candidate is not None]


def random_edits(candidate: Candidate, space: Space, generator: random.Random) -> Candidate | None:
    """A candidate with a few random edits; None where nothing changed."""
    phrases = Phrases.of(candidate.template, is_chinese=space.is_chinese)
    vocabulary = list(space.vocabulary)
    for _ in range(generator.randint(1, MOST_EDITS)):
        phrases = _edit(phrases, vocabulary, space.left_to_right, generator)
    return edited(candidate, phrases, "random words")


def _edit(phrases: Phrases, vocabulary: Sequence[str], left_to_right: bool, generator: random.Random) -> Phrases:
    """One random edit."""
    kinds = ["delete", "swap"] if phrases.words else []
    kinds += (["add", "replace"] if phrases.words else ["add"]) if vocabulary else []
    if not kinds:
        return phrases
    kind = generator.choice(kinds)
    if kind == "add":
        return phrases.inserted(generator.choice(phrases.places(left_to_right)), generator.choice(vocabulary))
    place = generator.choice(phrases.words)
    if kind == "swap":
        first, second = sorted([place, generator.choice(phrases.words)])
        return phrases if first == second else phrases.swapped((first, first + 1), (second, second + 1))
    return phrases.replaced(place, place + 1, generator.choice(vocabulary) if kind == "replace" else "")
