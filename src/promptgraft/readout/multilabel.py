"""Readouts whose names begin with `multilabel` give every label of a row a probability of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.by_class import Affine, ByLabel, label_rates, of_labels
from promptgraft.readout.label_text import Described
from promptgraft.readout.readout import Given, register
from promptgraft.readout.threshold import UNJUDGED
from promptgraft.task.task import Kind, Task


@register
@dataclass(frozen=True, eq=False)
class Multilabel(Affine, ByLabel):
    """Linear log odds of each label: W f + b; b starts from the labels' shares of the training rows."""

    name: ClassVar[str] = "multilabel"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"multilabel"})
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {**Affine.form, "threshold": (), "least": ()}
    stacks: ClassVar[bool] = True

    threshold: Float[Tensor, "*K"]
    least: Float[Tensor, "*K"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        weight = cls.start(task, width, generator)
        rates, least = label_rates(task)
        return cls(task.classes, classes.leaf(weight), classes.leaf(rates.to(weight)), weight.new_zeros(()), least)

    def scores(self, features: Float[Tensor, "*K B F"], tokens: Tokens) -> Float[Tensor, "*K B C 2"]:
        return of_labels(features.to(self.weight.dtype) @ self.weight.mT + self.bias.unsqueeze(-2))

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry the weights over; whether every row gets a label is said by the new task's rows, where it has any."""
        carried = super().carry(task, given, label_map)
        if all(row.label is None for row in task.train):
            return carried
        _, least = label_rates(task)
        return replace(carried, least=least.to(carried.least))


@register
@dataclass(frozen=True, eq=False)
class MultilabelDirection(Multilabel):
    """Log odds of each label: W f / |f| + b, so that a text counts as much as any other."""

    name: ClassVar[str] = "multilabel-direction"

    def scores(self, features: Float[Tensor, "*K B F"], tokens: Tokens) -> Float[Tensor, "*K B C 2"]:
        return super().scores(torch.nn.functional.normalize(features.to(self.weight.dtype), dim=-1), tokens)


@register
@dataclass(frozen=True, eq=False)
class MultilabelText(Described, ByLabel):
    """Log odds of each label: scale * cos(f, e + delta) + b, with e the embedding of its description less their mean.

    What all descriptions share says nothing of any one of them, and would lift or sink the odds of all alike. Without
    labelled rows each label is as likely beforehand as one of so many, and the threshold is `UNJUDGED`.
    """

    name: ClassVar[str] = "multilabel-text"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"multilabel"})
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {**Described.form, "threshold": (), "least": ()}
    stacks: ClassVar[bool] = True
    centred: ClassVar[bool] = True

    threshold: Float[Tensor, "*K"]
    least: Float[Tensor, "*K"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        embeddings, delta, scale, bias = cls.start(task, width, given)
        rates, least = label_rates(task)
        is_judged = any(row.label is not None for row in task.train)
        threshold = bias.new_tensor(0.0 if is_judged else UNJUDGED)
        return cls(task.classes, embeddings, delta, scale, classes.leaf(rates.to(bias)), threshold, least)

    def scores(self, features: Float[Tensor, "*K B H"], tokens: Tokens) -> Float[Tensor, "*K B C 2"]:
        return of_labels(self.similarity(features))

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry the scale, and what was learned of labels that mean the same; others start from their share of rows."""
        carried = super().carry(task, given, label_map)
        rates, least = label_rates(task)
        bias = rates.to(carried.bias)
        for name in self.same_labels(task, carried.embeddings, label_map):
            place = task.classes.index(name)
            bias[place] = carried.bias[place].detach()
        return replace(carried, bias=classes.leaf(bias), least=least.to(carried.least))
