"""The pool of labelled rows that a job's demonstrations are chosen from, by states of the backbone that reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from promptgraft.engine.worded import Worded
from promptgraft.errors import RunError
from promptgraft.model.backbone import Backbone, Writes
from promptgraft.model.nearby import MOST_OF_A_SEQUENCE, key_of, row_features
from promptgraft.prompt.pool import POOLINGS, LabelledPool
from promptgraft.prompt.reading import Pooling
from promptgraft.task.sampling import strata
from promptgraft.task.task import Task
from promptgraft.template.template import Template

LINES_LOOKED_AT = 32
"""Of how many demonstrations an estimate takes the mean size."""


def make_pool(worded: Worded, backbone: Backbone, task: Task, pooling: Pooling, limit: int) -> LabelledPool:
    """The rows that demonstrations are chosen from, with their features.

    Args:
        pooling: of the features, where it is one of rows alone; else the mean.
        limit: tokens of a sequence at most.
    Raises:
        RunError: a demonstration is too long to stand beside a row.
    """
    longest = max(_sizes(worded.lines, backbone))
    if longest > MOST_OF_A_SEQUENCE * limit:
        what = f"a demonstration of {longest} tokens leaves no room for a row in {limit}"
        raise RunError(what, where=task.name, do=f"pass --max-length {2 * longest} where the model reads as many")
    by_itself = pooling if pooling in POOLINGS else "mean"
    features = row_features(backbone, worded.pool, task.kind, by_itself, limit)
    keys = tuple(map(key_of, worded.pool))
    return LabelledPool(worded.lines, keys, _groups(worded, task), features, by_itself)


def pool_note(pool: LabelledPool, backbone: Backbone, worded: Worded, limit: int) -> str:
    """What it costs that each row has demonstrations of its own."""
    demos = Template.parse(worded.template).demos
    assert demos is not None, "a pool is for demonstrations"
    sizes = _sizes(pool.lines, backbone)
    usual = _usual(sizes, demos.count, limit)
    shares = isinstance(backbone, Writes) and backbone.speech == "causal"
    alone = "no two rows begin alike, so that nothing is read once for all: " if shares else ""
    cost = f"{alone}about {usual} tokens more a row"
    cut = f"; of more than {int(MOST_OF_A_SEQUENCE * limit)} tokens the farthest are left out"
    is_cut = sum(sorted(sizes)[-demos.count :]) > MOST_OF_A_SEQUENCE * limit
    return f"demonstrations chosen for each row: {cost}{cut if is_cut else ''}"


def tokens_shown(worded: Worded, backbone: Backbone, limit: int) -> int:
    """About how many tokens a row has more since it is shown the nearest of labelled rows; 0 where it is shown none."""
    demos = Template.parse(worded.template).demos
    if demos is None or not worded.pool:
        return 0
    sample = worded.lines[:: max(1, len(worded.lines) // LINES_LOOKED_AT)]
    return _usual(_sizes(sample, backbone), demos.count, limit)


def _usual(sizes: Sequence[int], count: int, limit: int) -> int:
    """The tokens of so many lines of average size, as far as they have room."""
    return round(min(count * sum(sizes) / len(sizes), MOST_OF_A_SEQUENCE * limit))


def _sizes(lines: Sequence[str], backbone: Backbone) -> list[int]:
    """How many tokens each line has, with the special ones around it."""
    lengths: list[int] = backbone.tokenize_texts(lines).lengths.tolist()
    return lengths


def _groups(worded: Worded, task: Task) -> torch.Tensor:
    """The class of each row, by number; all alike where rows have no classes."""
    groups = torch.zeros(len(worded.pool), dtype=torch.long)
    if task.facts.has_classes:
        for number, places in enumerate(strata(worded.pool).values()):
            groups[places] = number
    return groups
