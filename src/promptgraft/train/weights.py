"""Model tuning trains copies of the backbone's own weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.backbone import Backbone
from promptgraft.model.decoder import HEAD
from promptgraft.model.tokens import Tokens


@dataclass(frozen=True)
class Weights:
    """Trainable copies of the weights, in fp32: a step is far smaller than what bf16 can tell apart.

    Of the table of words, and of a head beside it, only those rows are trained that some training text reads. The
    others have no gradient at any step; they stay as they are, weight decay included. With few labels they are most of
    a small model, and would cost most of a step. Where answers are read over all words every row has a gradient, and
    is trained.

    Attributes:
        leaves: what is trained, by name; under the names of `tables` their rows `used`.
        tables: whole tables of a row a word, before training, by name.
    """

    leaves: Mapping[str, Float[Tensor, "..."]]
    tables: Mapping[str, Float[Tensor, "V E"]]
    used: Int[Tensor, "U"]

    @classmethod
    def of(cls, backbone: Backbone, tokens: Tokens, *, over_words: bool = False) -> Weights:
        """Copy a backbone's weights for training on these rows.

        Args:
            over_words: whether answers are read over all words.
        """
        weights = backbone.weights
        used = torch.arange(len(weights[backbone.words])) if over_words else tokens.ids.unique()
        tables = {name: weights[name].detach().float() for name in (backbone.words, HEAD) if name in weights}
        trained = {**weights, **{name: table[used.to(table.device)] for name, table in tables.items()}}
        leaves = {name: value.detach().float().clone().requires_grad_() for name, value in trained.items()}
        return cls(leaves, tables, used)

    def numbered(self, tokens: Tokens) -> Tokens:
        """Renumber the words of the training rows as in the trained rows of the tables."""
        return replace(tokens, ids=torch.searchsorted(self.used, tokens.ids))

    def whole(self) -> dict[str, Float[Tensor, "..."]]:
        """All weights of the model as they are now, detached."""
        values = {name: value.detach() for name, value in self.leaves.items()}
        return values | {
            name: table.index_copy(0, self.used.to(table.device), values[name]) for name, table in self.tables.items()
        }

    @property
    def parameters(self) -> int:
        """How many numbers the whole model has."""
        frozen = sum((len(table) - len(self.used)) * int(table.shape[1]) for table in self.tables.values())
        return sum(value.numel() for value in self.leaves.values()) + frozen
