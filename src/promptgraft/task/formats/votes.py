"""Decides the labels of a row from the answers of one annotator or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
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


def has_several(answers: Iterable[Sequence[str]]) -> bool:
    """Whether some answer is several labels, so that all rows have lists of them."""
    return any(len(labels) > 1 for labels in answers)


def voted_labels(answers: Sequence[Sequence[str]], count: Count, *, several: bool) -> str | list[str] | None:
    """The label, or of `several` the labels, that most annotators give a row; None where no one has answered.

    Of several, each label is voted on by itself, and disagreement is counted.

    Args:
        answers: the labels that each annotator gave.
    """
    if not several:
        return majority([labels[0] for labels in answers if labels], count)
    if not answers:
        return None
    votes = Counter(name for labels in answers for name in set(labels))
    chosen = [name for name, number in votes.items() if 2 * number > len(answers)]
    if any(number < len(answers) for number in votes.values()):
        count.add("rows whose annotators disagree, each label by the majority")
    count.add("rows with several labels (--kind classification leaves them out)", int(len(chosen) > 1))
    return chosen
