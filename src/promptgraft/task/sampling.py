"""Draws fewer examples of a task by seed: few shots, a validation split, a cap on rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from promptgraft.errors import UsageError
from promptgraft.task.task import Example, Task

NAMED_CLASSES = 5
WITHIN = 0.25
"""The share of each class that is held out for validation where all labelled rows are given at once."""
VALIDATION_ROWS = 500
"""No more are held out, or read, for validation."""


def check_shots(shots: int | None) -> None:
    """Check a number of shots; None: all rows.

    Raises: UsageError for negative shots.
    """
    if shots is not None and shots < 0:
        raise UsageError(f"{shots} shots", do="give 0 or more")


def check_cap(rows: int | None) -> None:
    """Check a cap on rows; None: none.

    Raises: UsageError for fewer than one row.
    """
    if rows is not None and rows < 1:
        raise UsageError(f"a cap of {rows} rows", do="give 1 or more")


def few_shot(task: Task, shots: int, seed: int) -> Task:
    """The task with `shots` train rows a class, and a validation split of the same size; test stays whole.

    The validation rows come from the task's validation split, else from the rest of train: the labels used are
    2 x shots a class (the rule of Gao et al. 2021, LM-BFF), and a note says so. Kinds without classes (regression,
    choice, tagging, span) get 8 x shots rows at random, text as many as there are shots. Of several labels a row, at
    least `shots` rows with each are drawn, the rarest first, and as many without any; a row counts for all its labels.
    A class with fewer rows gives all it has, with a note. shots = 0 leaves train and validation empty. By one seed, the
    train rows of fewer shots are among those of more.

    Raises: UsageError for negative shots.
    """
    check_shots(shots)
    has_validation = bool(task.validation)
    size = "a label" if task.facts.several else "a class"
    train, remaining, short = draw(task, "train", shots, seed)
    validation_source = task.replace(splits={"validation": task.validation if has_validation else remaining})
    validation, _, short_held = draw(validation_source, "validation", shots, seed)
    origin = "the validation split" if has_validation else "the rest of train"
    used = f"{shots} {size}" if task.facts.has_classes else task.facts.rows_a_shot * shots
    note = (
        f"{shots} shots by seed {seed}: {len(train)} train rows, {len(validation)} validation rows from {origin}"
        f" (labels used: 2 x {used}, as in LM-BFF)"
    )
    splits = {**task.splits, "train": train, "validation": validation}
    return task.replace(splits=splits).noted(note, *short, *short_held)


def within(task: Task, shots: int | None, seed: int, *, validated: bool) -> Task:
    """The task with `shots` labelled rows a class in all (None: every row), validation rows among them.

    The rows are those that `few_shot` draws for training.

    Args:
        validated: whether validation rows are needed: a quarter of each class (one of a class that has two), at most
            500; a validation split that the task brings stays that where every row is taken. Else all rows are for
            training.
    Raises: UsageError for negative shots.
    """
    if shots is None:
        rows = cap(task, "validation", VALIDATION_ROWS, seed) if validated else _joined(task)
    else:
        check_shots(shots)
        train, _, short = draw(task, "train", shots, seed)
        note = f"{shots} shots by seed {seed}: {len(train)} labelled rows"
        rows = task.replace(splits={**task.splits, "train": train, "validation": ()}).noted(note, *short)
    share = min(WITHIN, VALIDATION_ROWS / max(1, len(rows.train)))
    return split_validation(rows, share, seed, least=2) if validated else rows


def _joined(task: Task) -> Task:
    """The task with its validation rows among its training rows."""
    return task.replace(splits={**task.splits, "train": task.train + task.validation, "validation": ()})


def rows_of(task: Task, shots: int) -> int:
    """How many rows `few_shot` draws of a split that has enough."""
    return shots * task.facts.rows_a_shot * (len(task.classes) if task.facts.has_classes else 1)


def draw(task: Task, split: str, shots: int, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...], list[str]]:
    """`shots` rows a class of a split, the rows left, and a note on classes that have too few."""
    examples = task.splits.get(split, ())
    if task.facts.several:
        return draw_labels(task, split, shots, seed)
    groups = strata(examples)
    size = shots * task.facts.rows_a_shot
    names = task.classes if task.facts.has_classes else tuple(groups)
    taken: set[int] = set()
    for name in names:
        taken.update(order(groups.get(name, []), seed, name)[:size])
    sizes = {name: len(groups.get(name, [])) for name in names}
    return (*divide(examples, taken), shortage(split, sizes, size))


def draw_labels(
    task: Task, split: str, shots: int, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...], list[str]]:
    """At least `shots` rows with each label, and as many without any, the rows left, and a note on what is short.

    One row is taken at a time of whichever label still has too few, round by round, so that fewer shots are among more.
    """
    examples = task.splits.get(split, ())
    sets = [names_of(example) or ("",) for example in examples]
    groups: dict[str, list[int]] = {name: [] for name in task.classes}
    for row, names in enumerate(sets):
        for name in names:
            groups.setdefault(name, []).append(row)
    orders = {name: iter(order(rows, seed, name)) for name, rows in groups.items()}
    rarest_first = sorted(groups, key=lambda name: len(groups[name]))
    counts = dict.fromkeys(groups, 0)
    taken: set[int] = set()
    for wanted in range(1, shots + 1):
        for name in rarest_first:
            for row in orders[name] if counts[name] < wanted else ():
                if row not in taken:
                    taken.add(row)
                    counts |= {other: counts[other] + 1 for other in sets[row]}
                    break
    sizes = {name: len(rows) for name, rows in groups.items() if name}
    return (*divide(examples, taken), shortage(split, sizes, shots))


def names_of(example: Example) -> tuple[str, ...]:
    """The labels of a row of several."""
    return example.label if isinstance(example.label, tuple) and not example.tokens else ()


def shortage(split: str, sizes: dict[str, int], size: int) -> list[str]:
    """A note on the classes with fewer rows than wanted, naming the first five; none where all have enough."""
    short = [f"{name!r} {count}" if name else str(count) for name, count in sizes.items() if count < size]
    remainder = ", ..." if len(short) > NAMED_CLASSES else ""
    return [f"{split}: fewer than {size} rows: {', '.join(short[:NAMED_CLASSES])}{remainder}"] if short else []


def split_validation(task: Task, share: float, seed: int, least: int = 3) -> Task:
    """The task with a share of train (class by class) as its validation split, where it has none; noted.

    Raises: UsageError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UsageError(f"a validation share of {share}", do="give one between 0 and 1")
    if task.validation or not task.train:
        return task
    train, validation = cut(task.train, share, seed, least)
    note = f"no validation split: {len(validation)} of {len(task.train)} train rows are it, by seed {seed}"
    return task.replace(splits={**task.splits, "train": train, "validation": validation}).noted(note)


