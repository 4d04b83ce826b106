"""Evolution keeps a population of templates: children combine the words of parents, and a model mutates them."""

from __future__ import annotations

import difflib
import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from promptgraft.searches.algorithm import Algorithm, Skill, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.contexts import Place, filled
from promptgraft.searches.phrases import Phrases, edited
from promptgraft.searches.race import Raced
from promptgraft.searches.random_search import random_edits
from promptgraft.searches.space import Space
from promptgraft.template.parts import TemplatePart

POPULATION = 8
"""Members (the paper takes 10)."""
LONGEST_MUTATION = 2
"""Words that a mutation replaces."""

Segments = tuple[tuple[str, ...], ...]
"""The words before the first slot of a template, between its slots, and behind the last one."""


class Evolution(Algorithm):
    """What genetic and differential evolution share (Guo et al. 2024, EvoPrompt).

    Where the paper asks a large chat model to cross over and mutate, words are crossed over between slots, and a
    mutation is a word that the model finds likely in a phrase's place. The population begins with the library's
    templates, and random edits where these are few.
    """

    needs: ClassVar[frozenset[Skill]] = frozenset({"words"})

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self.population: list[Raced] = []

    def propose(self) -> Sequence[Candidate]:
        return self.first() if len(self.population) < 2 else self.children()

    @abstractmethod
    def children(self) -> Sequence[Candidate]:
        """The next candidates, of the present population."""

    def first(self) -> list[Candidate]:
        """The first members: the start, the library's, and random edits of these."""
        known = [entry.candidate for entry in self.population]
        members = list({entry.key: entry for entry in (*known, self.space.start, *self.space.library)}.values())
        for _ in range(4 * POPULATION):
            if len(members) >= POPULATION:
                break
            member = random_edits(self.random.choice(members), self.space, self.random)
            members += [] if member is None else [member]
        return members[:POPULATION]

    def phrases(self, candidate: Candidate) -> Phrases:
        return Phrases.of(candidate.template, is_chinese=self.space.is_chinese)

    def mutated(self, parents: Sequence[Candidate], drafts: Sequence[Phrases], origin: str) -> list[Candidate]:
        """Each draft with a phrase replaced by a word that the model finds likely there."""
        places = [
            Place(parent, draft, *self.random.choice(draft.spans(LONGEST_MUTATION)))
            for parent, draft in zip(parents, drafts, strict=True)
            if draft.words
        ]
        words = filled(places, self.space, self.asker, self.random)
        results = [
            edited(place.candidate, place.phrases.replaced(place.first, place.last, word), origin)
            for place, word in zip(places, words, strict=True)
            if word
        ]
        return [result for result in results if result is not None]


@register
class Genetic(Evolution):
    """A genetic algorithm (EvoPrompt, algorithm 2).

    Parents are drawn by a roulette wheel, in proportion to their scores; a child is their crossover, mutated; of
    parents and children together the best stay.
    """

    name: ClassVar[str] = "genetic"
    summary: ClassVar[str] = "a population of templates, crossed over and mutated by a model"

    def children(self) -> Sequence[Candidate]:
        weights = [1 - entry.cost for entry in self.population]
        pairs = [self.random.choices(self.population, weights, k=2) for _ in range(POPULATION)]
        parents = [mother.candidate for mother, _ in pairs]
        drafts = [
            crossed(self.phrases(mother.candidate), self.phrases(father.candidate), self.random)
            for mother, father in pairs
        ]
        return self.mutated(parents, drafts, "crossover and mutation")

    def observe(self, scored: Sequence[Raced]) -> None:
        both = {entry.candidate.key: entry for entry in (*scored, *self.population) if entry.scores}
        self.population = sorted(both.values(), key=lambda entry: entry.rank)[:POPULATION]


@register
class Differential(Evolution):
    """Differential evolution (EvoPrompt, algorithm 3).

    For each member two others are drawn; a phrase in which they differ is mutated and put into the best one's words,
    which are crossed over with the member's; the child takes the member's place if it is better.
    """

    name: ClassVar[str] = "differential"
    summary: ClassVar[str] = "a population in which children take what others differ in into the best"

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self._parents: dict[str, int] = {}

    def children(self) -> Sequence[Candidate]:
        best = min(self.population, key=lambda entry: entry.rank).candidate
        places, members = [], []
        for number in range(len(self.population)):
            others = [entry.candidate for entry in self.population if entry is not self.population[number]]
            first, second = self.random.sample(others, 2) if len(others) > 1 else (others[0], others[0])
            phrases = self.phrases(first)
            options = differing(phrases, self.phrases(second)) or phrases.spans(LONGEST_MUTATION)
            if options:
                places.append(Place(first, phrases, *self.random.choice(options)))
                members.append(number)
        words = filled(places, self.space, self.asker, self.random)
        children: dict[str, int] = {}
        result = []
        for number, word in zip(members, words, strict=True):
            donor = self._donor(self.phrases(best), word)
            draft = crossed(donor, self.phrases(self.population[number].candidate), self.random)
            child = edited(replace(best, origin=""), draft, "what two differ in, into the best")
            if child is not None:
                children[child.key] = number
                result.append(child)
        self._parents = children
        return result

    def _donor(self, best: Phrases, word: str) -> Phrases:
        """The best one's words with a mutated word in the place of one of them, or beside them."""
        if not word:
            return best
        if best.words:
            return best.replaced(*self.random.choice(best.spans(LONGEST_MUTATION)), word)
        return best.inserted(self.random.choice(best.places(self.space.left_to_right)), word)

    def observe(self, scored: Sequence[Raced]) -> None:
        if not self._parents:
            self.population = [entry for entry in scored if entry.scores]
            return
        for entry in scored:
            number = self._parents.get(entry.candidate.key)
            if number is not None and entry.scores and entry.rank < self.population[number].rank:
                self.population[number] = entry


def segments(phrases: Phrases) -> tuple[Segments, tuple[TemplatePart, ...]]:
    """The words of a template by the slots that they stand between, and its slots."""
    groups: list[list[str]] = [[]]
    slots: list[TemplatePart] = []
    for unit in phrases.units:
        if isinstance(unit, str):
            groups[-1].append(unit)
        else:
            slots.append(unit)
            groups.append([])
    return tuple(map(tuple, groups)), tuple(slots)


def crossed(first: Phrases, second: Phrases, generator: random.Random) -> Phrases:
    """A child of two templates: between slots, the first words of one and the last words of the other.

    Where their slots stand in another order, the child is the first one.
    """
    (mine, slots), (its, others) = segments(first), segments(second)
    if slots != others:
        return first
    units: list[str | TemplatePart] = []
    for number, (own, other) in enumerate(zip(mine, its, strict=True)):
        if generator.random() < 0.5:
            own, other = other, own
        cut = generator.randint(0, min(len(own), len(other)))
        units += [*own[:cut], *other[cut:]]
        units += slots[number : number + 1]
    return replace(first, units=tuple(units))


def differing(first: Phrases, second: Phrases) -> list[tuple[int, int]]:
    """The phrases of one template that another does not have."""
    mine, its = (
        [unit.strip() if isinstance(unit, str) else str(unit) for unit in phrases.units] for phrases in (first, second)
    )
    matcher = difflib.SequenceMatcher(a=mine, b=its, autojunk=False)
    changed = {
        place for kind, start, end, _, _ in matcher.get_opcodes() if kind != "equal" for place in range(start, end)
    }
    return [
        (start, end) for start, end in first.spans(LONGEST_MUTATION) if all(at in changed for at in range(start, end))
    ]
