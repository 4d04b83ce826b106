"""A quick arithmetic is used where it gives the exact one's answers on a sample, and its verdict says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptgraft import api
from promptgraft.engine.agreement import Agreement, agreement
from promptgraft.engine.predictor import Predictions, Predictor
from promptgraft.task.task import Example, Label, Task


class Says(Predictor):
    """Answers that are given, one for every text."""

    def __init__(self, like: Predictor, answers: dict[str, Label | str]) -> None:
        super().__init__(like.artefact, like.backbone)
        self.given = answers

    def answers(self, rows: object, *, windows: bool = False) -> Predictions:
        return Predictions([self.given[row.text] for row in rows], None)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def predictor(splade_tiny: Path) -> Predictor:
    rows = tuple(Example(text=f"text {n}", label="ab"[n % 2]) for n in range(8))
    task = Task("toy", "classification", "accuracy", {"a": "a", "b": "b"}, {"train": rows, "test": rows})
    return api.tune(task, splade_tiny, steps=1, arithmetic="fp32").predictor


ROWS = [Example(text=str(n)) for n in range(200)]


@pytest.mark.parametrize(("other", "holds"), [(0, True), (2, True), (3, False)])
def test_one_row_in_a_hundred_may_differ(predictor: Predictor, other: int, holds: bool) -> None:
    exact = Says(predictor, {row.text: "a" for row in ROWS})
    quick = Says(predictor, {row.text: "b" if int(row.text) < other else "a" for row in ROWS})
    found = agreement(exact, quick, ROWS)
    assert (found.rows, found.same, found.holds) == (200, 200 - other, holds)


def test_a_sample_is_drawn_of_many_rows(predictor: Predictor) -> None:
    rows = [Example(text=str(n)) for n in range(1000)]
    says = Says(predictor, {row.text: "a" for row in rows})
    assert agreement(says, says, rows).rows == 256
    assert agreement(says, says, []).holds


@pytest.mark.parametrize(("away", "same"), [(0.019, 200), (0.021, 0)])
def test_numbers_that_are_near_are_one_answer(predictor: Predictor, away: float, same: int) -> None:
    numbers = Says(predictor, {row.text: int(row.text) / 199 for row in ROWS})
    numbers.task = predictor.task.replace(kind="regression")
    moved = Says(predictor, {row.text: int(row.text) / 199 + away for row in ROWS})
    assert agreement(numbers, moved, ROWS).same == same


def test_the_verdict_says_what_follows() -> None:
    assert Agreement(200, 199, "bf16", "int8").verdict == "int8 gives the answer of bf16 on 199 of 200 sampled rows"
    assert Agreement(200, 150, "bf16", "int8").verdict.endswith("99 in 100 are wanted: bf16 is used")


def test_a_prompt_tuned_in_fp32_predicts_in_int8(predictor: Predictor, splade_tiny: Path) -> None:
    quick = Predictor(predictor.artefact, api.open_model(splade_tiny, "int8"))
    rows = [Example(text=f"text {n}") for n in range(64)]
    assert agreement(predictor, quick, rows).same >= 58
    assert abs(quick.predict_proba(rows) - predictor.predict_proba(rows)).max() < 0.05
