"""Makes docs/results/labels.md and its pictures of docs/results/labels.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

SCRIPTS = Path(__file__).resolve().parent
RESULTS = SCRIPTS.parent / "docs" / "results"
TASKS, LEFT_OUT = SCRIPTS / "labels_tasks.csv", SCRIPTS / "labels_left_out.csv"
COLUMNS = (
    "task", "half", "language", "model", "labels", "seed", "method", "score", "metric", "ece", "coverage",
    "error_at_risk", "seconds", "bytes",
)  # fmt: skip
BINS = 15
"""Of the confidence, of equal width, between which calibration errors are taken."""
Row = Mapping[str, str]


def read_tasks() -> dict[str, dict[str, str]]:
    """Task -> its language, half and number of classes."""
    with TASKS.open(newline="", encoding="utf-8") as file:
        return {row["task"]: row for row in csv.DictReader(file)}


def read_rows() -> list[Row]:
    """The rows recorded so far."""
    path = RESULTS / "labels.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(rows: Sequence[Row]) -> None:
    """Write rows in a fixed order; of two of one cell the later stays."""
    latest = {place_of(row): row for row in rows}
    with (RESULTS / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(latest[place] for place in sorted(latest))


def place_of(row: Row) -> tuple[str, str, str, float, int]:
    """Where a row stands in the CSV; one cell has one place."""
    labels = float("inf") if row["labels"] == "all" else float(row["labels"])
    return row["task"], row["model"], row["method"], labels, int(row["seed"])


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error in points: how far confidence and share of right answers lie apart, by bins."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == n].mean() - right[bins == n].mean()) * (bins == n).mean() for n in set(bins.tolist())
    ]
    return 100 * float(sum(gaps))


def write() -> None:
    """Make the page and its pictures."""
