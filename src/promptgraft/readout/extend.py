"""Linear readouts get new classes from descriptions and from new rows, without the rows that they were fitted to.

A new class's weights point where its description does, away from those of the other classes, and are as long as the
weights of old classes are. Rows then move all weights at once: a logistic regression that is held to the present ones,
in which the mean features of each old class stand for its rows. The readouts of several members are fitted as one, over
their features side by side. How well that does: docs/results/extend.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from promptgraft.prompt.memory import Memory
from promptgraft.readout.classes import leaf
from promptgraft.readout.direction import Directional
from promptgraft.readout.evidence import balanced, directions, spanned
from promptgraft.readout.fit import fitting_threads
from promptgraft.readout.label_text import LabelText
from promptgraft.readout.linear import Linear
from promptgraft.readout.logistic import logistic
from promptgraft.readout.readout import Readout
from promptgraft.task.draws import Array

STRENGTH = 10.0
"""Of the rows' log likelihood against half the squared distance from the present weights."""
REMEMBERED, A_CLASS = 256, 8
"""Rows whose mean is remembered: so many, or so many a class if these are more."""
SAMPLED = 256
"""Rows that are remembered one by one, on which changes are shown."""


def as_linear(readout: Readout) -> Linear | None:
    """A readout as a linear map of features or of their directions, scores unchanged; None where it is none."""
    if isinstance(readout, Linear):
        return readout
    if not isinstance(readout, LabelText):
        return None
    weight = readout.scale() * functional.normalize(readout.embeddings + readout.delta, dim=-1)
    return Directional(readout.labels, leaf(weight), leaf(readout.bias))


def as_read(readout: Readout, features: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
    """Features as a linear map reads them."""
    return functional.normalize(features.float(), dim=-1) if isinstance(readout, Directional) else features.float()


def with_classes(readout: Linear, names: Sequence[str], described: Float[Array, "C H"] | None) -> Linear:
    """The readout with more classes after its own.

    Args:
        described: embeddings of the descriptions of all classes, old and new; None where they are not what is read.
    """
    weight, bias = readout.weight.detach().double().numpy(), readout.bias.detach().double().numpy()
    added = np.zeros((len(names), weight.shape[1]))
    if described is not None:
        away = directions(described - described.mean(0))[len(weight) :]
        added = np.linalg.norm(weight, axis=1).mean() * away
    return _map_of(
        readout,
        (*readout.labels, *names),
        np.concatenate([weight, added]),
        np.concatenate([bias, np.full(len(names), bias.mean())]),
    )


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows: their features, those of all members side by side, and the numbers of their classes."""

    features: Float[Array, "U D"]
    y: Int[Array, "U"]


def refit(readouts: Sequence[Linear], memory: Memory, rows: LabelledRows) -> list[Linear]:
    """The members' readouts, moved by rows as little as these need; what is remembered stands for earlier ones.

    A class of which neither rows nor a memory are there stays as it is.
    """
    classes = len(readouts[0].labels)
    earlier = memory.counts.numpy()
    count = np.bincount(rows.y, minlength=classes)
    typical = count[count > 0].mean()
    known = np.flatnonzero(earlier)
    inputs = np.concatenate([memory.centroids.double().numpy()[known], rows.features])
    y = np.concatenate([known, rows.y])
    counted = np.concatenate([np.minimum(earlier[known], typical), np.ones(len(rows.y))])
    present = (earlier > 0) | (count > 0)
    widths = np.cumsum([readout.weight.shape[1] for readout in readouts])
    scales = [_scale(readout, part) for readout, part in zip(readouts, _parts(inputs, widths), strict=True)]
    scale = np.repeat(scales, np.diff(widths, prepend=0))
    weight = np.concatenate([readout.weight.detach().double().numpy() for readout in readouts], axis=1)
    biases = np.stack([_allowing(readout, (earlier == 0) & (count > 0), earlier > 0) for readout in readouts])
    axes, basis = spanned(inputs / scale)
    before = inputs @ weight.T + biases.sum(0)
    with fitting_threads(inputs.size):
        moved = logistic(
            axes, y, counted[None], np.array([STRENGTH]), present[None], bias=False, offset=before.T[None]
        )[0]
    weight = weight + moved @ basis / scale
    return [
        _map_of(readout, readout.labels, part, bias)
        for readout, part, bias in zip(readouts, _parts(weight, widths), biases, strict=True)
    ]


def remembered(memory: Memory | None, rows: LabelledRows, classes: int) -> Memory:
    """A memory with these rows added; of more classes than before where there are."""
    if memory is None:
        width = rows.features.shape[1]
        memory = Memory(
            torch.zeros(0, width), torch.zeros(0, dtype=torch.int32), torch.zeros(0, width), torch.zeros(0).int()
        )
    earlier = np.zeros(classes, dtype=np.int64)
    earlier[: len(memory.counts)] = memory.counts.numpy()
    total = np.zeros((classes, rows.features.shape[1]))
    total[: len(memory.counts)] = memory.centroids.double().numpy() * memory.counts.numpy()[:, None]
    np.add.at(total, rows.y, rows.features)
    count = earlier + np.bincount(rows.y, minlength=classes)
    features = np.concatenate([memory.sample.double().numpy(), rows.features])
    y = np.concatenate([memory.labels.numpy(), rows.y])
    kept = balanced(y, SAMPLED, 0)
    return Memory(
        torch.from_numpy(total / np.maximum(count, 1)[:, None]).half(),
        torch.from_numpy(count).int(),
        torch.from_numpy(features[kept]).half(),
        torch.from_numpy(y[kept]).int(),
    )


def best_classes(readouts: Sequence[Linear], features: Float[Array, "U D"]) -> Int[Array, "U"]:
    """The class that each row gets, from its features under all members side by side."""
    weight = np.concatenate([readout.weight.detach().double().numpy() for readout in readouts], axis=1)
    bias = sum(readout.bias.detach().double().numpy() for readout in readouts)
    return np.asarray((features @ weight.T + bias).argmax(1))


def _allowing(readout: Linear, added: Array, others: Array) -> Float[Array, "C"]:
    """The biases, of classes that get their first rows the mean of others': that of none may have barred them."""
    bias = readout.bias.detach().double().numpy().copy()
    if others.any():
        bias[added] = bias[others].mean()
    return bias


def _scale(readout: Linear, inputs: Float[Array, "U F"]) -> float:
    """What a map's inputs are divided by, so that they are of about unit length."""
    return 1.0 if isinstance(readout, Directional) else float(np.linalg.norm(inputs, axis=1).mean()) or 1.0


def _parts(values: Float[Array, "N D"], widths: Int[Array, "M"]) -> list[Float[Array, "N _"]]:
    """The columns of each member."""
    return np.split(values, widths[:-1], axis=1)


def _map_of(readout: Linear, names: Sequence[str], weight: Float[Array, "C F"], bias: Float[Array, "C"]) -> Linear:
    """A map of the readout's kind with other numbers."""
    tensors = (leaf(torch.from_numpy(np.ascontiguousarray(values)).float()) for values in (weight, bias))
    return type(readout)(tuple(names), *tensors)
