"""The readout `verbalizer` scores classes by the logits of their words at a template's answer's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.by_class import ByWords
from promptgraft.readout.readout import Given, register
from promptgraft.task.task import Kind, Task


@register
@dataclass(frozen=True, eq=False)
class Verbalizer(ByWords):
    """The mean logit of each label's words (Schick and Schutze 2021, PET), which training moves.

    Scores are scale * (f . (w + delta) + b) + bias: with delta and bias at 0 and scale at 1 they are the model's own,
    so that a label is read that nothing was trained on.

    Attributes:
        columns, offset: mean weights and bias of the labels' words in the head over words.
        raw_scale: the logarithm of the scale.
    """

    name: ClassVar[str] = "verbalizer"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    reads: ClassVar[Literal["mark"]] = "mark"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "labels": ("bytes",),
        "columns": ("classes", "width"),
        "offset": ("classes",),
        "delta": ("classes", "width"),
        "raw_scale": (),
        "bias": ("classes",),
    }
    trained: ClassVar[tuple[str, ...]] = ("delta", "raw_scale", "bias")
    stacks: ClassVar[bool] = True

    labels: tuple[str, ...]
    columns: Float[Tensor, "*K C E"]
    offset: Float[Tensor, "*K C"]
    delta: Float[Tensor, "*K C E"]
    raw_scale: Float[Tensor, "*K"]
    bias: Float[Tensor, "*K C"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        columns, offset = label_columns(task, given)
        return cls(
            task.classes,
            columns,
            offset,
            classes.leaf(torch.zeros_like(columns)),
            classes.leaf(torch.zeros(())),
            classes.leaf(torch.zeros_like(offset)),
        )

    def scores(self, features: Float[Tensor, "*K B E"], tokens: Tokens) -> Float[Tensor, "*K B C"]:
        logits = features.to(self.delta.dtype) @ (self.columns + self.delta).mT + self.offset.unsqueeze(-2)
        return self.raw_scale.exp()[..., None, None] * logits + self.bias.unsqueeze(-2)

    def linear(self) -> tuple[Float[Tensor, "C E"], Float[Tensor, "C"]]:
        """Weights and biases of the same scores."""
        scale = self.raw_scale.detach().exp()
        return scale * (self.columns + self.delta.detach()), scale * self.offset + self.bias.detach()

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry over to the new task's words; labels that mean the same keep what training moved of theirs."""
        classes.check_kind(self.name, self.kinds, task)
        columns, offset = (tensor.to(self.columns) for tensor in label_columns(task, given))
        delta, bias = torch.zeros_like(columns), torch.zeros_like(offset)
        for target, source in classes.all_matched(self.labels, task, label_map).items():
            place = task.classes.index(target)
            delta[place], bias[place] = self.delta[source].detach(), self.bias[source].detach()
        scale = classes.leaf(self.raw_scale)
        return replace(
            self,
            labels=task.classes,
            columns=columns,
            offset=offset,
            delta=classes.leaf(delta),
            raw_scale=scale,
            bias=classes.leaf(bias),
        )


def label_columns(task: Task, given: Given) -> tuple[Float[Tensor, "C E"], Float[Tensor, "C"]]:
    """The mean weights and biases of each label's words in the head over words.

    Raises:
        RunError: the backbone has no head over words, or two labels have the same words.
    """
    if given.columns is None:
        raise RunError("words are read by a model with a head over words", where=task.name, do="take another model")
    weights, biases = zip(*(mean_column(given, given.words[label]) for label in task.classes), strict=True)
    columns = torch.stack(weights)
    for later, label in enumerate(task.classes):
        for earlier, other in enumerate(task.classes[:later]):
            if torch.equal(columns[later], columns[earlier]):
                what = f"the words of {other!r} and {label!r} begin alike to the model, which cannot tell them apart"
                do = "give them other words that it knows, or use --readout completion"
                raise RunError(what, where=task.name, do=do)
    return columns, torch.stack(biases)


def mean_column(given: Given, words: Sequence[str]) -> tuple[Float[Tensor, "E"], Float[Tensor, ""]]:
    """The mean weights and bias of some words."""
    assert given.columns is not None, "there is a head over words"
    weights, biases = given.columns(words)
    return weights.mean(0), biases.mean()
