"""The readout `choice` gives each choice a score, with a softmax over the choices of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import TaskError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.readout import Given, Readout, register
from promptgraft.task.task import Example, Kind, Label, Task


class ByOption(Readout):
    """A readout that gives every row one of its own options."""

    kinds: ClassVar[frozenset[Kind]] = frozenset({"choice"})

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B"]:
        places = [right_choice(example, task) for example in examples]
        return torch.tensor(places, dtype=torch.long, device=tokens.ids.device)

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
class Choice(ByOption):
    """A linear score of each choice, w . f; no bias, since a softmax over choices would not see it."""

    name: ClassVar[str] = "choice"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {"weight": ("width",)}
    trained: ClassVar[tuple[str, ...]] = ("weight",)

    weight: Float[Tensor, "F"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        return cls(classes.leaf(classes.INIT_SD * torch.randn(width, generator=generator, device=generator.device)))

    def scores(self, features: Float[Tensor, "S F"], tokens: Tokens) -> Float[Tensor, "B C"]:
        """Scores of each row's choices; -inf where a row has fewer choices than the longest."""
        return scatter(features.to(self.weight.dtype) @ self.weight, tokens.rows)


def right_choice(example: Example, task: Task) -> int:
    """The index of the right choice; -100 without a label."""
    if example.label is None:
        return classes.UNLABELLED
    if example.label not in example.choices:
        raise TaskError(f"label {example.label!r} is not among its choices", where=task.name)
    return example.choices.index(str(example.label))


def scatter(values: Float[Tensor, "N"], starts: Int[Tensor, "B_plus_1"]) -> Float[Tensor, "B C"]:
    """Lay the ranges of a flat list out as rows, padded with -inf; gradients flow back."""
    starts = starts.to(values.device)
    lengths = starts.diff()
    row = torch.arange(len(lengths), device=values.device).repeat_interleave(lengths)
    column = torch.arange(len(values), device=values.device) - starts[:-1].repeat_interleave(lengths)
    padded = values.new_full((len(lengths), int(lengths.max()) if len(lengths) else 0), -torch.inf)
    return padded.index_put((row, column), values)
