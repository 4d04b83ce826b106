"""A teacher's scores are computed once, or anew at every step where the method is defined so."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from promptgraft.kernels.dropout import Dropout
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.tokens import concatenate
from promptgraft.prompt.prompt import stack
from promptgraft.train.data import Data
from promptgraft.train.run import Tuned
from promptgraft.train.terms import Step
from promptgraft.train.together import score_together


@dataclass(frozen=True)
class Recorded:
    """A teacher whose scores were computed once for all training units (evaluation mode, detached)."""

    scores: Float[Tensor, "U ..."]

    @property
    def kind(self) -> Hashable:
        return type(self), self.scores.shape[1:]

    @classmethod
    def together(cls, teachers: Sequence[Self], step: Step) -> Tensor:
        recorded = [teacher.scores[units] for teacher, units in zip(teachers, step.units, strict=True)]
        scores = torch.stack(recorded).to(step.scores.device)
        # Choices and span positions are padded to the widest row of all; the batch may be narrower.
        return scores if scores.ndim < 3 else scores[..., : step.scores.shape[-1]]


@dataclass(frozen=True)
class Live:
    """A teacher that is run at every step in train mode, with a dropout mask of its own (PANDA as released).

    Attributes:
        order: row b of the run is shown the teacher's scores for row `order[b]` (placebos shuffle them).
        rate, stream: of the dropout.
    """

    backbone: Backbone
    tuned: Tuned
    data: Data
    order: Int[Tensor, "B"]
    rate: float
    stream: torch.Generator

    @property
    def kind(self) -> Hashable:
        prompt = self.tuned.prompt
        form = None if prompt is None else (prompt.depth, prompt.placement)
        return type(self), id(self.backbone), self.rate, self.tuned.read, self.tuned.reading, form

    @classmethod
    def together(cls, teachers: Sequence[Self], step: Step) -> Tensor:
        first, models = teachers[0], [teacher.tuned for teacher in teachers]
        pairs = zip(teachers, step.rows, strict=True)
        parts = [teacher.data.tokens.select(teacher.order[rows]) for teacher, rows in pairs]
        prompts = [model.prompt for model in models if model.prompt is not None]
        owner = torch.arange(len(parts)).repeat_interleave(torch.tensor([part.sequences for part in parts]))
        masks = [
            Dropout.draw(first.rate, part.sequences, teacher.stream)
            for teacher, part in zip(teachers, parts, strict=True)
        ]
        dropout = Dropout(first.rate, torch.cat([mask.keys for mask in masks]))
        tokens = concatenate(parts)
        with torch.no_grad():
            batch = Batch(tokens, owner if prompts else None)
            states = first.backbone.forward(
                batch, stack(prompts) if prompts else None, first.tuned.read, dropout=dropout
            )
            scored = score_together(models, [part.count for part in parts], tokens, states)
            scores = [member for group in scored for member in group.each()]
        return torch.stack(scores).to(step.scores.device)


def as_wide(scores: Sequence[Float[Tensor, "..."]]) -> list[Float[Tensor, "..."]]:
    """Pad the scores of several splits with -inf to the widest: each split has choices and positions of its own."""
    if scores[0].ndim < 2:
        return list(scores)
    width = max(part.shape[-1] for part in scores)
    return [functional.pad(part, (0, width - part.shape[-1]), value=-torch.inf) for part in scores]


def shuffled(order: Int[Tensor, "U"], groups: Int[Tensor, "U"], generator: torch.Generator) -> Int[Tensor, "U"]:
    """Permute `order` within each group; one group for all is a plain shuffle."""
    result = order.clone()
    for group in groups.unique():
        places = (groups == group).nonzero().squeeze(1)
        result[places] = order[places[torch.randperm(len(places), generator=generator)]]
    return result
