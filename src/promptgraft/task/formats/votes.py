"""Decides the label of a row with several annotators by majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

from promptgraft.task.formats.contract import Count

Vote = TypeVar("Vote", bound=Hashable)


def majority(votes: Sequence[Vote], count: Count) -> Vote | None:
    """The answer that most annotators give; None where there is none, or no answer has more votes than all others.

    Disagreement and ties are counted.
    """
    if not votes:
        return None
    ranked = Counter(votes).most_common(2)
    if len(ranked) == 1:
        return ranked[0][0]
    if ranked[0][1] == ranked[1][1]:
        count.add("rows whose annotators disagree without a majority, read as unlabelled")
        return None
    count.add("rows whose annotators disagree, labelled by the majority")
    return ranked[0][0]


def single(labels: Sequence[str], count: Count) -> str | None:
    """The single label of a row; None, counted, where it has several, which no kind of task supports yet."""
    if len(labels) > 1:
        count.add("rows with several labels, which no kind of task takes yet, read as unlabelled")
        return None
    return labels[0] if labels else None
