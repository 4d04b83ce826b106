"""What several algorithms found on a task, beside the placebos, and whether any of it is worth having."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptgraft.searches.answers import mean_with_ends
from promptgraft.searches.run import FoundPrompt
from promptgraft.task.task import Example, Task


@dataclass(frozen=True)
class Gain:
    """How much better one prompt is than another on the same rows.

    Attributes:
        value: of the share of right answers in points, or of the mean probability of the tokens of texts.
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
        mine, other = (np.array(entry.report.merits) for entry in (found, over))
        return Gain(*mean_with_ends(mine - other, least=-100.0))

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
        what = "points of probability" if self.task.facts.written else "points"
        by = f"{gain.value:+.1f} {what} ({gain.low:+.1f} to {gain.high:+.1f}) on {len(self.report):,} report rows"
        if best.texts is not None and library.texts is not None:
            by += f", {self.task.metric} {best.texts.value:.1f} for {library.texts.value:.1f}"
        if gain.is_sure:
            return f"{best.algorithm} is better than {name}: {by}"
        found = "the row without a template" if best.algorithm == "none" else f"what {best.algorithm} found"
        return f"no better than {name}: against it {found} gains {by}"


def table(outcome: SearchOutcome) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and a row for each algorithm, as a screen shows them."""
    columns = list(COLUMNS)
    rows = [
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
    if outcome.task.facts.written:
        columns.insert(TEXTS, f"{outcome.task.metric} ")
        for row, entry in zip(rows, outcome.found, strict=True):
            row.insert(TEXTS, "" if entry.texts is None else f"{entry.texts.value:.1f}")
    return columns, rows


COLUMNS: Sequence[str] = (
    "algorithm", "choosing ", "report ", "95 %", "lost ", "passes ", "tokens ", "seconds ", "template",
)  # fmt: skip
TEXTS = 4
"""Where the metric of written texts stands among the columns."""
