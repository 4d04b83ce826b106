"""Means and paired differences against scipy."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from promptgraft.study.judge import Mean, mean, paired

scores = st.floats(-100, 100, allow_nan=False)


@given(st.lists(scores, min_size=2, max_size=12))
def test_mean_is_scipys_t_interval(values: list[float]) -> None:
    assume(differ(values))
    found = mean(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.count == len(values)
    assert found.value == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(scores, scores), min_size=2, max_size=12))
def test_paired_is_scipys_paired_interval(pairs: list[tuple[float, float]]) -> None:
    assume(differ([one - other for one, other in pairs]))
    ours, theirs = (dict(enumerate(values)) for values in zip(*pairs, strict=True))
    found = paired(ours, theirs)
    expected = stats.ttest_rel(list(ours.values()), list(theirs.values())).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def differ(values: list[float]) -> bool:
    """Whether scipy's sums keep their precision."""
    return max(values) - min(values) > 1e-3


def test_one_value_has_no_interval() -> None:
    assert mean([81.25]) == Mean(81.25, None, None, 1)
    assert str(mean([81.25])) == "81.2"


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        mean([])


def test_pairs_go_by_seed_not_by_order() -> None:
    found = paired({2: 5.0, 0: 1.0, 9: 50.0}, {0: 0.0, 2: 3.0, 8: 1.0})
    assert found is not None
    assert (found.value, found.count) == (1.5, 2)


def test_disjoint_seeds_have_no_difference() -> None:
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert paired({}, {}) is None


def test_equal_values_have_no_interval() -> None:
    """That three seeds agree does not say that the next one will."""
    assert mean([70.0, 70.0, 70.0]) == Mean(70.0, None, None, 3)
