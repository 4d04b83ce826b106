"""The board holds what was scored so far: the best, how it came to be that, and whether anything is still gained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from promptgraft.searches.race import Raced, worse_by

PATIENCE = 0.4
"""The share of the budget after which a search ends that gained nothing beyond noise meanwhile."""


@dataclass(frozen=True)
class Point:
    """A moment at which a search had a new best candidate.

    Attributes:
        passes: made so far.
        cost: mean over the search rows.
        score: on the search rows in percent: right answers, or the mean probability of the tokens of texts.
        origin: how it came about.
    """

    passes: int
    cost: float
    score: float
    template: str
    verbalizer: str
    origin: str


@dataclass
class Board:
    """What was scored.

    Attributes:
        passes: the whole budget.
        written: whether the rows' answers are texts to be written.
        best: the best so far.
        curve: its history.
    """

    passes: int
    written: bool = False
    best: Raced | None = None
    curve: list[Point] = field(default_factory=list)
    _all: dict[str, Raced] = field(default_factory=dict)
    _sure: Raced | None = None
    _since: int = 0

    def add(self, scored: Sequence[Raced], spent: int) -> None:
        """Note what was scored when so many passes were made."""
        usable = [entry for entry in scored if entry.scores]
        for entry in usable:
            known = self._all.get(entry.candidate.key)
            if known is None or len(entry.scores) > len(known.scores):
                self._all[entry.candidate.key] = entry
        first = min(usable, key=lambda entry: entry.rank, default=None)
        if first is not None and (self.best is None or first.rank < self.best.rank):
            self._lead(first, spent)

    def _lead(self, entry: Raced, spent: int) -> None:
        self.best = entry
        if self._sure is None or not self._sure.is_whole:
            self._sure, self._since = entry, spent
        else:
            gap, error = worse_by(self._sure.scores, entry.scores)
            if gap > error:
                self._sure, self._since = entry, spent
        candidate = entry.candidate
        score = 100 * sum(row.merit(written=self.written) for row in entry.scores) / len(entry.scores)
        self.curve.append(Point(spent, entry.cost, score, candidate.template, candidate.verbalizer, candidate.origin))

    def is_stuck(self, spent: int) -> bool:
        """Whether nothing was gained beyond noise (a standard error) for a good part of the budget."""
        return self.best is not None and spent - self._since > PATIENCE * self.passes

    def finalists(self, count: int) -> list[Raced]:
        """The best candidates."""
        return sorted(self._all.values(), key=lambda entry: entry.rank)[:count]
