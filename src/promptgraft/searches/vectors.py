"""Derivative-free search of soft prompts: CMA-ES in a small space of the vectors that stand in a template."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Float

from promptgraft.errors import MissingExtraError
from promptgraft.prompt.prompt import Prompt
from promptgraft.searches.algorithm import Algorithm, Skill, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.phrases import Phrases
from promptgraft.searches.race import Raced
from promptgraft.searches.space import Space
from promptgraft.task.draws import Array
from promptgraft.template.parts import Blank, Soft, Wording
from promptgraft.template.template import Template

if TYPE_CHECKING:
    from cmaes import CMA, SepCMA

VECTORS = 5
"""Vectors before the answer (the paper has 50, with a subspace of 500, on a large model and 16 labels a class)."""
SUBSPACE = 64
"""Dimensions that are searched."""
SIGMA = 1.0
"""The first step, in deviations of the model's embeddings."""
POPULATION = 16


class VectorSearch(Algorithm):
    """What searches over vectors share (Sun et al. 2022, black-box tuning, sections 3 and 4).

    Vectors stand in the template before the answer; they are words drawn from the vocabulary plus a random projection
    of a point in a small space, which has the deviation of the model's embeddings. All candidates of a round are one
    product and one packed batch.

    Where a bank is given, the space is the span of its prompts (`BankedSpan`), and a search that begins with one of
    them scores it as it is before anything is changed.
    """

    needs: ClassVar[frozenset[Skill]] = frozenset({"vectors"})
    races: ClassVar[bool] = False

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self.draws = np.random.default_rng(generator.getrandbits(63))
        table = asker.embeddings([generator.choice(list(space.vocabulary)) for _ in range(VECTORS)])
        span = space.banked
        self._centre = table if span is None else span.centre
        if span is not None and span.directions is not None:
            self._directions = span.directions[:SUBSPACE]
        else:
            scale = float(table.std()) / np.sqrt(SUBSPACE)
            self._directions = self.draws.normal(0.0, scale, (SUBSPACE, self._centre.size))
        self._template = with_vectors(space, len(self._centre), begins=span is not None and span.begins)
        self._asked: dict[str, Float[Array, "D"]] = {}
        self._first = [space.start]
        if span is not None and span.starts:
            self._first += self._candidates(np.zeros((1, self.size)), "the prompt of the bank")

    @property
    def size(self) -> int:
        """The dimensions that are searched."""
        return len(self._directions)

    @abstractmethod
    def points(self) -> Float[Array, "N D"]:
        """The points to try next."""

    def told(self, points: Sequence[tuple[Float[Array, "D"], float]]) -> None:
        """Take note of the costs of points."""

    def propose(self) -> Sequence[Candidate]:
        if self._first:
            return [self._first.pop(0)]  # alone: what has vectors shares no batch with what has none
        points = self.points()
        candidates = self._candidates(points, "vectors")
        self._asked = {candidate.key: point for candidate, point in zip(candidates, points, strict=True)}
        return candidates

    def _candidates(self, points: Float[Array, "N D"], origin: str) -> list[Candidate]:
        """The candidates at some points."""
        values = torch.from_numpy(self._centre.ravel() + points @ self._directions).float()
        prompts = [Prompt(value, "template") for value in values.view(len(points), *self._centre.shape)]
        return [replace(self.space.start, template=self._template, vectors=prompt, origin=origin) for prompt in prompts]

    def observe(self, scored: Sequence[Raced]) -> None:
        known = [entry for entry in scored if entry.candidate.key in self._asked]
        self.told([(self._asked[entry.candidate.key], entry.cost) for entry in known])


@register
class RandomVectors(VectorSearch):
    """Points drawn from the distribution that CMA-ES begins with: the placebo of searches over vectors."""

    name: ClassVar[str] = "random-vectors"
    summary: ClassVar[str] = "vectors at random: the placebo of cma-es"

    def points(self) -> Float[Array, "N D"]:
        return self.draws.normal(0.0, SIGMA, (POPULATION, self.size))


@register
class CmaEs(VectorSearch):
    """CMA-ES over the subspace, by the library `cmaes` (Hansen 2016, the CMA evolution strategy: a tutorial)."""

    name: ClassVar[str] = "cma-es"
    summary: ClassVar[str] = "vectors by CMA-ES in a random subspace, or a bank's (extra `search`)"
    separable: ClassVar[bool] = False

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self._strategy = strategy(self.size, SIGMA, int(self.draws.integers(2**31)), separable=self.separable)

    def points(self) -> Float[Array, "N D"]:
        return np.stack([self._strategy.ask() for _ in range(self._strategy.population_size)])

    def told(self, points: Sequence[tuple[Float[Array, "D"], float]]) -> None:
        if len(points) == self._strategy.population_size:  # a round that was cut by the budget says too little
            self._strategy.tell(list(points))


@register
class SeparableCmaEs(CmaEs):
    """The same with a diagonal covariance (Ros and Hansen 2008), which learns in fewer rounds."""

    name: ClassVar[str] = "sep-cma-es"
    summary: ClassVar[str] = "the same with a diagonal covariance"
    separable: ClassVar[bool] = True


def strategy(size: int, sigma: float, seed: int, *, separable: bool) -> CMA | SepCMA:
    """The library's strategy.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import cmaes
    except ImportError as error:
        raise MissingExtraError("CMA-ES", "search") from error
    kind = cmaes.SepCMA if separable else cmaes.CMA
    return kind(mean=np.zeros(size), sigma=sigma, seed=seed, population_size=POPULATION)


def with_vectors(space: Space, count: int, *, begins: bool = False) -> str:
    """The start's template with vectors before its answer.

    Args:
        begins: before all of its words instead.
    """
    phrases = Phrases.of(space.start.template, is_chinese=space.is_chinese)
    blank = next(place for place, unit in enumerate(phrases.units) if isinstance(unit, Blank))
    place = 0 if begins else [place for place in phrases.places(space.left_to_right) if place <= blank][-1]
    parts = [Wording(unit) if isinstance(unit, str) else unit for unit in phrases.units]
    return str(Template((*parts[:place], Soft(count), *parts[place:])))
