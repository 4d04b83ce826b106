"""The readout `written` learns the text that is to be written for a row; its answers are written by the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError, TaskError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.completion import answer_sums
from promptgraft.readout.readout import Given, Readout, register
from promptgraft.task.task import Example, Kind, Label, References, Task

LINE_END = "\n"


@register
@dataclass(frozen=True, eq=False)
class Written(Readout):
    """The mean log-probability of the tokens of a row's text, the end among them, which training raises.

    Training judges it on validation by its loss: to write at every look would take longer than the training. What is
    reported of validation and test is the metric of the texts that the model writes.

    Attributes:
        one_line: 1 where texts are one line each, as all are that it learns from, so that a line's end ends a text.
    """

    name: ClassVar[str] = "written"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"text"})
    reads: ClassVar[Literal["answer"]] = "answer"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {"one_line": ()}
    trained: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = True
    by_loss: ClassVar[bool] = True

    one_line: Float[Tensor, ""]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        texts = (text for row in task.train if isinstance(row.label, References) for text in row.label.texts)
        return cls(torch.tensor(float(not any(LINE_END in text.strip() for text in texts))))

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B"]:
        for example in examples:
            if example.label is not None and not isinstance(example.label, References):
                what = f"label {example.label!r} is no text to be written"
                raise TaskError(what, where=task.name, do="give a task of kind text")
        known = [classes.UNLABELLED if example.label is None else 0 for example in examples]
        return torch.tensor(known, dtype=torch.long, device=tokens.ids.device)

    def scores(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B"]:
        if tokens.answers is None:  # none of these rows has a text to learn
            return features.new_zeros(tokens.count)
        totals, lengths = answer_sums(features.float(), tokens)
        return totals / lengths.clamp_min(1)

    def loss(self, scores: Float[Tensor, "B"], gold: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        return torch.where(gold == classes.UNLABELLED, 0, -scores)

    def predict(
        self, scores: Float[Tensor, "B"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        raise RunError("texts are written by a model, not read off scores", where=task.name)

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends a text beside the model's own end."""
        return (LINE_END,) if self.one_line else ()

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        return self.create(task, 1, torch.Generator(), given)