def cap(task: Task, split: str, rows: int, seed: int) -> Task:
    """The task with at most `rows` rows in a split, classes in the proportion they had; noted where it cut.

    Raises: UsageError for fewer than one row.
    """
    check_cap(rows)
    examples = task.splits.get(split, ())
    if len(examples) <= rows:
        return task
    groups = strata(examples)
    counts = proportions({name: len(group) for name, group in groups.items()}, rows)
    taken = {row for name, group in groups.items() for row in order(group, seed, name)[: counts[name]]}
    rows_kept, _ = divide(examples, taken)
    return task.replace(splits={**task.splits, split: rows_kept}).noted(
        f"{split}: {rows} of {len(examples)} rows, by seed {seed}"
    )


def cut(
    examples: Sequence[Example], share: float, seed: int, least: int = 3
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Examples in two parts, the second a share of each class (one row or more of a class that has `least`)."""
    taken: set[int] = set()
    for name, rows in strata(examples).items():
        count = max(round(share * len(rows)), int(len(rows) >= least))
        if count:
            taken.update(order(rows, seed, name)[:count])
    second, first = divide(examples, taken)
    return first, second


def strata(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Row numbers by class, in order of first sight; all under "" where labels are no classes.

    Of several labels a row counts for its rarest, so that rare ones are spread as evenly as they can be.
    """
    groups: dict[str, list[int]] = {}
    counts = Counter(name for example in examples for name in names_of(example))
    for n, example in enumerate(examples):
        if isinstance(example.label, str):
            name = "" if example.choices else example.label
        else:
            name = min(names_of(example), key=lambda label: (counts[label], label), default="")
        groups.setdefault(name, []).append(n)
    return groups


def order(rows: Sequence[int], seed: int, name: str) -> list[int]:
    """The rows shuffled by seed and class, so that a class is drawn alike whatever the other classes are."""
    return random.Random(f"{seed}/{name}").sample(rows, len(rows))


def divide(examples: Sequence[Example], taken: set[int]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The examples taken and the others, each in file order."""
    return (
        tuple(example for n, example in enumerate(examples) if n in taken),
        tuple(example for n, example in enumerate(examples) if n not in taken),
    )


def proportions(sizes: dict[str, int], rows: int) -> dict[str, int]:
    """How many rows each class gets of `rows`: its share rounded down, the rest by largest remainder."""
    total = sum(sizes.values())
    counts = {name: size * rows // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: -(sizes[name] * rows % total))
    for name in by_remainder[: rows - sum(counts.values())]:
        counts[name] += 1
    return counts
