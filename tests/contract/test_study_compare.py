"""What compare plans, and how it judges."""

from __future__ import annotations

from typing import Self

import pytest
from pydantic import Field, model_validator

from promptgraft.errors import UsageError
from promptgraft.method.all import find
from promptgraft.method.job import Job
from promptgraft.method.options import Options, hyphened
from promptgraft.study.compare import BASELINE, CSV_COLUMNS, ROWS, csv_row, plan
from report_samples import LEVEL, RECIPE, SEEDS, made_comparison, made_task

FROM_SOURCE = {"frozen-source", "pot", "panda"}


def test_every_row_is_of_a_method_that_takes_its_options() -> None:
    for method, options in ROWS:
        read = find(method).options.read(method, options)
        assert {hyphened(name) for name in read.model_fields_set} == set(options)


class ToyOptions(Options):
    rate: float = Field(description="A number that has to be given.")
    most: float | None = Field(5.0, description="A number, or none.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.most is not None and self.rate > self.most:
            raise ValueError("rate is more than most")
        return self


def test_an_option_that_is_missing_or_does_not_fit_another_is_one_line() -> None:
    with pytest.raises(UsageError, match="option rate of toy is missing"):
        ToyOptions.read("toy", {})
    with pytest.raises(UsageError, match="options of toy: rate is more than most"):
        ToyOptions.read("toy", {"rate": 7})


@pytest.mark.parametrize("value", [None, 5, 0.1, 0.1 + 0.2, 1e-17, 1 / 3])
def test_an_option_of_a_job_reads_back_as_it_was_given(value: float | None) -> None:
    job = Job(made_task(), "f" * 16, "toy", 0, RECIPE, options={"rate": 0, "most": value})
    assert ToyOptions.read("toy", job.options).most == value


@pytest.mark.parametrize("label_map", ["a=b,a=c", "a=b, a =b"])
def test_a_label_map_that_names_a_label_twice_is_refused(label_map: str) -> None:
    with pytest.raises(UsageError, match="names the label 'a' twice"):
        find("pot").options.read("pot", {"label-map": label_map})


def test_a_language_decides_a_job_where_words_are_read() -> None:
    """Which words stand for a label is a matter of the language: its name or its description."""
    task = made_task()
    tasks = [task.replace(language=language) for language in (None, "zh")]
    worded = RECIPE.changed(template="{text} {mask}")
    assert len({Job(task, "f" * 16, "prompt-tuning", 0, worded).id for task in tasks}) == 2
    assert len({Job(task, "f" * 16, "prompt-tuning", 0, RECIPE).id for task in tasks}) == 1


def test_without_a_source_what_needs_one_is_left_out() -> None:
    jobs = plan(made_task(), "f" * 16, dict.fromkeys(SEEDS), RECIPE, 8)
    labels = {job.label for job in jobs}
    assert BASELINE in labels
    assert "zero-shot:none" in labels
    assert "zero-shot:source" not in labels
    assert not {job.method for job in jobs} & FROM_SOURCE
    assert len(jobs) == len(labels) * len(SEEDS) == len({job.id for job in jobs})


def test_labels_tell_rows_apart() -> None:
    made = made_comparison()
    labels = [row.label for row in made.rows]
    assert len(set(labels)) == len(labels) == len(ROWS)


def test_gains_are_paired_to_the_baseline() -> None:
    made = made_comparison()
    rows = {row.label: row for row in made.rows}
    assert rows[BASELINE].gain is None
    for label, row in rows.items():
        if label != BASELINE:
            assert row.gain is not None
            assert row.gain.value == pytest.approx(row.test.value - rows[BASELINE].test.value)


def test_validation_chooses_and_test_does_not() -> None:
    made = made_comparison()
    best = max(made.rows, key=lambda row: row.validation.value if row.validation else 0.0)
    assert made.best == best.label


def test_the_smaller_model_wins_a_tie() -> None:
    made = made_comparison((0,), ROWS[:6], noise=0.0, levels=dict.fromkeys((*LEVEL, "prompt-tuning"), 70.0))
    assert made.best == "zero-shot:none"


def test_a_row_of_the_csv_has_the_columns_in_order() -> None:
    (result,) = made_comparison((0,), ROWS[:1]).rows[0].results
    row = csv_row(result)
    assert tuple(row) == CSV_COLUMNS
    assert row["shots"] == 8
    assert csv_row(result.model_copy(update={"shots": None}))["shots"] == "all"
