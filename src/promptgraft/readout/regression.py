"""The readout `regression` predicts a number for each row, learned in units of the training labels' spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import TaskError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.readout import Given, Readout, register
from promptgraft.task.draws import Array
from promptgraft.task.task import Example, Kind, Label, Task


@register
@dataclass(frozen=True, eq=False)
class Regression(Readout):
    """A linear score, w . f + b, learned on labels standardised by the training labels' mean and standard deviation.

    Attributes:
        moments: mean and standard deviation of the training labels; predictions are `score * sd + mean`.
    """

    name: ClassVar[str] = "regression"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"regression"})
    pairs: ClassVar[bool] = True
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {"weight": ("width",), "bias": (), "moments": (2,)}
    trained: ClassVar[tuple[str, ...]] = ("weight", "bias")
    stacks: ClassVar[bool] = True

    weight: Float[Tensor, "*K F"]
    bias: Float[Tensor, "*K"]
    moments: Float[Tensor, "*K 2"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        weight = classes.INIT_SD * torch.randn(width, generator=generator, device=generator.device)
        moments = label_moments(task)
        moments = torch.tensor([0.0, 1.0]) if moments is None else moments
        return cls(classes.leaf(weight), classes.leaf(weight.new_zeros(())), moments.to(weight))

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Float[Tensor, "B"]:
        """Standardised labels; -100 standard deviations marks a row without one."""
        mean, sd = self.moments.tolist()
        numbers = [None if example.label is None else number(example.label, task) for example in examples]
        standard = [classes.UNLABELLED if value is None else (value - mean) / sd for value in numbers]
        return torch.tensor(standard, dtype=self.weight.dtype, device=tokens.ids.device)

    def scores(self, features: Float[Tensor, "*K B F"], tokens: Tokens) -> Float[Tensor, "*K B"]:
        return (features.to(self.weight.dtype) @ self.weight.unsqueeze(-1)).squeeze(-1) + self.bias.unsqueeze(-1)

    def loss(self, scores: Float[Tensor, "*K B"], gold: Float[Tensor, "*K B"]) -> Float[Tensor, "*K B"]:
        return torch.where(gold == classes.UNLABELLED, torch.zeros_like(scores), (scores - gold) ** 2)

    def predict(
        self, scores: Float[Tensor, "B"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        mean, sd = self.moments.tolist()
        return [score * sd + mean for score in scores.tolist()]

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry the weights over, in units of the new task's labels where it has training labels."""
        classes.check_kind(self.name, self.kinds, task)
        moments = label_moments(task)
        return self.load(self.state() | ({} if moments is None else {"moments": moments.to(self.moments)}))


def label_moments(task: Task) -> Float[Tensor, "2"] | None:
    """Mean and standard deviation of the training labels (1 where all are equal); None without labels."""
    labels = [number(example.label, task) for example in task.train if example.label is not None]
    if not labels:
        return None
    values = torch.tensor(labels, dtype=torch.float64)
    return torch.tensor([float(values.mean()), float(values.std(correction=0)) if differ(values) else 1.0])


def differ(values: Tensor | Array) -> bool:
    """Whether numbers are not all the same; where they are, what they deviate from their mean is rounding."""
    return bool(values.max() > values.min())


def number(label: Label, task: Task) -> float:
    """The label as a number; anything else raises a TaskError."""
    if not isinstance(label, int | float):
        raise TaskError(f"label {label!r} is not a number", where=task.name)
    return float(label)
