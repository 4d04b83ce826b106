"""Readouts share these helpers: encoded class names, gold indices, a safe cross entropy, matching of labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from promptgraft.errors import RunError, TaskError, unknown
from promptgraft.task.draws import Array
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Kind, Label, Task

UNLABELLED = -100
INIT_SD = 0.02
"""The standard deviation of untrained weights, which are normal numbers."""


def check_kind(readout: str, kinds: frozenset[Kind], task: Task) -> None:
    """Raise a RunError if a readout cannot read the task."""
    if task.kind not in kinds:
        can = ", ".join(kind for kind in KINDS if kind in kinds)
        raise RunError(f"readout {readout!r} reads {can}, not {task.kind}", where=task.name)


def encode_names(names: Sequence[str]) -> UInt8[Tensor, "N"]:
    """Encode names as bytes, because a readout's state is tensors only."""
    return torch.tensor(list(json.dumps(list(names)).encode("ascii")), dtype=torch.uint8)


def decode_names(data: UInt8[Tensor, "N"]) -> tuple[str, ...]:
    """Decode names that `encode_names` encoded."""
    names = json.loads(bytes(data.tolist()))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("these are no names")
    return tuple(names)


def class_indices(labels: Iterable[Label | None], task: Task) -> list[int]:
    """The class index of each label; -100 where there is none.

    Raises:
        TaskError: a label that the task does not have.
    """
    index: dict[Label | None, int] = {name: place for place, name in enumerate(task.classes)}
    index[None] = UNLABELLED
    try:
        return [index[label] for label in labels]
    except KeyError as missing:
        raise TaskError(
            f"label {missing.args[0]!r} is not among the labels {', '.join(task.classes)}", where=task.name
        ) from None


def labels_given(predictions: Sequence[Label | str], names: Sequence[str]) -> tuple[Int[Array, "N"], Int[Array, "N"]]:
    """The row and the number of every label that rows of several get."""
    several = (given if isinstance(given, tuple) else () for given in predictions)
    pairs = [(row, names.index(name)) for row, given in enumerate(several) for name in given]
    rows, labels = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return rows, labels


def indicators(labels: Sequence[Label | None], task: Task) -> Int[Array, "B C"]:
    """1 where a row has a label, 0 where it has not, -100 throughout a row that is not labelled.

    Raises:
        TaskError: what is no set of labels that the task has.
    """
    index = {name: place for place, name in enumerate(task.classes)}
    table = np.zeros((len(labels), len(index)), dtype=np.int64)
    for row, names in enumerate(labels):
        if names is None:
            table[row] = UNLABELLED
            continue
        for name in names if isinstance(names, tuple) else (names,):
            if name not in index:
                raise TaskError(f"label {name!r} is not among the labels {', '.join(task.classes)}", where=task.name)
            table[row, index[str(name)]] = 1
    return table


def cross_entropy(scores: Float[Tensor, "*U C"], gold: Int[Tensor, "*U"]) -> Float[Tensor, "*U"]:
    """Cross entropy -log softmax(scores)[gold]; 0, with a zero gradient, where gold is -100.

    A unit without a label may score -inf everywhere (a context that was cut away); its scores are replaced
    before the softmax, since a NaN times a zero gradient is a NaN.
    """
    labelled = gold != UNLABELLED
    safe = torch.where(labelled[..., None], scores, torch.zeros_like(scores))
    target = torch.where(labelled, gold, torch.zeros_like(gold))
    loss = -safe.log_softmax(-1).gather(-1, target[..., None])[..., 0]
    return torch.where(labelled, loss, torch.zeros_like(loss))


def match_labels(source: Sequence[str], task: Task, label_map: Mapping[str, str]) -> dict[str, int]:
    """Match labels: target label -> index of the source label it stands for, by the map, else by equal name.

    Raises:
        RunError: the map names a label that one of the two does not have.
    """
    for target_label, source_label in label_map.items():
        if target_label not in task.labels:
            raise unknown(f"label of {task.name}", target_label, task.classes, RunError)
        if source_label not in source:
            raise unknown("label of the source", source_label, source, RunError)
    names = {name: label_map.get(name, name) for name in task.classes}
    return {target: source.index(name) for target, name in names.items() if name in source}


def all_matched(source: Sequence[str], task: Task, label_map: Mapping[str, str]) -> dict[str, int]:
    """Match labels by the map, or by equal names where every label has its equal and all of them are words.

    Some labels with what was learned of them and some without are worse than none.
    """
    match = match_labels(source, task, label_map)
    is_complete = len(match) == len(task.classes) and all(map(is_word, match))
    return match if label_map or is_complete else {}


def source_rows(readout: str, source: Sequence[str], task: Task, label_map: Mapping[str, str]) -> Int[Tensor, "C"]:
    """The source class that each class of a task stands for: by the map, else by equal name.

    Names without a letter say nothing of what they mean (`1` is another thing in every task), so equal ones stand for
    each other only where the map says so.

    Raises:
        RunError: a label stands for no source label, naming all of those.
    """
    match = match_labels(source, task, label_map)
    missing = [name for name in task.classes if name not in match or not (is_word(name) or name in label_map)]
    if missing:
        raise RunError(
            f"readout {readout!r} cannot be carried: no source label for {', '.join(missing)}"
            f" (the source has {', '.join(source)})",
            where=task.name,
            do="map every label to a source label, or use readout 'label-text' or 'new'",
        )
    return torch.tensor([match[name] for name in task.classes])


def is_word(name: str) -> bool:
    """Whether a label's name has a letter, of any script."""
    return any(letter.isalpha() for letter in name)


def leaf(tensor: Tensor) -> Tensor:
    """A trainable copy of a tensor."""
    return tensor.detach().clone().requires_grad_()
