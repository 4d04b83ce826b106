"""Candidates race: all are scored on a few rows, the better half of them on twice as many, and so on to the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptgraft.searches.budget import SpentError
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.oracle import Oracle, RowScore

FIRST = 8
"""Rows that every candidate is scored on."""
SURE = 2.0
"""Standard errors by which a candidate must be worse than the best one to be out."""


@dataclass(frozen=True)
class Raced:
    """A candidate with what it answered to the first rows of an order.

    Attributes:
        scores: none where it cannot be used.
        rows: how many rows there are in all.
        problem: why it cannot be used.
    """

    candidate: Candidate
    scores: tuple[RowScore, ...]
    rows: int
    problem: str = ""

    @property
    def cost(self) -> float:
        """The mean cost of its rows; 1, the highest there is, where it cannot be used."""
        return sum(score.cost for score in self.scores) / len(self.scores) if self.scores else 1.0

    @property
    def is_whole(self) -> bool:
        """Whether it was scored on all rows, and not out before."""
        return len(self.scores) == self.rows

    @property
    def rank(self) -> tuple[bool, float]:
        """What results are sorted by: those scored on all rows come first, the best of them before the others."""
        return not self.is_whole, self.cost


def worse_by(scored: Sequence[RowScore], other: Sequence[RowScore]) -> tuple[float, float]:
    """By how much the first costs more than the second on the rows that both have, with the standard error of that."""
    gaps = np.array([mine.cost - its.cost for mine, its in zip(scored, other, strict=False)])
    if len(gaps) < 2:
        return float(gaps.mean()) if len(gaps) else 0.0, math.inf
    return float(gaps.mean()), float(gaps.std(ddof=1) / math.sqrt(len(gaps)))


def race(candidates: Sequence[Candidate], oracle: Oracle, best: Raced | None = None) -> list[Raced]:
    """Score candidates on a growing part of the rows (successive halving, Jamieson and Talwalkar 2016).

    After each part those are out that are worse than the best one by more than chance explains, and in any case the
    worse half of what is left. Where the budget does not suffice for all, the later ones are not scored.

    Args:
        best: the best one of earlier races, which those in this one are compared with as well.
    Returns: what was scored, in the order of the candidates, each candidate once.
    Raises:
        SpentError: not even one of them can be scored any further.
    """
    field = list({candidate.key: candidate for candidate in candidates}.values())
    order, total = {candidate.key: place for place, candidate in enumerate(field)}, len(oracle.examples)
    result: dict[str, Raced] = {}
    count = min(FIRST, total)
    while field:
        scored, is_cut = _scored(field, oracle, count)
        if not scored:
            if result:
                break
            raise SpentError
        result |= {entry.candidate.key: entry for entry in scored}
        if count == total or is_cut:
            break
        field = [entry.candidate for entry in _kept(scored, best)]
        count = min(2 * count, total)
    return sorted(result.values(), key=lambda entry: order[entry.candidate.key])


def score_all(candidates: Sequence[Candidate], oracle: Oracle) -> list[Raced]:
    """Score candidates on all rows, as many of them as the budget suffices for.

    Raises:
        SpentError: for none.
    """
    scored, _ = _scored(
        list({candidate.key: candidate for candidate in candidates}.values()), oracle, len(oracle.examples)
    )
    if not scored and candidates:
        raise SpentError
    return scored


def _scored(field: Sequence[Candidate], oracle: Oracle, count: int) -> tuple[list[Raced], bool]:
    """Candidates on the first rows, as many of them as can be paid for, and whether these are not all."""
    rows, total = range(count), len(oracle.examples)
    part = list(field)
    while part:
        try:
            scores = oracle.scores(part, rows)
        except SpentError:
            part = part[: len(part) // 2]
            continue
        entries = [
            Raced(candidate, tuple(own or ()), total, oracle.problem(candidate))
            for candidate, own in zip(part, scores, strict=True)
        ]
        return entries, len(part) < len(field)
    return [], True


def _kept(scored: Sequence[Raced], best: Raced | None) -> list[Raced]:
    """Those that stay in a race."""
    usable = sorted((entry for entry in scored if entry.scores), key=lambda entry: entry.cost)
    if not usable:
        return []
    rivals = [usable[0], *([] if best is None else [best])]
    hopeful = [
        entry
        for entry in usable
        if not any(gap > SURE * error for rival in rivals for gap, error in [worse_by(entry.scores, rival.scores)])
    ]
    return hopeful[: max(1, math.ceil(len(usable) / 2))]
