"""Whether a quick arithmetic gives the answers of an exact one: tried on a sample before it is used."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from promptgraft.engine.predictor import Predictor
from promptgraft.task.task import Example, Label

SAMPLE = 256
WANTED = 0.99
NEAR = 0.02
"""Of the numbers' spread: two that are no further apart are one answer."""


@dataclass(frozen=True)
class Agreement:
    """Rows of a sample, and on how many of them the answers are the same.

    Attributes:
        exact, quick: the two arithmetics.
    """

    rows: int
    same: int
    exact: str
    quick: str

    @property
    def holds(self) -> bool:
        """Whether the quick one may be used."""
        return self.same >= WANTED * self.rows

    @property
    def verdict(self) -> str:
        """What was found, and what follows."""
        said = f"{self.quick} gives the answer of {self.exact} on {self.same} of {self.rows} sampled rows"
        return said if self.holds else f"{said}, {100 * WANTED:.0f} in 100 are wanted: {self.exact} is used"


def agreement(
    exact: Predictor, quick: Predictor, rows: Sequence[Example], *, most: int = SAMPLE, windows: bool = False
) -> Agreement:
    """Compare the two on at most so many of the rows, drawn at random; `windows` as in `Predictor.predict`."""
    drawn = random.Random(0).sample(list(rows), min(most, len(rows)))
    answers = [predictor.answers(drawn, windows=windows).predictions for predictor in (exact, quick)]
    same = _same_numbers if exact.task.kind == "regression" else _same
    return Agreement(len(drawn), same(*answers), exact.backbone.arithmetic, quick.backbone.arithmetic)


def _same(one: Sequence[Label | str], other: Sequence[Label | str]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=True))


def _same_numbers(one: Sequence[Label | str], other: Sequence[Label | str]) -> int:
    numbers = [float(value) for value in one]  # type: ignore[arg-type]
    near = NEAR * (max(numbers, default=0.0) - min(numbers, default=0.0))
    return sum(abs(a - float(b)) <= near for a, b in zip(numbers, other, strict=True))  # type: ignore[arg-type]
