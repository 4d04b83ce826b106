"""Our spans and their F1 are seqeval's, also on tags no annotator would write."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.task.spans import count_spans, span_figures, spans

seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is the reference")
TAG = st.sampled_from(["O", "B-PER", "I-PER", "B-creative-work", "I-creative-work", "I-LOC", "B-LOC", "E-PER", "S-LOC"])
PAIRS = st.lists(st.tuples(TAG, TAG), max_size=12)


@given(st.lists(TAG, max_size=12))
def test_spans_are_seqevals(tags: list[str]) -> None:
    assert list(spans(tags)) == seqeval.sequence_labeling.get_entities(tags)


@pytest.mark.filterwarnings("ignore")
@given(st.lists(PAIRS, min_size=1, max_size=5))
def test_scores_are_seqevals(rows: list[list[tuple[str, str]]]) -> None:
    gold = [[true for true, _ in row] for row in rows]
    said = [[guess for _, guess in row] for row in rows]
    got = span_figures(np.array([count_spans(*row) for row in zip(gold, said, strict=True)]).sum(0, keepdims=True))
    assert got["span_f1"][0] == pytest.approx(100 * seqeval.f1_score(gold, said, zero_division=0))
    assert got["precision"][0] == pytest.approx(100 * seqeval.precision_score(gold, said, zero_division=0))
    assert got["recall"][0] == pytest.approx(100 * seqeval.recall_score(gold, said, zero_division=0))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "I-A", "I-A", "O"], [("A", 1, 2)]),
        (["B-A", "I-B"], [("A", 0, 0), ("B", 1, 1)]),
        (["B-A", "B-A", "I-A"], [("A", 0, 0), ("A", 1, 2)]),
        ([], []),
    ],
)
def test_odd_sequences(tags: list[str], expected: list[tuple[str, int, int]]) -> None:
    assert list(spans(tags)) == expected
