"""The readout `option-prior` subtracts the log-probability that a row's options have without the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from promptgraft.readout.completion import OptionCompletion
from promptgraft.readout.readout import register


@register
@dataclass(frozen=True, eq=False)
class OptionPrior(OptionCompletion):
    """Scores the options of a row by minus their log-probability; a member beside an `option-completion`.

    Read in a template without the row, it makes the sum of both the pointwise mutual information of option and row
    (Holtzman et al. 2021, PMI_DC). Nothing of it is trained.
    """

    name: ClassVar[str] = "option-prior"
    trained: ClassVar[tuple[str, ...]] = ()
    sign: ClassVar[float] = -1.0
