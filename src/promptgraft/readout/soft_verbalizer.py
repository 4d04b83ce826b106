"""The readout `soft-verbalizer` has a trained vector a label, which starts from the label's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.by_class import ByRow
from promptgraft.readout.readout import Given, register
from promptgraft.readout.verbalizer import label_columns
from promptgraft.task.task import Kind, Task


@register
@dataclass(frozen=True, eq=False)
class SoftVerbalizer(ByRow):
    """Scores f . v + b of the state at the answer's place, with v trained (Hambardzumyan et al. 2021, WARP).

    Untrained it says what the mean logits of the words say; nothing else is trained, no scale and no bias.

    Attributes:
        vectors: started from the mean columns of the labels' words in the head over words.
        offset: the mean biases of these words.
    """

    name: ClassVar[str] = "soft-verbalizer"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    reads: ClassVar[Literal["mark"]] = "mark"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "labels": ("bytes",),
        "vectors": ("classes", "width"),
        "offset": ("classes",),
    }
    trained: ClassVar[tuple[str, ...]] = ("vectors",)
    stacks: ClassVar[bool] = True

    labels: tuple[str, ...]
    vectors: Float[Tensor, "*K C E"]
    offset: Float[Tensor, "*K C"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        columns, offset = label_columns(task, given)
        return cls(task.classes, classes.leaf(columns), offset)

    def scores(self, features: Float[Tensor, "*K B E"], tokens: Tokens) -> Float[Tensor, "*K B C"]:
        return features.to(self.vectors.dtype) @ self.vectors.mT + self.offset.unsqueeze(-2)

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry over the vectors of labels that mean the same; others start from their words."""
        classes.check_kind(self.name, self.kinds, task)
        vectors, offset = (tensor.to(self.offset) for tensor in label_columns(task, given))
        for target, source in classes.all_matched(self.labels, task, label_map).items():
            place = task.classes.index(target)
            vectors[place], offset[place] = self.vectors[source].detach(), self.offset[source]
        return replace(self, labels=task.classes, vectors=classes.leaf(vectors), offset=offset)
