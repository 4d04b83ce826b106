"""What readouts of classes share: how rows get one class or several labels, words of classes, and a linear map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.readout import Given, Readout
from promptgraft.readout.threshold import best_threshold
from promptgraft.task.task import Example, Label, Task


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


class ByWords(ByRow):
    """A readout of the words of classes: scores times a scale, plus a bias a class.

    Attributes:
        raw_scale: the logarithm of the scale.
    """

    raw_scale: Float[Tensor, "*K"]
    bias: Float[Tensor, "*K C"]

    def moved(self, scale: float, bias: Float[Tensor, "C"]) -> Self:
        """The readout whose scores are these times a scale, plus biases."""
        raw_scale = classes.leaf(self.raw_scale + math.log(scale))
        moved_bias = classes.leaf(scale * self.bias.detach() + bias)
        return replace(self, raw_scale=raw_scale, bias=moved_bias)  # type: ignore[type-var]

    def calibrated(self, scores: Float[Tensor, "N C"]) -> Self:
        """The readout without the preference that rows without a label (or an empty one) show for some classes.

        The mean log-probability of each class over such rows is taken off (Zhao et al. 2021, contextual calibration;
        Fei et al. 2023, domain context).
        """
        bias = classes.leaf(self.bias.detach() - scores.log_softmax(-1).mean(0))
        return replace(self, bias=bias)  # type: ignore[type-var]


class ByLabel(Readout):
    """A readout that says of every row and label whether the row has it.

    Scores are `[B, C, 2]`: 0, and the log odds that the row has the label, so that a softmax over the last axis is a
    sigmoid. A row gets the labels whose log odds are above the threshold.

    Attributes:
        threshold: log odds; 0 is a probability of a half.
        least: 1 where every row gets its likeliest label at least, since no training row was without one; else 0.
    """

    settles: ClassVar[bool] = True

    labels: tuple[str, ...]
    threshold: Float[Tensor, "*K"]
    least: Float[Tensor, "*K"]

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B C"]:
        return torch.from_numpy(classes.indicators([row.label for row in examples], task)).to(tokens.ids.device)

    def loss(self, scores: Float[Tensor, "*K B C 2"], gold: Int[Tensor, "*K B C"]) -> Float[Tensor, "*K B"]:
        return classes.cross_entropy(scores, gold).mean(-1)

    def predict(
        self, scores: Float[Tensor, "B C 2"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        return self.chosen(scores[..., 1] - scores[..., 0])

    def chosen(self, odds: Float[Tensor, "B C"]) -> list[Label | str]:
        """The labels of each row, by name, from their log odds."""
        has = odds > float(self.threshold)
        if float(self.least) > 0 and odds.shape[1]:
            has = has.scatter(1, odds.argmax(1, keepdim=True), True)
        return [tuple(sorted(self.labels[place] for place in row.nonzero().flatten().tolist())) for row in has]

    def settled(self, scores: Float[Tensor, "B C 2"], gold: Int[Tensor, "B C"], task: Task) -> Self:
        odds = (scores[..., 1] - scores[..., 0]).double().numpy()
        threshold = best_threshold(odds, gold.numpy(), macro=task.metric == "macro_f1", least=float(self.least) > 0)
        return replace(self, threshold=self.threshold.new_tensor(threshold))  # type: ignore[type-var]


def of_labels(odds: Float[Tensor, "*K B C"]) -> Float[Tensor, "*K B C 2"]:
    """The scores of labels from their log odds."""
    return torch.stack([torch.zeros_like(odds), odds], dim=-1)


def label_rates(task: Task) -> tuple[Float[Tensor, "C"], Float[Tensor, ""]]:
    """The log odds of each label among the training rows and one more, which has one of them; and `ByLabel.least`."""
    gold = classes.indicators([row.label for row in task.train if row.label is not None], task)
    share = (gold.sum(0) + 1 / max(2, gold.shape[1])) / (len(gold) + 1)
    rates = torch.from_numpy(np.log(share) - np.log1p(-share)).float()
    return rates, torch.tensor(float(gold.any(1).all()))


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
    def start(cls, task: Task, width: int, generator: torch.Generator) -> Float[Tensor, "C F"]:
        """Untrained weights."""
        classes.check_kind(cls.name, cls.kinds, task)
        return classes.INIT_SD * torch.randn(len(task.classes), width, generator=generator, device=generator.device)

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        weight = cls.start(task, width, generator)
        return cls(task.classes, classes.leaf(weight), classes.leaf(weight.new_zeros(len(task.classes))))

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        classes.check_kind(self.name, self.kinds, task)
        rows = classes.source_rows(self.name, self.labels, task, label_map).to(self.weight.device)
        return replace(
            self, labels=task.classes, weight=classes.leaf(self.weight[rows]), bias=classes.leaf(self.bias[rows])
        )
