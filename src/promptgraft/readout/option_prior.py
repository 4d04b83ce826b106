"""The readout `option-prior` takes off what the options of a row say by themselves, without the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout.choice import scatter
from promptgraft.readout.completion import OptionCompletion, answer_sums
from promptgraft.readout.readout import register


@register
@dataclass(frozen=True, eq=False)
class OptionPrior(OptionCompletion):
    """Scores the options of a row by minus their log-probability; a member beside an `option-completion`.

    Read in a template without the row, it makes the sum of both the pointwise mutual information of option and row
    (Holtzman et al. 2021, PMI_DC). Nothing of it is trained.
    """

    name: ClassVar[str] = "option-prior"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {"raw_scale": (), "power": ()}
    trained: ClassVar[tuple[str, ...]] = ()

    def scores(self, features: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
        totals, lengths = answer_sums(features.to(self.power.dtype), tokens)
        return scatter(-self.raw_scale.exp() * totals / lengths.clamp_min(1) ** self.power, tokens.rows)
