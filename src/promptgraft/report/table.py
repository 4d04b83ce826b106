"""The table of a comparison: as plain values, as text, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptgraft.report import words
from promptgraft.report.rows import TITLES, group, grouped
from promptgraft.study.compare import Comparison, Row
from promptgraft.study.judge import Mean

if TYPE_CHECKING:
    from rich.table import Table

CHOSEN = "*"
"""Marks the row that validation chose."""


def comparison_table(comparison: Comparison) -> list[dict[str, object]]:
    """A dictionary a row, in the order of the report; numbers are percent, None where there is none."""
    return [_values(row, comparison.best) for _, rows in grouped(comparison) for row in rows]


def plain(comparison: Comparison) -> str:
    """The table as aligned text, for logs and files."""
    lines = [_headings(comparison)]
    lines += [_cells(row, comparison) for _, rows in grouped(comparison) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def rich_table(comparison: Comparison) -> Table:
    """The table for a terminal; a section a group."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(_headings(comparison)):
        table.add_column(heading, justify="right" if number else "left", no_wrap=number == 0)
    for name, rows in grouped(comparison):
        table.add_row(Text(TITLES[name], style="dim italic"))
        for row in rows:
            style = "bold" if row.label == comparison.best else "dim" if name == "placebo" else ""
            table.add_row(*(Text(cell) for cell in _cells(row, comparison)), style=style)
        table.add_section()
    return table


def _headings(comparison: Comparison) -> list[str]:
    metric = comparison.rows[0].results[0].metric
    return ["method", f"test {metric}", "to scratch", "validation", "time", "trained"]


def _cells(row: Row, comparison: Comparison) -> list[str]:
    mark = f" {CHOSEN}" if row.label == comparison.best else ""
    return [
        row.label + mark,
        words.with_interval(row.test),
        words.difference_with_interval(row.gain),
        words.score(row.validation),
        words.duration(row.seconds),
        f"{row.parameters:,}",
    ]


def _aligned(line: list[str], widths: list[int]) -> list[str]:
    first, *others = zip(line, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def _values(row: Row, best: str) -> dict[str, object]:
    return {
        "method": row.label,
        "group": group(row),
        "chosen": row.label == best,
        **_numbers("test", row.test),
        **_numbers("gain", row.gain),
        "validation": None if row.validation is None else round(row.validation.value, 3),
        "seeds": row.test.count,
        "seconds": round(row.seconds, 3),
        "parameters": row.parameters,
        "sources": list(row.sources),
    }


def _numbers(name: str, mean: Mean | None) -> dict[str, float | None]:
    parts = (None, None, None) if mean is None else (mean.value, mean.low, mean.high)
    keys = (name, f"{name}_low", f"{name}_high")
    return {key: None if part is None else round(part, 3) for key, part in zip(keys, parts, strict=True)}
