"""Rows to search by, rows to choose by and rows to report on are drawn before anything else, by seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from promptgraft.errors import TaskError
from promptgraft.task.sampling import cut, few_shot, strata
from promptgraft.task.task import Example, Task

SHARE = 1 / 3
"""The share of the labelled rows that a split gets which the task does not bring."""


@dataclass(frozen=True)
class SearchSplit:
    """The rows of a search, each in one part alone.

    Attributes:
        search: what algorithms see and are scored on, classes in turn, so that any beginning holds all of them alike.
        choosing: by which the best of what was found is chosen.
        report: which nothing looks at before the search is over.
        notes: where they came from.
    """

    search: tuple[Example, ...]
    choosing: tuple[Example, ...]
    report: tuple[Example, ...]
    notes: tuple[str, ...]


def search_split(task: Task, shots: int | None, seed: int) -> SearchSplit:
    """Draw the rows of a search.

    Args:
        shots: labelled rows a class to search by, and as many to choose by; None: all.
    Raises:
        TaskError: too few labelled rows for three parts.
    """
    notes = []
    if not task.test:
        rest, report = cut(task.train, SHARE, seed)
        task = task.replace(splits={**task.splits, "train": rest, "test": report})
        notes.append(f"{task.name} has no test rows: {len(report)} of its training rows are left for the report")
    if shots is not None:
        known = len(task.notes)
        task = few_shot(task, shots, seed)
        notes += task.notes[known:]
    elif not task.validation:
        train, validation = cut(task.train, SHARE, seed)
        task = task.replace(splits={**task.splits, "train": train, "validation": validation})
        notes.append(f"{task.name} has no validation rows: {len(validation)} of its training rows are for choosing")
    parts = {"search by": task.train, "choose by": task.validation, "report on": task.test}
    for use, rows in parts.items():
        if not rows:
            raise TaskError(f"no labelled rows are left to {use}", where=task.name, do="label more rows")
    return SearchSplit(in_turn(task.train, seed), in_turn(task.validation, seed), task.test, tuple(notes))


def in_turn(rows: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """Rows in an order by seed in which classes take turns."""
    groups = strata(rows)
    shuffled = random.Random(f"search/{seed}")
    rounds = zip_longest(*(shuffled.sample(groups[name], len(groups[name])) for name in sorted(groups)))
    return tuple(rows[row] for row in chain.from_iterable(rounds) if row is not None)
