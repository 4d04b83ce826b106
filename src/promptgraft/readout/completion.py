"""The readout `completion` scores whole answers by their log-probability: what classes say, or a row's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.choice import right_choice, scatter
from promptgraft.readout.readout import Given, Readout, register
from promptgraft.task.task import Example, Kind, Label, Task


@register
@dataclass(frozen=True, eq=False)
class Completion(Readout):
    """Scores scale * (sum of log p / length ** power) + bias of every possible answer of a row.

    Attributes:
        labels: classes, whose answers the reading holds; empty for a choice, whose rows bring their own.
        bias: of each class; one number, which a softmax does not see, for a choice.
        raw_scale: the logarithm of the scale.
        power: 0 takes the log-probability of the whole answer, 1 the mean over its tokens (Brown et al. 2020).
    """

    name: ClassVar[str] = "completion"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair", "choice"})
    reads: ClassVar[Literal["answer"]] = "answer"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "labels": ("bytes",),
        "bias": ("answers",),
        "raw_scale": (),
        "power": (),
    }
    trained: ClassVar[tuple[str, ...]] = ("bias", "raw_scale")

    labels: tuple[str, ...]
    bias: Float[Tensor, "C"]
    raw_scale: Float[Tensor, ""]
    power: Float[Tensor, ""]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        bias = classes.leaf(torch.zeros(max(1, len(task.classes))))
        return cls(task.classes, bias, classes.leaf(torch.zeros(())), torch.tensor(1.0))

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B"]:
        if task.kind == "choice":
            indices = [right_choice(example, task) for example in examples]
        else:
            indices = classes.class_indices((example.label for example in examples), task)
        return torch.tensor(indices, dtype=torch.long, device=tokens.ids.device)

    def scores(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
        """The scores of each row's answers; -inf where a row has fewer than the longest."""
        totals, lengths = answer_sums(features, tokens)
        scores = scatter(self.raw_scale.exp() * totals / lengths.clamp_min(1) ** self.power, tokens.rows)
        return scores + self.bias if self.labels else scores

    def loss(self, scores: Float[Tensor, "B C"], gold: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return classes.cross_entropy(scores, gold)

    def predict(
        self, scores: Float[Tensor, "B C"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        best = scores.argmax(-1).tolist()
        if self.labels:
            return [self.labels[place] for place in best]
        return [example.choices[place] for example, place in zip(examples, best, strict=True)]

    def calibrated(self, scores: Float[Tensor, "N C"]) -> Self:
        """The readout without the preference for some classes that rows without a label, or an empty one, show."""
        return replace(self, bias=classes.leaf(self.bias.detach() - scores.log_softmax(-1).mean(0)))

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry the scale over; biases are of the source's answers, and start anew."""
        classes.check_kind(self.name, self.kinds, task)
        bias = classes.leaf(torch.zeros(max(1, len(task.classes))))
        return replace(self, labels=task.classes, bias=bias, raw_scale=classes.leaf(self.raw_scale))


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
