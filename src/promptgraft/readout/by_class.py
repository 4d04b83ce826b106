"""Readouts of classes share a weight and a bias for each class, and rows that each get one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.readout import Describe, Readout
from promptgraft.task.task import Example, Label, Task

INIT_SD = 0.02


class ByRow(Readout):
    """A readout that gives every row one class."""

    labels: tuple[str, ...]

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B"]:
        indices = classes.class_indices((example.label for example in examples), task)
        return torch.tensor(indices, dtype=torch.long, device=tokens.ids.device)

    def loss(self, scores: Float[Tensor, "*K B C"], gold: Int[Tensor, "*K B"]) -> Float[Tensor, "*K B"]:
        return classes.cross_entropy(scores, gold)

    def predict(
        self, scores: Float[Tensor, "B C"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        return [self.labels[best] for best in scores.argmax(-1).tolist()]


@dataclass(frozen=True, eq=False)
class Affine(Readout):
    """A linear map: scores = W f + b; W starts from normal(0, 0.02), b from 0."""

    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "labels": ("bytes",),
        "weight": ("classes", "width"),
        "bias": ("classes",),
    }
    trained: ClassVar[tuple[str, ...]] = ("weight", "bias")

    labels: tuple[str, ...]
    weight: Float[Tensor, "*K C F"]
    bias: Float[Tensor, "*K C"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, describe: Describe) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        weight = INIT_SD * torch.randn(len(task.classes), width, generator=generator, device=generator.device)
        return cls(task.classes, classes.leaf(weight), classes.leaf(weight.new_zeros(len(task.classes))))

    def carry(self, task: Task, describe: Describe, label_map: Mapping[str, str]) -> Self:
        classes.check_kind(self.name, self.kinds, task)
        rows = classes.source_rows(self.name, self.labels, task, label_map).to(self.weight.device)
        return type(self)(task.classes, classes.leaf(self.weight[rows]), classes.leaf(self.bias[rows]))
