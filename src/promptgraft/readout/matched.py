"""While a prompt is distilled, this readout compares the model's distribution over all words with the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout.readout import Given, Readout
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Example, Kind, Label, Task

ROWS_AT_ONCE = 64
"""Rows whose probabilities of all words are held at a time."""


@dataclass(frozen=True, eq=False)
class Matched(Readout):
    """KL(teacher || student) of the words at the answer's place; it is for training alone, and in no registry.

    Scores are the student's states themselves, and a row's gold label is its row among the teacher's states.

    Attributes:
        columns, offset: the head's weights and biases of all words.
        states: the teacher's, at the answer's place.
    """

    name: ClassVar[str] = "matched"
    kinds: ClassVar[frozenset[Kind]] = frozenset(KINDS)
    reads: ClassVar[Literal["mark"]] = "mark"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "columns": ("words", "width"),
        "offset": ("words",),
        "states": ("rows", "width"),
    }
    trained: ClassVar[tuple[str, ...]] = ()
    by_loss: ClassVar[bool] = True

    columns: Float[Tensor, "V E"]
    offset: Float[Tensor, "V"]
    states: Float[Tensor, "N E"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        raise RunError("it is made of a teacher's states", where=task.name)

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B"]:
        return torch.arange(len(examples))

    def scores(self, features: Float[Tensor, "B E"], tokens: Tokens) -> Float[Tensor, "B E"]:
        return features.float()

    def loss(self, scores: Float[Tensor, "B E"], gold: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        parts = zip(scores.split(ROWS_AT_ONCE), self.states[gold].split(ROWS_AT_ONCE), strict=True)
        return torch.cat([self.divergence(student, teacher) for student, teacher in parts])

    def divergence(self, student: Float[Tensor, "B E"], teacher: Float[Tensor, "B E"]) -> Float[Tensor, "B"]:
        """How far the words that a student's states say are from those of a teacher's, in nats."""
        wanted, logs = (self.words(states).log_softmax(-1) for states in (teacher, student))
        return (wanted.exp() * (wanted - logs)).sum(-1)

    def words(self, states: Float[Tensor, "B E"]) -> Float[Tensor, "B V"]:
        """The logits of all words."""
        return states.float() @ self.columns.T + self.offset

    def predict(
        self, scores: Float[Tensor, "B E"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        raise RunError("words are matched to be learned, not to be predicted", where=task.name)

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        raise RunError("what is matched cannot be carried over", where=task.name)
