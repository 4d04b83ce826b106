"""The readout `detector` asks a model that tells replaced words from original ones which label's words fit a row."""

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
from promptgraft.readout.completion import Completion
from promptgraft.readout.readout import Given, register
from promptgraft.task.task import Kind, Task


@register
@dataclass(frozen=True, eq=False)
class Detector(Completion):
    """Scores each class by how likely its words, put in the template's gap, are original (Xia et al. 2022).

    A word scores the mean over its tokens of the log-probability that the token was not put in another's place, a
    class the mean over its words.

    Attributes:
        counts: how many words each class has; a row has a sequence for each word, class by class.
    """

    name: ClassVar[str] = "detector"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    reads: ClassVar[Literal["original"]] = "original"  # type: ignore[assignment]
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {**Completion.form, "counts": ("classes",)}

    counts: Float[Tensor, "C"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        bias = classes.leaf(torch.zeros(len(task.classes)))
        return cls(classes.leaf(torch.zeros(())), torch.tensor(1.0), task.classes, bias, _counts(task, given))

    def likelihoods(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
        words = super().likelihoods(features, tokens)
        if words.shape[1] != float(self.counts.sum()):
            what = f"rows have {words.shape[1]} words of labels, and the readout {self.counts.sum():.0f}"
            raise RunError(what, do="tune it again")
        owner = torch.arange(len(self.counts), device=words.device).repeat_interleave(self.counts.long())
        totals = words.new_zeros(len(words), len(self.counts)).index_add(1, owner, words)
        return totals / self.counts

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        return replace(super().carry(task, given, label_map), counts=_counts(task, given).to(self.counts))


def _counts(task: Task, given: Given) -> Float[Tensor, "C"]:
    """How many words each class has."""
    return torch.tensor([float(len(given.words[label])) for label in task.classes])
