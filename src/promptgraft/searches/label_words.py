"""The words of labels are searched by the model's own distribution at the answer's place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from promptgraft.searches.algorithm import Algorithm, Skill, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.space import Space

OF_A_CLASS = 20
"""Likeliest words of a class that are kept (the paper's k is 30 to 100)."""
BEAM = 500
"""Combinations of the words of the first classes that the next class's are joined to."""
AT_ONCE = 16


@register
class LabelWordSearch(Algorithm):
    """Automatic selection of label words (Gao et al. 2021, LM-BFF, section 5.1, equations 3 and 4).

    Of each class the words are kept that the model finds likeliest at the answer's place of the class's rows; the
    combinations of one word a class, the likeliest in all first, are tried on the search rows. The start's template is
    taken, then those of the library.
    """

    name: ClassVar[str] = "label-words"
    summary: ClassVar[str] = "words of labels by what the model says itself"
    needs: ClassVar[frozenset[Skill]] = frozenset({"words"})
    of_labels: ClassVar[bool] = True

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        templates = () if space.fixed_words else (space.start, *space.library)
        self._templates = list({entry.template: entry for entry in templates}.values())
        self._mappings: list[Candidate] = []
        self._begun = False

    def propose(self) -> Sequence[Candidate]:
        if not self._begun:
            self._begun = True
            return [self.space.start]
        while len(self._mappings) < AT_ONCE and self._templates:
            self._mappings += self._of(self._templates.pop(0))
        batch, self._mappings = self._mappings[:AT_ONCE], self._mappings[AT_ONCE:]
        return batch

    def _of(self, candidate: Candidate) -> list[Candidate]:
        """The best combinations of words under a template."""
        found = self.asker.label_words(candidate, OF_A_CLASS)
        classes = [label for label, _ in candidate.words]
        return [
            replace(candidate, words=tuple((label, (word,)) for label, word in zip(classes, words, strict=True)),
                    origin="label words")
            for words in mappings(found, 4 * AT_ONCE)
        ] if found else []  # fmt: skip


def mappings(found: Sequence[Sequence[tuple[str, float]]], most: int) -> list[tuple[str, ...]]:
    """The combinations of one word a class, no word twice, with the highest sum of log-probabilities first.

    Class after class gets its words, and of what there is for the classes so far the best go on (a beam).
    """
    beam: list[tuple[float, tuple[str, ...]]] = [(0.0, ())]
    for words in found:
        longer = [(total + own, (*chosen, word)) for total, chosen in beam for word, own in words if word not in chosen]
        beam = sorted(longer, key=lambda pair: -pair[0])[:BEAM]
    return [words for _, words in beam[:most]]
