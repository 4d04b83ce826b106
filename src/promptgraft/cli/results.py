"""Prints the tables of scores of tune, transfer and compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptgraft.cli.say import Say

if TYPE_CHECKING:
    from promptgraft.study.compare import Row
    from promptgraft.study.judge import Mean

COLUMNS = (
    "method",
    "test ",
    "95 % interval",
    "validation ",
    "gain ",
    "95 % interval",
    "seconds ",
    "trained ",
    "source",
)
GAIN = "gain: paired difference to prompt tuning from scratch with a linear readout, on test"


def results(say: Say, rows: Sequence[Row], best: str, metric: str) -> None:
    """Print a table with one row for each method, the chosen one in bold, and below it how to read it."""
    labels = [row.label for row in rows]
    place = labels.index(best) if best in labels else -1
    table = list(map(cells, rows))
    filled = [number for number in range(len(COLUMNS)) if any(row[number] for row in table)]
    filled_cells = [[row[number] for number in filled] for row in table]
    say.table([COLUMNS[number] for number in filled], filled_cells, title=f"{metric} in percent", best=place)
    if rows[0].test is None:
        say.line("no test rows: how good it is on rows that no choice has seen cannot be said")
        return
    over = "seeds" if rows[0].test.count > 1 else "test rows (one seed)"
    gain = f"; {GAIN}" if any(row.gain for row in rows) else ""
    say.line(f"intervals over {over}{gain}")


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a method's row."""
    return (
        row.label,
        f"{row.test.value:.1f}" if row.test else "",
        interval(row.test) or by_rows(row) if row.test else "",
        f"{row.validation.value:.1f}" if row.validation else "",
        f"{row.gain.value:+.1f}" if row.gain else "",
        interval(row.gain) if row.gain else "",
        f"{row.seconds:.1f}",
        f"{row.parameters:,}",
        ", ".join(row.sources),
    )


def interval(mean: Mean) -> str:
    """The interval of a mean of several seeds."""
    return "" if mean.low is None or mean.high is None else f"{mean.low:.1f} to {mean.high:.1f}"


def by_rows(row: Row) -> str:
    """The interval of one seed's score over its test rows."""
    low, high = row.results[0].intervals["test"]
    return f"{low:.1f} to {high:.1f}"


def as_data(row: Row) -> dict[str, object]:
    """A method's row as data for programs."""
    return {
        "method": row.label,
        "test": spread(row.test),
        "validation": spread(row.validation),
        "gain": spread(row.gain),
        "seconds": row.seconds,
        "parameters": row.parameters,
        "sources": list(row.sources),
        "results": [result.model_dump(mode="json") for result in row.results],
    }


def spread(mean: Mean | None) -> dict[str, object] | None:
    """A mean and its interval as data for programs."""
    return None if mean is None else {"mean": mean.value, "low": mean.low, "high": mean.high, "count": mean.count}
