"""Prompts race: all are judged on some labelled rows, and only the best of these on every row.

Reading thousands of rows under 30 prompts costs far more than knowing exactly how good each is would be worth: those
that are far behind after a few hundred rows are not among the few that are kept (successive halving: Jamieson and
Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Int

from promptgraft.method.members import SourceRead
from promptgraft.task.draws import Array

RACERS, A_MEMBER = 8, 2
"""Prompts that are judged on all rows: so many, or so many for each that may be kept if these are more."""

Judge = Callable[[Sequence[SourceRead], Int[Array, "F"]], Iterable[float]]
"""The evidence for each source from rows, which are given by their place among all that are judged on."""


def rows_read(prompts: int, first: int, rows: int, members: int) -> int:
    """How many rows are read under prompts, all in all: by a race, where that takes fewer passes than none.

    Args:
        first: rows that every prompt is judged on.
        members: prompts that are kept, at most.
    """
    return min(prompts * rows, prompts * first + _racers(members) * rows)


def _racers(members: int) -> int:
    return max(RACERS, A_MEMBER * members)


def finalists(
    sources: Sequence[SourceRead], first: Int[Array, "F"], rows: int, members: int, judge: Judge
) -> list[SourceRead]:
    """The sources that are judged on all of so many rows: those with the most evidence from the first, in their order.

    Args:
        first: places of the first rows among all.
        members: prompts that are kept, at most.
    """
    if rows_read(len(sources), len(first), rows, members) == len(sources) * rows:
        return list(sources)
    evidence = np.fromiter(judge(sources, first), dtype=float)
    best = np.argsort(-evidence, kind="stable")[: _racers(members)]
    return [sources[place] for place in np.sort(best)]
