"""The memory of an artefact: features of the rows it was fitted to, for adding classes or labels without these rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import ArtefactError
from promptgraft.prompt.tensors import check_numbers
from promptgraft.untrusted import visible

DO = "tune it again"
UNKNOWN = -1
"""Of a row and a label that was added later: whether the row has it."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Features of labelled rows, those of all members side by side, as their readouts read them.

    Attributes:
        centroids: the mean of each class's rows, in half precision; zeros for a class without rows.
        counts: of how many rows that is the mean.
        sample: some of these rows, in half precision, on which it is shown what a change does to answers.
        labels: their classes, by index.
    """

    centroids: Float[Tensor, "C D"]
    counts: Int[Tensor, "C"]
    sample: Float[Tensor, "N D"]
    labels: Int[Tensor, "N"]

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def without(self, rows: Int[Tensor, "M"]) -> Self:
        """The memory without some rows of its sample, given by number."""
        kept = torch.ones(len(self.labels), dtype=torch.bool)
        kept[rows] = False
        counts, classes = self.counts.clone(), self.labels[rows].long()
        total = self.centroids.double() * counts[:, None]
        total.index_add_(0, classes, -self.sample[rows].double())
        counts -= torch.bincount(classes, minlength=len(counts)).int()
        centroids = torch.where(counts[:, None] > 0, total / counts.clamp(min=1)[:, None], 0.0)
        return replace(
            self, centroids=centroids.half(), counts=counts, sample=self.sample[kept], labels=self.labels[kept]
        )

    @classmethod
    def load(cls, state: Mapping[str, Tensor], classes: int, where: str) -> Self:
        """A memory from what `state()` gave, checked.

        Raises:
            ArtefactError: these are not the features of so many classes.
        """
        names = {field.name for field in fields(cls)}
        if state.keys() != names:
            what = f"its memory has the tensors {visible(', '.join(sorted(state)))}, not {', '.join(sorted(names))}"
            raise ArtefactError(what, where=where, do=DO)
        for name in ("centroids", "sample"):
            check_numbers(f"memory.{name}", state[name], where)
        for name in ("counts", "labels"):
            if state[name].dtype != torch.int32:
                raise ArtefactError(f"memory.{name} holds no whole numbers of 32 bits", where=where, do=DO)
        width = state["centroids"].shape[-1:]
        wanted = {
            "centroids": (classes, *width),
            "counts": (classes,),
            "sample": (*state["labels"].shape[:1], *width),
            "labels": (*state["labels"].shape[:1],),
        }
        for name, shape in wanted.items():
            if tuple(state[name].shape) != shape or len(shape) < (2 if name in ("centroids", "sample") else 1):
                raise ArtefactError(
                    f"memory.{name} is {list(state[name].shape)}, not {list(shape)}", where=where, do=DO
                )
        labels, counts = state["labels"], state["counts"]
        if ((labels < 0) | (labels >= classes)).any() or (counts < 0).any():
            raise ArtefactError("its memory has rows of classes that its card has not", where=where, do=DO)
        return cls(**state)


@dataclass(frozen=True, eq=False)
class LabelMemory:
    """Features of rows with several labels each, those of all members side by side, as their readouts read them.

    Attributes:
        sample: of some of the rows, in half precision; their mean is the centre of what the artefact knows.
        labels: 1 where a row has a label, 0 where it has not, UNKNOWN where the label came later.
        odds: the log odds of every label by fits that had not seen the row, which say from which odds on labels are
            given; None in artefacts of older versions.
    """

    sample: Float[Tensor, "N D"]
    labels: Int[Tensor, "N C"]
    odds: Float[Tensor, "N C"] | None = None

    def without(self, rows: Int[Tensor, "M"]) -> Self:
        """The memory without some of its rows, given by number."""
        kept = torch.ones(len(self.labels), dtype=torch.bool)
        kept[rows] = False
        odds = None if self.odds is None else self.odds[kept]
        return replace(self, sample=self.sample[kept], labels=self.labels[kept], odds=odds)

    @classmethod
    def empty(cls, width: int, labels: int) -> Self:
        """A memory of no rows."""
        known = torch.zeros(0, labels, dtype=torch.int8)
        return cls(torch.zeros(0, width).half(), known, torch.zeros(0, labels))

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    @classmethod
    def load(cls, state: Mapping[str, Tensor], labels: int, where: str) -> Self:
        """A memory from what `state()` gave, checked.

        Raises:
            ArtefactError: these are not the features of rows with so many labels.
        """
        sample, given, odds = state["sample"], state["labels"], state.get("odds")
        check_numbers("memory.sample", sample, where)
        if given.dtype != torch.int8:
            raise ArtefactError("memory.labels holds no whole numbers of 8 bits", where=where, do=DO)
        if sample.ndim != 2 or tuple(given.shape) != (len(sample), labels):
            what = f"memory.labels is {list(given.shape)}, not {[*sample.shape[:1], labels]}"
            raise ArtefactError(what, where=where, do=DO)
        if ((given < UNKNOWN) | (given > 1)).any():
            raise ArtefactError("its memory says of labels what is neither yes, no nor unknown", where=where, do=DO)
        if odds is not None:
            check_numbers("memory.odds", odds, where)
            if odds.shape != given.shape:
                raise ArtefactError(f"memory.odds is {list(odds.shape)}, not {list(given.shape)}", where=where, do=DO)
        return cls(sample, given, odds)


def load_memory(state: Mapping[str, Tensor], classes: int, where: str) -> Memory | LabelMemory | None:
    """The memory that a state is of; None where there is none.

    Raises:
        ArtefactError: it is damaged.
    """
    if not state:
        return None
    several = state.keys() - {"odds"} == {"sample", "labels"}
    return (LabelMemory if several else Memory).load(state, classes, where)
