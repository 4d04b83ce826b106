"""Rotary positions are read from config.json, as the frequencies at which the numbers of a head turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import ModelError
from promptgraft.untrusted import visible

SCALINGS = ("default", "linear", "llama3")
FROM_CONFIG = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


@dataclass(frozen=True)
class Rotary:
    """How fast each pair of a head's numbers turns.

    Attributes:
        base: the slowest pair turns about once in `2 pi base` positions.
        scaling: how the frequencies are stretched for texts longer than those of pretraining.
        factors: of `linear` its factor; of `llama3` factor, low and high frequency factor, and the original length.
    """

    base: float
    scaling: str = "default"
    factors: tuple[float, ...] = ()

    def frequencies(self, width: int) -> Float[Tensor, "half"]:
        """The angle of a position, for every pair of a head's numbers."""
        plain = 1.0 / self.base ** (torch.arange(0, width, 2, dtype=torch.float) / width)
        if self.scaling == "linear":
            return plain / self.factors[0]
        if self.scaling != "llama3":
            return plain
        factor, low, high, length = self.factors
        turns = length * plain / (2 * math.pi)  # of the original length
        smooth = ((turns - low) / (high - low)).clamp(0, 1)
        return (1 - smooth) * plain / factor + smooth * plain


def read_rotary(parameters: Mapping[str, Any], base: float, where: str) -> Rotary:
    """Read what a config.json says of rotary positions.

    Args:
        parameters: its `rope_parameters`, or its older `rope_scaling`; may be empty.
        base: its `rope_theta`, where `parameters` has none.

    Raises:
        ModelError: a scaling that is not supported, or one without its numbers.
    """
    scaling = str(parameters.get("rope_type", parameters.get("type", "default")))
    if scaling not in SCALINGS or parameters.get("partial_rotary_factor", 1.0) != 1.0:
        message = f"its rotary positions ({visible(scaling)!r}) are not supported"
        raise ModelError(message, where=where, do=f"known: {', '.join(SCALINGS)}, over whole heads")
    names = {"default": (), "linear": FROM_CONFIG[:1], "llama3": FROM_CONFIG}[scaling]
    numbers = [parameters.get("rope_theta", base), *(parameters.get(name) for name in names)]
    if any(type(number) not in (int, float) or not 0 < number < math.inf for number in numbers):
        raise ModelError(f"its rotary positions ({scaling!r}) lack a usable number", where=where)
    return Rotary(float(numbers[0]), scaling, tuple(map(float, numbers[1:])))
