"""Readouts of several labels a row get further labels: from a description, and from rows.

A new label's weights point where its description does, away from those of the other labels, and are as long as those of
old labels are; its log odds at the centre of known rows are the mean of the old labels'. Rows then move the weights by
logistic regressions that are held to the present ones. Rows that were fitted before stand by what was said of them, so
that nothing is forgotten and nothing is fitted to twice; whether they have a new label is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from promptgraft.prompt.memory import UNKNOWN, LabelMemory
from promptgraft.readout.classes import leaf
from promptgraft.readout.evidence import balanced, directions, spanned
from promptgraft.readout.extend import SAMPLED, STRENGTH
from promptgraft.readout.fit import fitting_threads, typical_distance
from promptgraft.readout.logistic import logistic
from promptgraft.readout.multilabel import Multilabel, MultilabelDirection, MultilabelText
from promptgraft.readout.probe import rarest_label
from promptgraft.readout.readout import Readout
from promptgraft.task.draws import Array


@dataclass(frozen=True)
class SeveralRows:
    """Labelled rows: their features, those of all members side by side, and 1 where a row has a label, else 0."""

    features: Float[Array, "U D"]
    y: Int[Array, "U C"]


def as_label_map(readout: Readout) -> Multilabel | None:
    """A readout as a linear map to log odds of labels, scores unchanged; None where it is none."""
    if isinstance(readout, Multilabel):
        return readout
    if not isinstance(readout, MultilabelText):
        return None
    weight = readout.scale() * functional.normalize(readout.embeddings + readout.delta, dim=-1)
    return MultilabelDirection(readout.labels, leaf(weight), leaf(readout.bias), readout.threshold, readout.least)


def label_features(readout: Multilabel, features: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
    """Features as a map of labels reads them."""
    is_direction = isinstance(readout, MultilabelDirection)
    return functional.normalize(features.float(), dim=-1) if is_direction else features.float()


def with_labels(
    readout: Multilabel, names: Sequence[str], described: Float[Array, "C H"] | None, centre: Float[Array, "F"] | None
) -> Multilabel:
    """The readout with more labels after its own.

    Args:
        described: embeddings of the descriptions of all labels, old and new; None where they are not what is read.
        centre: the mean of known rows as the readout reads them; None where texts are not centred (label text).
    """
    weight, bias = _numbers(readout)
    added = np.zeros((len(names), weight.shape[1]))
    if described is not None:
        pointing = directions(described)
        away = directions(pointing - pointing.mean(0))[len(weight) :]
        added = np.linalg.norm(weight, axis=1).mean() * away
    centre = np.zeros(weight.shape[1]) if centre is None else centre
    more = (weight @ centre + bias).mean() - added @ centre
    return _map_of(readout, (*readout.labels, *names), np.concatenate([weight, added]), np.concatenate([bias, more]))


def refit_labels(readouts: Sequence[Multilabel], memory: LabelMemory, rows: SeveralRows) -> list[Multilabel]:
    """The members' readouts, moved by rows as little as these need; what is remembered stays as it was answered.

    A label that all rows have, and that the memory does not know, is held to what its description says of remembered
    rows, which then count as much as the rows do. One row more, at the centre of all, stays as it was answered too: it
    bounds the odds of a label that every row has. A row without a label ends that every row gets its likeliest.
    """
    known = memory.sample.double().numpy()
    everything = np.concatenate([known, rows.features])
    centre = everything.mean(0)
    anchored = np.concatenate([known, centre[None]])
    inputs = np.concatenate([anchored, anchored, rows.features])
    scale = typical_distance(everything, centre)
    axes, basis = spanned((inputs - centre) / scale)
    odds = label_odds(readouts, inputs)
    y = np.concatenate([np.ones(odds[: len(anchored)].shape), np.zeros(odds[: len(anchored)].shape), rows.y])
    counted = np.concatenate([*_earlier(memory, odds[: len(anchored)], rows.y), np.ones(rows.y.shape)])
    with fitting_threads(inputs.size):
        moved = logistic(
            axes,
            y.T.astype(np.int64),
            counted.T,
            np.full(odds.shape[1], STRENGTH),
            np.ones((odds.shape[1], 2), dtype=bool),
            offset=np.stack([np.zeros_like(odds.T), odds.T], axis=1),
        )
    more = moved[:, 1] - moved[:, 0]
    weight = more[:, :-1] @ basis / scale
    moved_readouts = _moved(readouts, weight, more[:, -1] - weight @ centre)
    if rows.y.any(1).all():
        return moved_readouts
    return [replace(readout, least=torch.zeros_like(readout.least)) for readout in moved_readouts]


def _moved(readouts: Sequence[Multilabel], weight: Float[Array, "C D"], bias: Float[Array, "C"]) -> list[Multilabel]:
    """The members' readouts with these weights, side by side, and these biases added."""
    parts = np.split(weight, np.cumsum([readout.weight.shape[1] for readout in readouts])[:-1], axis=1)
    moved = []
    for number, (readout, part) in enumerate(zip(readouts, parts, strict=True)):
        own_weight, own_bias = _numbers(readout)
        moved.append(_map_of(readout, readout.labels, own_weight + part, own_bias + (bias if number == 0 else 0.0)))
    return moved


