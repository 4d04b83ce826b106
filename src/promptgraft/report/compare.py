"""Writes the report of a comparison: one page and one CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from promptgraft.engine.reliability import BINS
from promptgraft.method.job import ValidationFrom
from promptgraft.prompt.atomic import write_text
from promptgraft.report import plots, verdict, words
from promptgraft.report.pages import render, versions
from promptgraft.report.rows import TITLES, against_placebos, find, grouped, losses, perfect, seeds
from promptgraft.study.compare import BASELINE, CSV_COLUMNS, Comparison, csv_row

PAGE = "report.html"
ROWS = "results.csv"


def write(comparison: Comparison, folder: Path, command: str | None = None) -> dict[str, Path]:
    """Write the page and the rows of a comparison, each whole or not at all.

    Args:
        command: what was typed to get here, shown so that it can be typed again.

    Returns:
        Name of the file -> its path.

    Raises:
        OSError: as from writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in (PAGE, ROWS)}
    write_text(paths[ROWS], rows(comparison))
    write_text(paths[PAGE], page(comparison, command))
    return paths


def rows(comparison: Comparison) -> str:
    """The text of results.csv: one row for each method and seed, in the columns of CSV_COLUMNS."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(csv_row(result) for row in comparison.rows for result in row.results)
    return text.getvalue()


def page(comparison: Comparison, command: str | None = None) -> str:
    """The text of report.html: everything in one file, no scripts, nothing loaded from elsewhere."""
    calibrated = any(row.ece for row in comparison.rows)
    has_gain = any(row.gain is not None for row in comparison.rows)
    return render(
        "compare.html",
        comparison=comparison,
        title=f"{comparison.task.name} on {comparison.backbone}",
        shots=_shots(comparison.shots, comparison.rows[0].results[0].validation_from),
        seeds=seeds(comparison),
        metric=comparison.rows[0].results[0].metric,
        baseline=BASELINE,
        has_baseline=find(comparison, BASELINE) is not None,
        groups=grouped(comparison),
        titles=TITLES,
        against_placebos=against_placebos(comparison),
        verdict=verdict.verdict(comparison),
        placebos=verdict.placebos(comparison),
        calibrated=calibrated,
        has_gain=has_gain,
        columns=6 + has_gain + 3 * calibrated,
        losses=losses(comparison),
        perfect=f"{perfect(comparison):.1f}",
        bins=BINS,
        intervals=verdict.intervals(comparison),
        plots=plots.draw(comparison),
        recipe=comparison.recipe.model_dump(),
        notes=[*comparison.task.notes, *comparison.notes],
        versions=versions(),
        command=command,
        words=words,
        rows_file=ROWS,
    )


def _shots(shots: int | None, validation_from: ValidationFrom) -> str:
    if shots == 0:
        return "no labelled rows"
    among = validation_from == "within"
    if shots is None:
        return "all labelled rows, validation rows among them" if among else "the whole training split"
    rows = f"{words.count(shots, 'labelled row')} a class"
    return f"{rows}, validation rows among them" if among else f"{rows}, and as many again for validation"
