"""The table of a comparison, as plain values, as text, or for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptgraft.report import words
from promptgraft.report.rows import TITLES, group, grouped, seed_count
from promptgraft.study.compare import BASELINE, Comparison, Row
from promptgraft.study.judge import Mean
from promptgraft.untrusted import visible

if TYPE_CHECKING:
    from rich.table import Table

CHOSEN = "*"
"""The mark of the row that validation chose."""

HEADINGS: tuple[str, ...] = ("method", "test", "gain", "valid.", "ece", "time", "trained")
ERROR = "ece"
TERMINAL = 80


def comparison_table(comparison: Comparison) -> list[dict[str, object]]:
    """The table as one dictionary a row, in the report's order; numbers in percent, None where there is none."""
    return [_values(row, comparison.best) for _, rows in grouped(comparison) for row in rows]


def plain(comparison: Comparison) -> str:
    """The table as aligned text, for logs and files."""
    every = [HEADINGS, *(_cells(row, comparison.best) for _, rows in grouped(comparison) for row in rows)]
    lines = [tuple(line[column] for column in _filled(comparison)) for line in every]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(["  ".join(_aligned(line, widths)).rstrip() for line in lines] + [_below(comparison)])


def rich_table(comparison: Comparison) -> Table:
    """The table for a terminal of 80 columns, with a section for each group."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    shown = _columns(comparison)
    for number in shown:
        table.add_column(HEADINGS[number], justify="right" if number else "left", no_wrap=True)
    for name, rows in grouped(comparison):
        table.add_row(Text(TITLES[name], style="italic"))
        for row in rows:
            style = "bold" if row.label == comparison.best else "dim" if name == "placebo" else ""
            cells = _cells(row, comparison.best)
            table.add_row(*(Text(visible(cells[number])) for number in shown), style=style)
        table.add_section()
    below = _below(comparison, error=HEADINGS.index(ERROR) in shown)
    table.caption, table.caption_justify = Text(visible(below, lines=True)), "left"
    return table


def _filled(comparison: Comparison) -> list[int]:
    """The columns that some row has a figure in: without the baseline there is no gain."""
    lines = [_cells(row, comparison.best) for row in comparison.rows]
    return [number for number in range(len(HEADINGS)) if any(line[number] != words.NOTHING for line in lines)]


def _columns(comparison: Comparison) -> list[int]:
    """The columns for a terminal: without the calibration error, which the page has, where it leaves no room."""
    lines, columns = [HEADINGS, *(_cells(row, comparison.best) for row in comparison.rows)], _filled(comparison)
    width = sum(2 + max(len(line[number]) for line in lines) for number in columns)
    return columns if width <= TERMINAL else [number for number in columns if HEADINGS[number] != ERROR]


def _cells(row: Row, best: str) -> tuple[str, ...]:
    return (
        f"{row.label} {CHOSEN}" if row.label == best else row.label,
        words.plus_minus(words.score(row.test), row.test),
        words.plus_minus(words.difference(row.gain), row.gain),
        words.score(row.validation),
        words.score(row.ece),
        words.duration(row.seconds),
        words.short(row.parameters),
    )


def _below(comparison: Comparison, *, error: bool = True) -> str:
    """The lines below the table on what its columns mean."""
    metric, count = comparison.rows[0].results[0].metric, seed_count(comparison)
    text = f"{metric} in percent, {words.count(count, 'seed')}"
    text += "; ± half the 95 % interval" if count > 1 else ""
    marked = f"{CHOSEN} chosen by validation; " if comparison.best else ""
    calibration = (
        "\nece: expected calibration error on test" if error and any(row.ece for row in comparison.rows) else ""
    )
    has_gain = any(row.gain is not None for row in comparison.rows)
    gain = f"gain: to {BASELINE}, paired by seed" if has_gain else f"no gain: {BASELINE} was not run"
    return f"{text}\n{marked}{gain}{calibration}"


def _aligned(line: tuple[str, ...], widths: list[int]) -> list[str]:
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
        **_numbers("ece", row.ece),
        "seeds": len(row.results),
        "seconds": round(row.seconds, 3),
        "parameters": row.parameters,
        "sources": list(row.sources),
    }


def _numbers(name: str, mean: Mean | None) -> dict[str, float | None]:
    parts = (None, None, None) if mean is None else (mean.value, mean.low, mean.high)
    keys = (name, f"{name}_low", f"{name}_high")
    return {key: None if part is None else round(part, 3) for key, part in zip(keys, parts, strict=True)}
