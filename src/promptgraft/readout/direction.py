"""`direction`: class scores as a linear map of where pooled features point, whatever their length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from promptgraft.model.tokens import Tokens
from promptgraft.readout.by_class import Affine, ByRow
from promptgraft.readout.readout import register
from promptgraft.task.task import Kind


@register
@dataclass(frozen=True, eq=False)
class Directional(Affine, ByRow):
    """scores = W f / |f| + b, so that a text counts as much as any other."""

    name: ClassVar[str] = "direction"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    pairs: ClassVar[bool] = True
    stacks: ClassVar[bool] = True

    def scores(self, features: Float[Tensor, "*K B F"], tokens: Tokens) -> Float[Tensor, "*K B C"]:
        pointed = functional.normalize(features.to(self.weight.dtype), dim=-1)
        return pointed @ self.weight.mT + self.bias.unsqueeze(-2)
