"""The readout `linear` scores classes by a linear map of pooled features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout.by_class import Affine, ByRow
from promptgraft.readout.readout import register
from promptgraft.task.task import Kind


@register
@dataclass(frozen=True, eq=False)
class Linear(Affine, ByRow):
    """Linear class scores of a row: W f + b."""

    name: ClassVar[str] = "linear"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    pairs: ClassVar[bool] = True
    stacks: ClassVar[bool] = True

    def scores(self, features: Float[Tensor, "*K B F"], tokens: Tokens) -> Float[Tensor, "*K B C"]:
        return features.to(self.weight.dtype) @ self.weight.mT + self.bias.unsqueeze(-2)
