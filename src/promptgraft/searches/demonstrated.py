"""Searches for the labelled rows that a template shows as demonstrations, and for their order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from promptgraft.searches.algorithm import Algorithm, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.race import Raced
from promptgraft.searches.space import Space

AT_ONCE = 8
FIRST, MOST = 4, 8
"""Rows that the first candidates show, and any shows at most."""


@register
class Demonstrations(Algorithm):
    """A local search over the rows that a template shows, and their order.

    The best set so far is changed by one step: a row for another (Zhang et al. 2022), two rows in each other's place,
    since the order alone can decide (Lu et al. 2022), one row more, or one less. A row that is asked about is never
    shown to itself.
    """

    name: ClassVar[str] = "demonstrations"
    summary: ClassVar[str] = "which labelled rows a template shows, in which order"

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self.best: Raced | None = None

    def propose(self) -> Sequence[Candidate]:
        count, rows = min(FIRST, len(self.space.rows)), range(len(self.space.rows))
        if self.best is None:
            drawn = [tuple(self.random.sample(rows, count)) for _ in range(2 * AT_ONCE)]
            return [self.space.start, *(self._showing(shown, "drawn") for shown in drawn)]
        if not self.best.candidate.shown:
            return [self._showing(tuple(self.random.sample(rows, count)), "drawn") for _ in range(AT_ONCE)]
        return [self._step(self.best.candidate.shown) for _ in range(AT_ONCE)]

    def observe(self, scored: Sequence[Raced]) -> None:
        best = min(scored, key=lambda entry: entry.rank, default=None)
        if best is not None and best.scores and (self.best is None or best.rank < self.best.rank):
            self.best = best

    def _showing(self, shown: tuple[int, ...], origin: str) -> Candidate:
        if not shown:
            return self.space.start
        template = f'{{demos:{len(shown)}:"\\n\\n"}}{self.space.start.template.lstrip()}'
        return replace(self.space.start, template=template, shown=shown, origin=f"demonstrations: {origin}")

    def _step(self, shown: tuple[int, ...]) -> Candidate:
        """A set of rows that differs by one step."""
        rest = [row for row in range(len(self.space.rows)) if row not in shown]
        kinds = ["less"] + ["swap"] * (len(shown) > 1) + ["other"] * bool(rest)
        kinds += ["more"] * (bool(rest) and len(shown) < MOST)
        kind, rows, place = self.random.choice(kinds), list(shown), self.random.randrange(len(shown))
        if kind == "less":
            del rows[place]
        elif kind == "other":
            rows[place] = self.random.choice(rest)
        elif kind == "more":
            rows.insert(place, self.random.choice(rest))
        else:
            other = self.random.choice([at for at in range(len(rows)) if at != place])
            rows[place], rows[other] = rows[other], rows[place]
        return self._showing(tuple(rows), f"{kind} row")
