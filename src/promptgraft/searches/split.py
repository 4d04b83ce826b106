"""Rows to search by, rows to choose by and rows to report on are drawn before anything else, by seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from promptgraft.errors import TaskError
from promptgraft.task.sampling import cut, divide, few_shot, order, strata
from promptgraft.task.task import Example, Task

SHARE = 1 / 3
"""The share of the labelled rows that a split gets which the task does not bring."""


USUAL = 16
"""Rows of a class that suffice to choose by where it is not said how many."""


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
    drawn = task
    if shots is not None:
        drawn = few_shot(task, shots, seed)
    elif not task.validation:
        train, validation = cut(task.train, SHARE, seed)
        drawn = task.replace(splits={**task.splits, "train": train, "validation": validation})
        drawn = drawn.noted(f"{task.name} has no validation rows: {len(validation)} training rows are for choosing")
    evened = _with_more_to_choose_by(drawn, task.train, shots or USUAL, seed)
    taken = len(evened.validation) - len(drawn.validation)
    if taken:
        notes.append(
            f"{task.name} has few labelled rows: {len(evened.train)} to search by and {len(evened.validation)} to "
            f"choose by, {taken} of these from the training rows"
        )
    else:
        notes += drawn.notes[len(task.notes) :]
    task = evened
    parts = {"search by": task.train, "choose by": task.validation, "report on": task.test}
    for use, rows in parts.items():
        if not rows:
            raise TaskError(f"no labelled rows are left to {use}", where=task.name, do="label more rows")
    return SearchSplit(in_turn(task.train, seed), in_turn(task.validation, seed), task.test, tuple(notes))


def _with_more_to_choose_by(task: Task, labelled: Sequence[Example], most: int, seed: int) -> Task:
    """The task with training rows among those to choose by, of each class that has too few of them.

    Rows that are not searched by come first; then those that are, until a third of the class is to choose by.

    Args:
        labelled: all training rows, of which the task's were drawn.
        most: rows of a class to choose by at most.
    """
    searched, chosen = strata(task.train), strata(task.validation)
    is_drawn = set(map(id, task.train)) | set(map(id, task.validation))
    idle_rows = [row for row in labelled if id(row) not in is_drawn]
    idle = strata(idle_rows)
    more: list[Example] = []
    moved: set[int] = set()
    for name, rows in searched.items():
        missing = max(0, most - len(chosen.get(name, ())))
        spare = order(idle.get(name, []), seed, name)[:missing]
        more += [idle_rows[row] for row in spare]
        have = len(chosen.get(name, ())) + len(spare)
        third = round(SHARE * (len(rows) + have)) - have
        moved.update(order(rows, seed, name)[: max(0, min(third, missing - len(spare), len(rows) - 1))])
    to_choose, train = divide(task.train, moved)
    return task.replace(splits={**task.splits, "train": train, "validation": (*task.validation, *more, *to_choose)})


def in_turn(rows: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """Rows in an order by seed in which classes take turns."""
    groups = strata(rows)
    shuffled = random.Random(f"search/{seed}")
    rounds = zip_longest(*(shuffled.sample(groups[name], len(groups[name])) for name in sorted(groups)))
    return tuple(rows[row] for row in chain.from_iterable(rounds) if row is not None)
