"""`direction`: class scores as a linear map of where pooled features point, whatever their length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from promptgraft.model.tokens import Tokens
from promptgraft.readout.linear import Linear
from promptgraft.readout.readout import register


@register
@dataclass(frozen=True, eq=False)
class Directional(Linear):
    """scores = W f / |f| + b, so that a text counts as much as any other."""

    name: ClassVar[str] = "direction"

    def scores(self, features: Float[Tensor, "*K B F"], tokens: Tokens) -> Float[Tensor, "*K B C"]:
        return super().scores(functional.normalize(features.to(self.weight.dtype), dim=-1), tokens)
