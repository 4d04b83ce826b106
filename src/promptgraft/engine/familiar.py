"""Whether a text is like the rows that a model was fitted to, by how far its frozen features are from theirs.

Probabilities say how a text lies to the border between classes, not whether it is of the kind that the classes were
made for. Measured on tasks of other kinds than the training rows': at 8 labels a class three in four of their texts
are further from the nearest rows than those are from each other, of the task's own test rows one in twenty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from promptgraft.task.task import Example

NEAREST = 3
"""Rows whose mean distance counts: one alone is more a matter of luck."""
CHANCE = 0.05
"""Share of texts like the rows that may be called unlike them."""
KEPT = 128
"""Rows of each split that are kept in an artefact, at most."""


@dataclass(frozen=True, eq=False)
class Familiar:
    """Known rows and how far they reach.

    Attributes:
        rows: features at unit length.
        reach: the distance from its nearest others that all but CHANCE of the rows keep within.
    """

    rows: Float[Tensor, "M F"]
    reach: float

    @classmethod
    def of(cls, rows: Float[Tensor, "M F"]) -> Self | None:
        """Measure how far rows reach, equal ones counted once; None where too few have others near them."""
        rows = functional.normalize(rows.float().unique(dim=0), dim=-1)
        if len(rows) <= NEAREST:
            return None
        near = (rows @ rows.T).fill_diagonal_(-math.inf)
        own = _mean_distance(near).sort().values
        place = min(math.ceil((1 - CHANCE) * (len(rows) + 1)), len(rows))
        return cls(rows, float(own[place - 1]))

    def distance(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N"]:
        """Mean distance (1 - cosine) of each text from the rows nearest to it."""
        return _mean_distance(functional.normalize(features.float(), dim=-1) @ self.rows.T)

    def unlike(self, distance: Float[Tensor, "N"]) -> Bool[Tensor, "N"]:
        """Which texts are further from the rows than these are from each other."""
        return distance > self.reach


def _mean_distance(near: Float[Tensor, "N M"]) -> Float[Tensor, "N"]:
    return 1 - near.topk(NEAREST, dim=1).values.mean(1)


def sample(examples: Sequence[Example]) -> tuple[int, ...]:
    """The numbers of at most KEPT rows of different text, spread over all."""
    different = list({(row.text, row.pair): number for number, row in enumerate(examples)}.values())
    step = max(len(different) / KEPT, 1.0)
    return tuple(sorted(different)[int(place * step)] for place in range(min(len(different), KEPT)))


def more_than_chance(unlike: int, texts: int) -> bool:
    """Whether more texts are unlike the rows than would be of texts like them, in 19 of 20 cases."""
    if not unlike:
        return False
    from scipy.special import bdtr

    return bool(bdtr(unlike - 1, texts, CHANCE) >= 1 - CHANCE)
