"""Makes the record of a bank: what reading tasks under each of its prompts gains where no label is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from promptgraft.bank.record import DIGITS, Record, Service
from promptgraft.engine.rank import is_of
from promptgraft.engine.share import Shared
from promptgraft.errors import RunError
from promptgraft.method.job import Source
from promptgraft.prompt.card import Card
from promptgraft.prompt.reading import Reading
from promptgraft.readout.classes import class_indices
from promptgraft.readout.evidence import directions, nearest_description
from promptgraft.task.draws import Array
from promptgraft.task.sampling import cap
from promptgraft.task.task import Example, Task

ROWS = 300
"""Of each task that are read: their mean recall is within 3 points or so, and a gain is a mean over tasks."""


def make_record(shared: Shared, sources: Sequence[Source], tasks: Sequence[Task], max_length: int) -> Record:
    """Read tasks under every prompt that is not of their data, and see how often the nearest description is right.

    Args:
        sources: of one backbone, that of `shared`.
        tasks: of one text a row and labels with descriptions.
    Raises:
        RunError: a task of another kind, or one without labelled rows.
    """
    gains: dict[str, dict[str, dict[str, float]]] = {source.artefact.hash: {} for source in sources}
    centres: dict[str, list[Float[Array, "H"]]] = {source.artefact.hash: [] for source in sources}
    for task in tasks:
        examples = _labelled(task)
        y = np.array(class_indices((row.label for row in examples), task))
        tokens = shared.tokens(examples, task.kind, Reading("mean"), max_length, task.name)
        pooling = shared.backbone.pooling or "mean"
        base, _ = _recall(shared, task, shared.states(tokens, None, pooling), y)
        for source in sources:
            card = source.artefact.card
            if card.template is None and not _shares_data(task, card):
                states = shared.states(tokens, source.artefact.prompt, card.reading.pooling)
                recall, centre = _recall(shared, task, states, y)
                family = gains[source.artefact.hash].setdefault(task.family or task.name, {})
                family[task.name] = round(recall - base, 2)
                centres[source.artefact.hash].append(centre)
    return Record(
        prompts={
            name: Service(gains=gains[name], centre=tuple(np.mean(centres[name], axis=0).round(DIGITS).tolist()))
            for name in gains
            if gains[name]
        }
    )


def _shares_data(task: Task, card: Card) -> bool:
    """Whether a prompt was tuned on the task, or on a task that was made of the same data."""
    return is_of(task, card) or (task.source is not None and task.source == card.task.source)


def _labelled(task: Task) -> tuple[Example, ...]:
    """A sample of a task's labelled rows.

    Raises:
        RunError: there are none, or they are not of one text and one label.
    """
    if task.kind != "classification":
        message = f"a record is made of classification tasks, and this is a {task.kind} task"
        raise RunError(message, where=task.name, do="leave it out")
    rows = tuple(row for row in cap(task, "train", ROWS, 0).train if row.label is not None)
    if not rows:
        raise RunError("has no labelled training rows", where=task.name, do="leave it out")
    return rows


def _recall(shared: Shared, task: Task, states: torch.Tensor, y: Int[Array, "N"]) -> tuple[float, Float[Array, "H"]]:
    """Mean recall over classes in percent of what is read without labels, and the centre of the texts."""
    features = states.double().numpy()
    centre = directions(features).mean(0)
    described = shared.describe(list(task.labels.values()), shared.backbone.pooling or "mean").double().numpy()
    weights, biases = nearest_description(described, centre)
    right = (directions(features) @ weights.T + biases).argmax(1) == y
    return 100 * float(np.mean([right[y == label].mean() for label in np.unique(y)])), centre
