"""`linear`: class scores as a linear map of pooled features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.readout import Describe, register
from promptgraft.task.task import Example, Kind, Label, Task

INIT_SD = 0.02


@register
@dataclass(frozen=True, eq=False)
class Linear:
    """scores = W f + b; W starts from normal(0, 0.02), b from 0."""

    name: ClassVar[str] = "linear"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    reads: ClassVar[Literal["pooled", "tokens"]] = "pooled"
    unit: ClassVar[Literal["row", "word"]] = "row"
    pairs: ClassVar[bool] = True
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "labels": ("bytes",),
        "weight": ("classes", "width"),
        "bias": ("classes",),
    }
    stacks: ClassVar[bool] = True

    labels: tuple[str, ...]
    weight: Float[Tensor, "*K C F"]
    bias: Float[Tensor, "*K C"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, describe: Describe) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        weight = INIT_SD * torch.randn(len(task.classes), width, generator=generator, device=generator.device)
        return cls(task.classes, classes.leaf(weight), classes.leaf(weight.new_zeros(len(task.classes))))

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> Self:
        return cls(classes.decode_names(state["labels"]), classes.leaf(state["weight"]), classes.leaf(state["bias"]))

    def parameters(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "bias": self.bias}

    def state(self) -> dict[str, Tensor]:
        return {
            "labels": classes.encode_names(self.labels),
            "weight": self.weight.detach(),
            "bias": self.bias.detach(),
        }

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B"]:
        labels = classes.class_indices((example.label for example in examples), task)
        return torch.tensor(labels, dtype=torch.long, device=tokens.ids.device)

    def scores(self, features: Float[Tensor, "*K B F"], tokens: Tokens) -> Float[Tensor, "*K B C"]:
        return features.to(self.weight.dtype) @ self.weight.mT + self.bias.unsqueeze(-2)

    def loss(self, scores: Float[Tensor, "*K B C"], gold: Int[Tensor, "*K B"]) -> Float[Tensor, "*K B"]:
        return classes.cross_entropy(scores, gold)

    def predict(
        self, scores: Float[Tensor, "B C"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        return [self.labels[best] for best in scores.argmax(-1).tolist()]

    def carry(self, task: Task, describe: Describe, label_map: Mapping[str, str]) -> Self:
        classes.check_kind(self.name, self.kinds, task)
        rows = classes.source_rows(self.name, self.labels, task, label_map).to(self.weight.device)
        return type(self)(task.classes, classes.leaf(self.weight[rows]), classes.leaf(self.bias[rows]))
