"""A quick arithmetic is compared with an exact one on a sample of rows before it is used."""

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
    """How many rows of a sample get the same answer from the exact and the quick arithmetic.

    Attributes:
        exact, quick: the two arithmetics.
    """

    rows: int
    same: int
    exact: str
    quick: str

    @property
    def holds(self) -> bool:
        """Whether the quick arithmetic may be used."""
        return self.same >= WANTED * self.rows

    @property
    def verdict(self) -> str:
        """One sentence: how many answers agree, and which arithmetic is used."""
        sentence = f"{self.quick} gives the answer of {self.exact} on {self.same} of {self.rows} sampled rows"
        return sentence if self.holds else f"{sentence}, {100 * WANTED:.0f} in 100 are wanted: {self.exact} is used"


def agreement(
    exact: Predictor, quick: Predictor, rows: Sequence[Example], *, most: int = SAMPLE, windows: bool = False
) -> Agreement:
    """Compare both predictors on at most `most` rows, drawn at random; `windows` as in `Predictor.predict`."""
    sample = random.Random(0).sample(list(rows), min(most, len(rows)))
    answers = [predictor.answers(sample, windows=windows).predictions for predictor in (exact, quick)]
    same = _same_numbers if exact.task.facts.label == "number" else _same
    return Agreement(len(sample), same(*answers), exact.backbone.arithmetic, quick.backbone.arithmetic)


def _same(exact: Sequence[Label | str], quick: Sequence[Label | str]) -> int:
    return sum(a == b for a, b in zip(exact, quick, strict=True))


def _same_numbers(exact: Sequence[Label | str], quick: Sequence[Label | str]) -> int:
    numbers = [float(value) for value in exact]  # type: ignore[arg-type]
    tolerance = NEAR * (max(numbers, default=0.0) - min(numbers, default=0.0))
    return sum(abs(a - float(b)) <= tolerance for a, b in zip(numbers, quick, strict=True))  # type: ignore[arg-type]
