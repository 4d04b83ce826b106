"""Model tuning trains copies of the backbone's own weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.backbone import Backbone
from promptgraft.model.tokens import Tokens


@dataclass(frozen=True)
class Weights:
    """Trainable copies of the weights, in fp32: a step is far smaller than what bf16 can tell apart.

    Of the table of words only those rows are trained that some training text reads. The others have no gradient at any
    step; they stay as they are, weight decay included. With few labels they are most of a small model, and would cost
    most of a step.

    Attributes:
        leaves: what is trained, by name; under `words` the rows `used` of the table.
        table: the whole table of words, before training.
    """

    leaves: Mapping[str, Float[Tensor, "..."]]
    words: str
    table: Float[Tensor, "V E"]
    used: Int[Tensor, "U"]

    @classmethod
    def of(cls, backbone: Backbone, tokens: Tokens) -> Weights:
        """Copy a backbone's weights for training on these rows."""
        used = tokens.ids.unique()
        table = backbone.weights[backbone.words].detach().float()
        trained = {**backbone.weights, backbone.words: table[used.to(table.device)]}
        leaves = {name: value.detach().float().clone().requires_grad_() for name, value in trained.items()}
        return cls(leaves, backbone.words, table, used)

    def numbered(self, tokens: Tokens) -> Tokens:
        """Renumber the words of the training rows as in the trained rows of the table."""
        return replace(tokens, ids=torch.searchsorted(self.used, tokens.ids))

    def whole(self) -> dict[str, Float[Tensor, "..."]]:
        """All weights of the model as they are now, detached."""
        values = {name: value.detach() for name, value in self.leaves.items()}
        return values | {self.words: self.table.index_copy(0, self.used.to(self.table.device), values[self.words])}

    @property
    def parameters(self) -> int:
        """How many numbers the whole model has."""
        return sum(value.numel() for value in self.leaves.values()) + (len(self.table) - len(self.used)) * int(
            self.table.shape[1]
        )
