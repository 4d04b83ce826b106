"""Whole answers are scored by their log-probability: what classes say, or the options of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.by_class import ByWords
from promptgraft.readout.choice import ByOption, scatter
from promptgraft.readout.readout import Given, Readout, register
from promptgraft.task.task import Kind, Task


@dataclass(frozen=True, eq=False)
class Answered(Readout):
    """A readout of scale * (sum of log p / length ** power) of every possible answer of a row.

    Attributes:
        sign: -1 where what is likely is to score low.
        raw_scale: the logarithm of the scale.
        power: 0 takes the log-probability of the whole answer, 1 the mean over its tokens (Brown et al. 2020).
    """

    reads: ClassVar[Literal["answer"]] = "answer"
    trained: ClassVar[tuple[str, ...]] = ("raw_scale",)
    sign: ClassVar[float] = 1.0

    raw_scale: Float[Tensor, ""]
    power: Float[Tensor, ""]

    def summed(self) -> Self:
        """The readout that scores whole answers, however long they are."""
        return replace(self, power=torch.zeros_like(self.power))

    def likelihoods(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
        """What each row's answers score; -inf where a row has fewer than the longest."""
        totals, lengths = answer_sums(features.to(self.power.dtype), tokens)
        return scatter(self.sign * self.raw_scale.exp() * totals / lengths.clamp_min(1) ** self.power, tokens.rows)


@register
@dataclass(frozen=True, eq=False)
class OptionCompletion(Answered, ByOption):
    """Scores the options of a row, each as a whole answer."""

    name: ClassVar[str] = "option-completion"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {"raw_scale": (), "power": ()}

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        return cls(classes.leaf(torch.zeros(())), torch.tensor(1.0))

    def scores(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
        return self.likelihoods(features, tokens)


@register
@dataclass(frozen=True, eq=False)
class Completion(Answered, ByWords):
    """Scores what each class says as a whole answer, with a bias a class."""

    name: ClassVar[str] = "completion"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "labels": ("bytes",),
        "raw_scale": (),
        "power": (),
        "bias": ("classes",),
    }
    trained: ClassVar[tuple[str, ...]] = ("bias", "raw_scale")

    labels: tuple[str, ...]
    bias: Float[Tensor, "C"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        bias = classes.leaf(torch.zeros(len(task.classes)))
        return cls(classes.leaf(torch.zeros(())), torch.tensor(1.0), task.classes, bias)

    def scores(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
        return self.likelihoods(features, tokens) + self.bias

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry the scale over, and the biases of labels that mean the same where all do."""
        classes.check_kind(self.name, self.kinds, task)
        bias = torch.zeros(len(task.classes)).to(self.bias)
        for target, source in classes.all_matched(self.labels, task, label_map).items():
            bias[task.classes.index(target)] = self.bias[source].detach()
        scale = classes.leaf(self.raw_scale)
        return replace(self, labels=task.classes, bias=classes.leaf(bias), raw_scale=scale)


def answer_sums(features: Float[Tensor, "N 1"], tokens: Tokens) -> tuple[Float[Tensor, "S"], Float[Tensor, "S"]]:
    """The log-probability of each sequence's answer, and how many tokens it has.

    Raises:
        RunError: the rows have no answers.
    """
    if tokens.answers is None:
        raise RunError("rows without answers cannot be read by completion", do="give a template")
    sequence = torch.arange(tokens.sequences).repeat_interleave(tokens.lengths)[tokens.answers.cpu()]
    sequence = sequence.to(features.device)
    totals = features.new_zeros(tokens.sequences).index_add(0, sequence, features[:, 0])
    return totals, torch.bincount(sequence, minlength=tokens.sequences).to(features.dtype)
