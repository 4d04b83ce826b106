"""Teachers of a run: their scores computed once, or anew at every step where the method is defined so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels.dropout import Dropout
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.prompt.prompt import stack
from promptgraft.train.data import Data
from promptgraft.train.predict import score
from promptgraft.train.run import Tuned
from promptgraft.train.terms import Step


@dataclass(frozen=True)
class Recorded:
    """A teacher whose scores were computed once for all training units (evaluation mode, detached)."""

    scores: Float[Tensor, "U ..."]

    def __call__(self, step: Step) -> Tensor:
        scores = self.scores[step.units].to(step.scores.device)
        # Choices and span positions are padded to the widest row of all; the batch may be narrower.
        return scores if scores.ndim < 2 else scores[..., : step.scores.shape[-1]]


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

    def __call__(self, step: Step) -> Tensor:
        tokens = self.data.tokens.select(self.order[step.rows])
        prompt = self.tuned.prompt
        owner = None if prompt is None else torch.zeros(tokens.sequences, dtype=torch.long)
        with torch.no_grad():
            prompts = None if prompt is None else stack([prompt])
            batch = Batch(tokens, owner)
            dropout = Dropout.draw(self.rate, tokens.sequences, self.stream)
            states = self.backbone.forward(batch, prompts, self.tuned.read, dropout=dropout)
            return score(self.tuned, states, tokens).to(step.scores.device)


def shuffled(order: Int[Tensor, "U"], groups: Int[Tensor, "U"], generator: torch.Generator) -> Int[Tensor, "U"]:
    """Permute `order` within each group; one group for all is a plain shuffle."""
    result = order.clone()
    for group in groups.unique():
        places = (groups == group).nonzero().squeeze(1)
        result[places] = order[places[torch.randperm(len(places), generator=generator)]]
    return result
