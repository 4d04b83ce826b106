"""The 95 % interval of a metric over the rows it was measured on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from promptgraft.task.figures import FIGURES, Draws, is_hit
from promptgraft.task.task import Example, Label, Task

RESAMPLES = 1000
AT_ONCE = 4_000_000
"""Rows drawn in one go, which holds memory to some 100 MB."""


def interval(task: Task, predictions: Sequence[Label], examples: Sequence[Example]) -> tuple[float, float]:
    """Low and high end in percent: Wilson's interval for accuracy over rows, else a percentile bootstrap."""
    if task.metric == "accuracy" and task.facts.scored != "word":
        hits = sum(is_hit(task, row.label, guess) for guess, row in zip(predictions, examples, strict=True))
        return wilson(hits, len(examples))
    return bootstrap(task, predictions, examples)


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """Wilson's score interval of a share (1927), in percent."""
    z = 1.959964
    share = hits / rows
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2)) / (1 + z**2 / rows)
    return 100 * (middle - half), 100 * (middle + half)


def bootstrap(task: Task, predictions: Sequence[Label], examples: Sequence[Example]) -> tuple[float, float]:
    """Percentiles of the metric over resampled rows; the seed is fixed, so the same rows give the same ends."""
    labels = [example.label for example in examples]
    figures = FIGURES[task.metric]
    parts = [figures(task, labels, predictions, draws)[task.metric] for draws in drawn(len(examples))]
    values = np.sort(np.concatenate(parts))
    return float(values[round(0.025 * (RESAMPLES - 1))]), float(values[round(0.975 * (RESAMPLES - 1))])


def drawn(rows: int) -> Iterator[Draws]:
    """Resamples of so many rows, in large batches: the same numbers as `random.Random(13).choices` draws."""
    generator = np.random.RandomState([13])  # seeded by a list it gives the numbers of Python's own generator
    size = max(1, AT_ONCE // rows)
    for start in range(0, RESAMPLES, size):
        share = generator.random_sample((min(size, RESAMPLES - start), rows))
        yield (share * rows).astype(np.int64)