def _earlier(
    memory: LabelMemory, odds: Float[Array, "N_plus_1 C"], y: Int[Array, "U C"]
) -> tuple[Float[Array, "N_plus_1 C"], Float[Array, "N_plus_1 C"]]:
    """What each remembered row, and that at the centre, counts as one that has a label, and as one that lacks it."""
    is_known = np.concatenate([memory.labels.numpy() != UNKNOWN, np.ones((1, odds.shape[1]), dtype=bool)])
    counted = np.where(is_known, 1.0, y.all(0) * min(1.0, len(y) / len(odds)))
    share = 1 / (1 + np.exp(-odds))
    return counted * share, counted * (1 - share)


def widened(memory: LabelMemory, readouts: Sequence[Multilabel]) -> LabelMemory:
    """The memory for the readouts' labels, which earlier rows are not said to have or to lack where they are new."""
    rows, old = memory.labels.shape
    odds = torch.from_numpy(label_odds(readouts, memory.sample.double().numpy())[:, old:]).float()
    unknown = torch.full((rows, odds.shape[1]), UNKNOWN, dtype=torch.int8)
    known = None if memory.odds is None else torch.cat([memory.odds, odds], dim=1)
    return LabelMemory(memory.sample, torch.cat([memory.labels, unknown], dim=1), known)


def remembered_labels(memory: LabelMemory, rows: SeveralRows, odds: Float[Array, "N C"] | None) -> LabelMemory:
    """A memory with these rows added.

    Args:
        odds: of all rows, remembered ones first, by fits that had not seen them; None where they are not known.
    """
    y = np.concatenate([memory.labels.numpy(), rows.y]).astype(np.int8)
    features = np.concatenate([memory.sample.double().numpy(), rows.features])
    kept = balanced(rarest_label(np.maximum(y, 0).astype(np.int64)), SAMPLED, 0)
    unseen = None if odds is None else torch.from_numpy(odds[kept]).float()
    return LabelMemory(torch.from_numpy(features[kept]).half(), torch.from_numpy(y[kept]), unseen)


def label_odds(readouts: Sequence[Multilabel], features: Float[Array, "U D"]) -> Float[Array, "U C"]:
    """The log odds of every label, from features under all members side by side."""
    weight = np.concatenate([_numbers(readout)[0] for readout in readouts], axis=1)
    return np.asarray(features @ weight.T + sum(_numbers(readout)[1] for readout in readouts))


def _numbers(readout: Multilabel) -> tuple[Float[Array, "C F"], Float[Array, "C"]]:
    return readout.weight.detach().double().numpy(), readout.bias.detach().double().numpy()


def _map_of(
    readout: Multilabel, names: Sequence[str], weight: Float[Array, "C F"], bias: Float[Array, "C"]
) -> Multilabel:
    """A map of the readout's kind with other numbers."""
    weights, biases = (leaf(torch.from_numpy(np.ascontiguousarray(values)).float()) for values in (weight, bias))
    return replace(readout, labels=tuple(names), weight=weights, bias=biases)
