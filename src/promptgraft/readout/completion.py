"""Whole answers are scored by their log-probability: what classes say, or the options of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.by_class import ByRow
from promptgraft.readout.choice import right_choice, scatter
from promptgraft.readout.readout import Given, Readout, register
from promptgraft.task.task import Example, Kind, Label, Task


@dataclass(frozen=True, eq=False)
class Answered(Readout):
    """A readout of scale * (sum of log p / length ** power) of every possible answer of a row.

    Attributes:
        raw_scale: the logarithm of the scale.
        power: 0 takes the log-probability of the whole answer, 1 the mean over its tokens (Brown et al. 2020).
    """

    reads: ClassVar[Literal["answer"]] = "answer"
    trained: ClassVar[tuple[str, ...]] = ("raw_scale",)

    raw_scale: Float[Tensor, ""]
    power: Float[Tensor, ""]

    def summed(self) -> Self:
        """The readout that scores whole answers, however long they are."""
        return replace(self, power=torch.zeros_like(self.power))

    def likelihoods(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
        """What each row's answers score; -inf where a row has fewer than the longest."""
        totals, lengths = answer_sums(features.to(self.power.dtype), tokens)
        return scatter(self.raw_scale.exp() * totals / lengths.clamp_min(1) ** self.power, tokens.rows)


@register
@dataclass(frozen=True, eq=False)
class OptionCompletion(Answered):
    """Scores the options of a row, each as a whole answer."""

    name: ClassVar[str] = "option-completion"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"choice"})
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {"raw_scale": (), "power": ()}

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        return cls(classes.leaf(torch.zeros(())), torch.tensor(1.0))

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B"]:
        indices = [right_choice(example, task) for example in examples]
        return torch.tensor(indices, dtype=torch.long, device=tokens.ids.device)

    def scores(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
        return self.likelihoods(features, tokens)

    def loss(self, scores: Float[Tensor, "B C"], gold: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return classes.cross_entropy(scores, gold)

    def predict(
        self, scores: Float[Tensor, "B C"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        return [example.choices[best] for example, best in zip(examples, scores.argmax(-1).tolist(), strict=True)]

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        classes.check_kind(self.name, self.kinds, task)
        return self.load(self.state())


@register
@dataclass(frozen=True, eq=False)
class Completion(Answered, ByRow):
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

    def moved(self, scale: float, bias: Float[Tensor, "C"]) -> Self:
        """The readout whose scores are these times a scale, plus biases."""
        raw_scale = classes.leaf(self.raw_scale + math.log(scale))
        return replace(self, raw_scale=raw_scale, bias=classes.leaf(scale * self.bias.detach() + bias))

    def calibrated(self, scores: Float[Tensor, "N C"]) -> Self:
        """The readout without the preference for some classes that rows without a label, or an empty one, show."""
        return replace(self, bias=classes.leaf(self.bias.detach() - scores.log_softmax(-1).mean(0)))

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
