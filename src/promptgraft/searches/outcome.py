"""What several algorithms found on a task, beside the placebos, and whether any of it is worth having."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptgraft.searches.run import FoundPrompt
from promptgraft.task.figures import is_hit
from promptgraft.task.task import Example, Task

Z = 1.96
"""Standard errors of a 95 % interval."""


@dataclass(frozen=True)
class Gain:
    """How much better one prompt is than another on the same rows.

    Attributes:
        value: of the share of right answers, in points.
        low, high: its 95 % interval, over pairs of rows.
    """

    value: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        """Whether it is better at all."""
        return self.low > 0


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found.

    Attributes:
        report: the rows that nobody saw.
        found: of each algorithm, placebos first.
        problems: algorithm -> why it could not be run.
        notes: what was drawn, inferred or left out.
    """

    task: Task
    report: tuple[Example, ...]
    found: tuple[FoundPrompt, ...]
    problems: dict[str, str]
    notes: tuple[str, ...]

    @property
    def best(self) -> FoundPrompt:
        """What the choosing rows choose; of equals the one that stands first, so that a placebo wins a draw."""
        return max(self.found, key=lambda entry: entry.choosing.score)

    def of(self, algorithm: str) -> FoundPrompt | None:
        """What an algorithm found; None where it could not be run."""
        return next((entry for entry in self.found if entry.algorithm == algorithm), None)

    def gain(self, found: FoundPrompt, over: FoundPrompt) -> Gain:
        """How much better one find is than another on the report rows."""
        mine, other = (self._hits(entry) for entry in (found, over))
        gaps = 100 * (mine - other)
        error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
        return Gain(float(gaps.mean()), float(gaps.mean()) - Z * error, float(gaps.mean()) + Z * error)

    def _hits(self, found: FoundPrompt) -> np.ndarray:
        labels = [self.task.classes[answer] for answer in found.report.answers]
        return np.array(
            [is_hit(self.task, row.label, label) for row, label in zip(self.report, labels, strict=True)], dtype=float
        )

    @property
    def verdict(self) -> str:
        """One line: whether the best find is better than the library's best template, by rows that nobody saw."""
        library, best = self.of("library"), self.best
        if library is None:
            return f"{best.algorithm} found the best prompt; there is no template of the library to compare it with"
        name = f"the template {library.candidate.template!r} ({library.candidate.origin})"
        if best.candidate.key == library.candidate.key:
            return f"no better than {name}: no algorithm found a prompt that the choosing rows prefer"
        gain = self.gain(best, library)
        by = f"{gain.value:+.1f} points ({gain.low:+.1f} to {gain.high:+.1f}) on {len(self.report):,} report rows"
        if gain.is_sure:
            return f"{best.algorithm} is better than {name}: {by}"
        found = "the row without a template" if best.algorithm == "none" else f"what {best.algorithm} found"
        return f"no better than {name}: {found} is {by}"


def table(outcome: SearchOutcome) -> list[list[str]]:
    """A row for each algorithm: what is shown of it on a screen and on the page."""
    return [
        [
            entry.algorithm,
            f"{entry.choosing.score:.1f}",
            f"{entry.report.score:.1f}",
            f"{entry.report.low:.1f} to {entry.report.high:.1f}",
            f"{entry.lost:+.1f}",
            f"{entry.passes:,}",
            f"{entry.tokens:,}",
            f"{entry.seconds:.1f}",
            entry.candidate.template,
        ]
        for entry in outcome.found
    ]


COLUMNS: Sequence[str] = (
    "algorithm", "choosing ", "report ", "95 %", "lost ", "passes ", "tokens ", "seconds ", "template",
)  # fmt: skip
