"""The more risk, the more answers; what is promised of them is Clopper and Pearson's bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from promptgraft.engine.familiar import CHANCE, KEPT, NEAREST, Familiar, more_than_chance, sample
from promptgraft.engine.risk import FEWEST, LIKELY, PRIOR, SURE, Threshold, answered, threshold
from promptgraft.errors import UsageError
from promptgraft.task.task import Example
from promptgraft.train.run import HeldOut

ROWS = st.lists(st.tuples(st.floats(0.25, 1.0, width=32), st.booleans()), max_size=40)
SHARES = st.floats(0.0, 1.0, allow_subnormal=False)


def held_out(rows: list[tuple[float, bool]]) -> HeldOut:
    return HeldOut(
        torch.tensor([sure for sure, _ in rows]), torch.tensor([right for _, right in rows], dtype=torch.bool)
    )


@given(ROWS, SHARES, SHARES)
def test_the_more_risk_the_more_answers(rows: list[tuple[float, bool]], one: float, other: float) -> None:
    less, more = (threshold(held_out(rows), risk) for risk in sorted((one, other)))
    assert more.value <= less.value
    assert more.rows >= less.rows


@given(ROWS)
def test_at_risk_one_nothing_is_held_back(rows: list[tuple[float, bool]]) -> None:
    assert threshold(held_out(rows), 1.0).answers(np.array([0.0, 0.5, 1.0])).all()


@given(ROWS, st.floats(0.01, 0.99))
def test_labelled_rows_that_are_answered_keep_within_the_risk(rows: list[tuple[float, bool]], risk: float) -> None:
    limit = threshold(held_out(rows), risk)
    assert limit.lowest <= 1
    if np.isinf(limit.value):
        assert limit.lowest > risk or limit.known < FEWEST
        assert not limit.answers(np.array([0.0, 1.0])).any()
        return
    reached = [(sure, right) for sure, right in rows if sure >= limit.value]
    assert FEWEST <= limit.rows == len(reached)
    expected = 1 - np.mean([sure for sure, _ in reached])
    assert expected <= risk + 1e-6
    errors = stats.beta(PRIOR * expected + limit.wrong + 1e-9, PRIOR * (1 - expected) + limit.rows - limit.wrong)
    assert errors.cdf(risk) >= LIKELY - 1e-6, "what the probabilities leave is counted by half more, so this is less"


def test_what_rows_do_not_bear_out_is_not_answered() -> None:
    for known in (None, held_out([])):
        limit = threshold(known, 0.1)
        assert not limit.answers(np.array([0.94, 1.0])).any()
        assert "no labelled row was left out" in answered(limit, np.array([0.94]), np.array([False]))
    few = threshold(held_out([(0.99, True)] * (FEWEST - 1)), 0.1)
    assert np.isinf(few.value)
    assert "label more rows" in answered(few, np.array([0.99]), np.array([False]))
    unsure = threshold(held_out([(0.9, True)] * 16), 0.05)
    said = answered(unsure, np.array([0.99]), np.array([False]))
    assert "the 16 labelled rows left out bear out no answer at a risk of 5 %" in said
    assert f"they do at {np.ceil(100 * unsure.lowest):.0f} %" in said
    assert threshold(held_out([(0.9, True)] * 16), unsure.lowest + 1e-9).rows == 16


@given(st.integers(0, 80).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_the_bound_is_clopper_and_pearsons(counted: tuple[int, int]) -> None:
    wrong, rows = counted
    bound = Threshold(0.05, 0.9, rows, wrong, rows).bound
    if not rows:
        assert bound == 1.0
        return
    theirs = stats.binomtest(wrong, rows, alternative="less").proportion_ci(SURE, method="exact")
    assert bound == pytest.approx(theirs.high, abs=1e-9)


@pytest.mark.parametrize(("risk", "rows"), [(0.05, 59), (0.1, 29), (0.01, 299)])
def test_how_many_right_rows_a_promise_takes(risk: float, rows: int) -> None:
    limit = Threshold(risk, 0.9, rows, 0, rows)
    assert limit.needed == rows
    assert limit.bound <= risk < Threshold(risk, 0.9, rows - 1, 0, rows).bound


def test_many_sure_rows_bound_the_error() -> None:
    limit = threshold(held_out([(0.99, True)] * 80), 0.05)
    said = answered(limit, np.array([0.99, 0.6]), np.array([True, True]))
    assert "2 of 2 answered (100.0 %)" in said
    assert "the error is below 3.7 % with 95 % confidence" in said
    assert "too few" not in said


@pytest.mark.parametrize("risk", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_risk_is_a_share(risk: float) -> None:
    from promptgraft.engine.risk import check_risk

    with pytest.raises(UsageError, match="no share of wrong answers"):
        check_risk(risk)


@given(st.integers(NEAREST + 1, 60), st.integers(0, 1000))
def test_few_rows_are_unlike_the_others(count: int, seed: int) -> None:
    rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    known = Familiar.of(rows)
    assert known is not None
    own = known.unlike(known.distance(rows))  # each is its own nearest, so these distances are too short
    assert own.float().mean() <= CHANCE


def test_another_direction_is_unlike() -> None:
    rows = torch.tensor([1.0, 0.0, 0.0]) + 0.1 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    known = Familiar.of(rows)
    assert known is not None
    assert known.unlike(known.distance(torch.eye(3))).tolist() == [False, True, True]


def test_equal_rows_count_once_and_few_rows_say_nothing() -> None:
    rows = torch.eye(5)
    doubled = Familiar.of(torch.cat([rows, rows]))
    assert doubled is not None
    assert len(doubled.rows) == 5
    assert Familiar.of(torch.ones(40, 3)) is None


def test_the_sample_is_spread_over_different_texts() -> None:
    rows = [Example(text=f"row {number % 300}") for number in range(600)]
    chosen = sample(rows)
    assert len(chosen) == KEPT == len({rows[number].text for number in chosen})
    assert len(sample(rows[:5])) == 5


@pytest.mark.parametrize(("unlike", "texts", "said"), [(0, 0, False), (1, 1, True), (5, 100, False), (12, 100, True)])
def test_what_chance_makes_is_not_said(unlike: int, texts: int, said: bool) -> None:
    assert more_than_chance(unlike, texts) == said


def test_an_answer_that_is_as_sure_as_the_last_one_up_to_rounding_is_given() -> None:
    limit = threshold(held_out([(0.99, True)] * 9 + [(0.98, True), (0.97, True), (0.6, False)]), 0.1)
    assert limit.answers(np.array([limit.value - 1e-7, limit.value - 1e-3])).tolist() == [True, False]
