"""The 95 % interval of a metric over the rows it was measured on."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from promptgraft.task.metrics import score
from promptgraft.task.task import Example, Label, Task

RESAMPLES = 200


def interval(task: Task, predictions: Sequence[Label], examples: Sequence[Example]) -> tuple[float, float]:
    """Low and high end, in percent: Wilson's for accuracy over rows, else a percentile bootstrap (200 resamples)."""
    if task.metric == "accuracy" and task.kind != "tagging":
        hits = sum(guess == example.label for guess, example in zip(predictions, examples, strict=True))
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
    """Percentiles of the metric over rows drawn again; the draw is fixed, so the same rows give the same ends."""
    drawn = random.Random(13)
    values = []
    for _ in range(RESAMPLES):
        index = drawn.choices(range(len(examples)), k=len(examples))
        values.append(score(task, [predictions[i] for i in index], [examples[i] for i in index])["score"])
    values.sort()
    return values[round(0.025 * (RESAMPLES - 1))], values[round(0.975 * (RESAMPLES - 1))]
