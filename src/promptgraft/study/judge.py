"""Results over seeds are summed up as means with intervals and as paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval (Student's t); `low` and `high` are None for one value, and for equal ones."""

    value: float
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.1f}"
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"


def mean(values: Sequence[float], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Mean:
    """The mean and t interval of independent values.

    Args:
        bounds: between which every value lies by its nature; the interval is cut to them.
    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    count = len(values)
    middle = sum(values) / count
    if count == 1:
        return Mean(middle, None, None, 1)
    from scipy.special import stdtrit  # what scipy.stats.t.ppf asks, without its half second of loading

    spread = math.sqrt(sum((value - middle) ** 2 for value in values) / (count - 1))
    if spread == 0:  # values that happen to be equal do not say that the next would be
        return Mean(middle, None, None, count)
    half = float(stdtrit(count - 1, 0.975)) * spread / math.sqrt(count)
    return Mean(middle, max(bounds[0], middle - half), min(bounds[1], middle + half), count)


def paired(
    ours: Mapping[int, float], theirs: Mapping[int, float], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Mean | None:
    """The mean difference over the seeds that both have, with its interval; None where they share no seed.

    Args:
        bounds: of the values that are subtracted.
    """
    shared = sorted(ours.keys() & theirs.keys())
    span = bounds[1] - bounds[0]
    return mean([ours[seed] - theirs[seed] for seed in shared], (-span, span)) if shared else None
