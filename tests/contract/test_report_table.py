"""The table of a comparison, as values, as text and in a terminal; and results.csv."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from promptgraft.report import words
from promptgraft.report.compare import rows
from promptgraft.report.table import comparison_table, plain, rich_table
from promptgraft.report.words import plus_minus
from promptgraft.study.compare import BASELINE, CSV_COLUMNS, ROWS
from promptgraft.study.judge import Mean
from report_samples import SEEDS, made_comparison


def shown(made: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(rich_table(made))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_csv_gives_back_every_result() -> None:
    made = made_comparison(name='odd, "名字"\nof two lines')
    read = list(csv.DictReader(io.StringIO(rows(made), newline="")))
    assert tuple(read[0]) == CSV_COLUMNS
    results = [result for row in made.rows for result in row.results]
    assert len(read) == len(results) == len(ROWS) * len(SEEDS)
    for line, result in zip(read, results, strict=True):
        assert (line["target"], line["method"], int(line["seed"])) == (result.task, result.label, result.seed)
        assert float(line["score"]) == pytest.approx(result.scores["test"]["score"], abs=5e-4)
        assert (line["job"], int(line["parameters"])) == (result.id, result.parameters)


def test_values_are_json_and_say_what_was_chosen() -> None:
    made = made_comparison()
    table = json.loads(json.dumps(comparison_table(made)))
    assert sorted(line["method"] for line in table) == sorted(row.label for row in made.rows)
    assert [line["method"] for line in table if line["chosen"]] == [made.best]
    for line in table:
        assert line["test_low"] < line["test"] < line["test_high"]
        assert (line["gain"] is None) == (line["method"] == "prompt-tuning:linear")


def test_one_seed_has_no_interval() -> None:
    made = made_comparison((7,))
    assert {line["test_low"] for line in comparison_table(made)} == {None}
    assert "±" not in plain(made)
    assert "±" not in shown(made, 80)


def test_an_interval_that_is_cut_is_as_wide_as_its_other_side() -> None:
    assert plus_minus("81.2", Mean(81.2, 1.8, 100.0, 2)) == "81.2 ±79.4"
    assert plus_minus("6.0", Mean(6.0, 0.0, 30.0, 2)) == "6.0 ±24.0"
    assert plus_minus("6.0", Mean(6.0, None, None, 1)) == "6.0"


def test_a_terminal_of_80_columns_shows_all() -> None:
    made = made_comparison()
    text = shown(made, 80)
    assert "…" not in text
    for row in made.rows:
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [row.label]]
        assert f"{row.test.value:.1f}" in line
        assert ("*" in line) == (row.label == made.best)


def test_calibration_error_is_shown_where_a_terminal_has_room() -> None:
    few = made_comparison(rows=ROWS[:5])
    for made, room in ((few, True), (made_comparison(), False)):
        assert (" ece " in shown(made, 80)) == room
        assert " ece " in plain(made)
    error = {line["method"]: line["ece"] for line in comparison_table(few)}
    for row in few.rows:
        assert error[row.label] == pytest.approx(row.ece.value, abs=5e-4)
        assert f" {row.ece.value:.1f} " in shown(few, 80)


def test_names_are_no_markup() -> None:
    made = made_comparison((0,), [("pot", {"label-map": "x", "readout": "[red]keep[/red]"})])
    assert "[red]keep[/red]" in shown(made, 80)


def test_text_is_aligned() -> None:
    lines = plain(made_comparison()).splitlines()[:-3]
    assert len({line.index(" ±") for line in lines[1:] if " ±" in line}) == 1


def test_rich_is_imported_only_for_a_terminal() -> None:
    code = "import sys, promptgraft.report.table; sys.exit('rich' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.00 s"), (0.034, "0.03 s"), (4.14, "4.1 s"), (9.96, "10 s"), (59.4, "59 s"), (59.7, "1 min 0 s"),
     (200, "3 min 20 s"), (3599.9, "1 h 0 min"), (3900, "1 h 5 min")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(6.23, "+6.2"), (-1.3, "−1.3"), (0.04, "0.0"), (-0.04, "0.0"), (0.0, "0.0"), (-12.0, "−12.0")]
)
def test_differences(value: float, said: str) -> None:
    assert words.signed(value) == said
    assert words.difference_with_interval(Mean(value, None, None, 1)) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0"), (9_999, "9,999"), (148_225, "148 k"), (999_600, "1.0 M"), (22_713_601, "22.7 M")]
)
def test_short_counts(number: int, said: str) -> None:
    assert words.short(number) == said


def test_lists() -> None:
    assert [words.listed(list("abc"[:count])) for count in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_without_the_baseline_there_is_no_column_of_gains() -> None:
    made = made_comparison(rows=[row for row in ROWS if row[0] in ("pot", "frozen-source")])
    for text in (plain(made), shown(made, 80)):
        heading = next(line for line in text.splitlines() if "valid." in line)
        assert "gain" not in heading
        assert f"no gain: {BASELINE} was not run" in " ".join(text.split())
    assert "gain" in plain(made_comparison()).splitlines()[0]
