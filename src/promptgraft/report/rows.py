"""Groups the rows of a comparison for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from promptgraft.engine.reliability import BINS, Bin, Reliability
from promptgraft.report import words
from promptgraft.study.compare import Comparison, Row, scores
from promptgraft.study.compare import missing as lacks
from promptgraft.study.judge import Mean, paired
from promptgraft.task.metrics import METRICS

Section = Literal["scratch", "source", "panda", "placebo"]
TITLES: dict[Section, str] = {
    "scratch": "Without a source",
    "source": "From a source prompt",
    "panda": "PANDA",
    "placebo": "PANDA's placebos",
}
"""Groups in the order of the table."""


@dataclass(frozen=True)
class AgainstPlacebo:
    """One of PANDA's modes against one of its placebos; `gain` is the paired difference on test."""

    mode: Row
    placebo: Row
    missing: str
    gain: Mean | None


def group(row: Row) -> Section:
    """The group of the table that a row belongs to."""
    if row.results[0].method == "panda":
        return "placebo" if missing(row) else "panda"
    return "source" if row.sources else "scratch"


def missing(row: Row) -> str:
    """What a placebo lacks, in words; empty for all other rows."""
    return lacks(row.results[0])


def grouped(comparison: Comparison) -> list[tuple[Section, list[Row]]]:
    """The groups that have rows, with their rows in the order of the comparison."""
    groups = [(name, [row for row in comparison.rows if group(row) == name]) for name in TITLES]
    return [(name, rows) for name, rows in groups if rows]


def losses(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Label -> log loss and Brier score on test, means over seeds, as text."""
    return {row.label: {name: _mean_of(row, name) for name in ("log_loss", "brier")} for row in comparison.rows}


def _mean_of(row: Row, name: str) -> str:
    values = [getattr(own, name).value for own in _reliability(row)]
    return f"{sum(values) / len(values):.2f}" if values else words.NOTHING


def perfect(comparison: Comparison) -> float:
    """The calibration error that right probabilities would show by chance, the mean over all rows and seeds."""
    values = [own.perfect for row in comparison.rows for own in _reliability(row)]
    return sum(values) / len(values) if values else 0.0


def bins(row: Row) -> list[Bin]:
    """The bins of confidence on test, those of all seeds together."""
    groups: dict[int, list[Bin]] = {}
    for own in _reliability(row):
        for part in own.bins:
            groups.setdefault(min(int(part.confidence * BINS), BINS - 1), []).append(part)
    return [_together(groups[place]) for place in sorted(groups)]


def _together(parts: Sequence[Bin]) -> Bin:
    rows = sum(part.rows for part in parts)
    confidence, accuracy = (
        sum(part.rows * getattr(part, name) for part in parts) / rows for name in ("confidence", "accuracy")
    )
    return Bin(rows=rows, confidence=confidence, accuracy=accuracy)


def _reliability(row: Row) -> list[Reliability]:
    """The calibration of each seed on test, where the task has classes."""
    return [result.reliability["test"] for result in row.results if "test" in result.reliability]


def find(comparison: Comparison, label: str) -> Row | None:
    """The row with a label; None where it was not run."""
    return next((row for row in comparison.rows if row.label == label), None)


def tests(row: Row) -> dict[int, float]:
    """The score on test of each seed."""
    return scores(row.results, "test")


def against(row: Row, other: Row) -> Mean | None:
    """The paired difference on test between one row and another."""
    return paired(tests(row), tests(other), METRICS[row.results[0].metric].bounds)


def tested(comparison: Comparison) -> bool:
    """Whether there were test rows, without which nothing can be said about rows that no choice has seen."""
    return any(row.test is not None for row in comparison.rows)


def on_test(row: Row) -> Mean:
    """A row's mean on test, in a comparison that has test rows."""
    assert row.test is not None, "there are no test rows"
    return row.test


def seed_count(comparison: Comparison) -> int:
    """The largest number of seeds that any row has."""
    means = (row.test or row.validation for row in comparison.rows)
    return max((mean.count for mean in means if mean is not None), default=len(comparison.rows[0].results))


def against_placebos(comparison: Comparison) -> list[AgainstPlacebo]:
    """Every mode of PANDA compared with every placebo of the same mode."""
    pairs = []
    modes = [row for row in comparison.rows if group(row) == "panda"]
    placebos = [row for row in comparison.rows if group(row) == "placebo"]
    for mode in modes:
        for placebo in placebos:
            if placebo.results[0].options.get("mode") == mode.results[0].options.get("mode"):
                pairs.append(AgainstPlacebo(mode, placebo, missing(placebo), against(mode, placebo)))
    return pairs


def seeds(comparison: Comparison) -> list[int]:
    """All seeds that any row has, ascending."""
    return sorted({result.seed for row in comparison.rows for result in row.results})
