"""What a demonstration says for a row's label, and which rows are demonstrations."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, zip_longest

from promptgraft.errors import UsageError, quoted
from promptgraft.task.kinds import KINDS
from promptgraft.task.sampling import order, strata
from promptgraft.task.task import Answers, Example, References, Task

LONGEST_SHOWN_TEXT = 400
"""Characters of a text that a demonstration shows: sixteen of them fill half of 2,048 tokens."""
MOST_CHOSEN_FROM = 1024
"""Rows that demonstrations are chosen from for each row; an artefact keeps their texts and features."""
NOTHING = {"zh": "无"}


def answer_of(example: Example, task: Task, words: Mapping[str, str]) -> str:
    """A row's label as the words of its answer.

    Args:
        words: label -> words; a label that is not there says its name.
    Raises:
        UsageError: the row has no label.
    """
    label = example.label
    nothing = NOTHING.get(task.language or "", "none")
    if label is None:
        if KINDS[task.kind].label == "answers":  # a question that its text does not answer
            return nothing
        raise UsageError(f"the demonstration {quoted(example.text)} has no label", do="give labelled rows")
    if isinstance(label, References):
        return label.texts[0]
    if isinstance(label, Answers):
        return label.texts[0] if label.texts else nothing
    if isinstance(label, tuple):
        return ", ".join(words.get(name, name) for name in label) or nothing
    return words.get(label, label) if isinstance(label, str) else f"{label:g}"


def demonstrations(task: Task, count: int, seed: int) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Training rows to be shown as demonstrations: balanced over classes, drawn and ordered by seed; and notes.

    A long text is cut to its beginning, so that the demonstrations fit.

    Raises:
        UsageError: the task has no training rows.
    """
    chosen = _drawn(task, count, seed)
    shown = tuple(_shown(example, task) for example in chosen)
    notes = [f"{len(chosen)} demonstrations from the training rows, by seed {seed}"]
    if len(chosen) < count:
        notes.append(f"{count} demonstrations were asked for; there are {len(chosen)} training rows")
    cut = sum(before != after for before, after in zip(chosen, shown, strict=True))
    if cut:
        notes.append(f"{cut} demonstrations are cut to {LONGEST_SHOWN_TEXT} characters a text")
    return shown, tuple(notes)


def pool_of(task: Task, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Training rows that demonstrations are chosen from for each row: as they are, and short enough to be shown.

    Of very many rows some are drawn by seed, as evenly over the classes as can be.

    Raises:
        UsageError: the task has no training rows.
    """
    chosen = _drawn(task, MOST_CHOSEN_FROM, seed)
    return chosen, tuple(_shown(example, task) for example in chosen)


def _drawn(task: Task, count: int, seed: int) -> tuple[Example, ...]:
    """Training rows, balanced over classes, in an order by seed.

    Raises:
        UsageError: the task has no training rows.
    """
    if not task.train:
        raise UsageError(f"{task.name} has no training rows for demonstrations", do="give some, or no {demos}")
    groups = strata(task.train)
    names = random.Random(f"{seed}").sample(sorted(groups), len(groups))
    rounds = zip_longest(*(order(groups[name], seed, name) for name in names))
    rows = [row for row in chain.from_iterable(rounds) if row is not None][:count]
    return tuple(task.train[row] for row in random.Random(f"{seed}/order").sample(rows, len(rows)))


def _shown(example: Example, task: Task) -> Example:
    """The row with texts short enough to be shown; a context is cut around its answer."""
    pair = example.pair
    if pair is not None:
        first = example.label.starts[0] if isinstance(example.label, Answers) and example.label.starts else 0
        pair = beginning(pair[max(0, first - LONGEST_SHOWN_TEXT // 2) :]) if len(pair) > LONGEST_SHOWN_TEXT else pair
    return replace(example, text=beginning(example.text), pair=pair)


def beginning(text: str) -> str:
    """The beginning of a text, up to a space where there is one in its last third."""
    if len(text) <= LONGEST_SHOWN_TEXT:
        return text
    cut = text[:LONGEST_SHOWN_TEXT]
    space = max(cut.rfind(" "), cut.rfind("\n"))
    return (cut[:space] if space > 2 * LONGEST_SHOWN_TEXT // 3 else cut).rstrip()
