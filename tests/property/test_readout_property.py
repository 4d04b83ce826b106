"""Readouts and folds on whatever hypothesis thinks of."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.choice import scatter
from promptgraft.readout.probe import FOLDS, deal_folds
from promptgraft.readout.problem import Problem
from promptgraft.readout.span import LONGEST_ANSWER, Span, best_spans
from promptgraft.task.task import Answers, Example, Task

SPAN = Task("toy", "span", "em", {}, {})


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_names_survive_as_bytes(names: list[str]) -> None:
    assert classes.decode_names(classes.encode_names(names)) == tuple(names)


@given(st.data())
def test_the_gold_tokens_are_the_fewest_that_hold_the_answer(data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=12))
    chars, place = [(-1, -1)], 0
    for width, gap in pieces:
        chars.append((place, place + width))
        place += width + gap
    context = "".join(chr(97 + at % 26) for at in range(place))
    start = data.draw(st.integers(0, place - 1))
    end = data.draw(st.integers(start + 1, place))
    ids = torch.arange(len(chars))
    tokens = Tokens(ids, ids * 0, torch.tensor([0, len(chars)]), torch.tensor([0, 1]), chars=torch.tensor(chars))
    example = Example("?", context, label=Answers((context[start:end],), (start,)))
    readout = Span.load({"weight": torch.zeros(2, 1)})
    first, last = readout.gold([example], tokens, SPAN)[0].tolist()
    inside = {at for low, high in chars[1:] for at in range(low, high)}
    wanted = [at for at in range(start, end) if at in inside]
    if first == classes.UNLABELLED:
        assert not wanted or end > chars[-1][1]
        return
    assert chars[first][0] <= wanted[0] < chars[first][1]
    assert chars[last][0] <= wanted[-1] < chars[last][1]


@given(st.integers(1, 45), st.integers(0, 1000))
def test_the_best_span_is_the_best_of_all_spans(length: int, seed: int) -> None:
    scores = torch.randn(2, 2, length, generator=torch.Generator().manual_seed(seed))
    scores[:, :, : length // 4] = -torch.inf
    for row, (first, last) in zip(scores, best_spans(scores).tolist(), strict=True):
        every = [float(row[0, a] + row[1, b]) for a in range(length) for b in range(a, min(length, a + LONGEST_ANSWER))]
        assert 0 <= last - first < LONGEST_ANSWER
        assert float(row[0, first] + row[1, last]) == max(every)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_scattered_values_keep_their_order_and_all_else_is_minus_infinity(lengths: list[int]) -> None:
    values = torch.arange(float(sum(lengths)))
    padded = scatter(values, torch.tensor([0, *lengths]).cumsum(0))
    assert padded.shape == (len(lengths), max(lengths))
    assert padded[padded.isfinite()].equal(values)
    assert padded.isfinite().sum(-1).tolist() == lengths


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.integers(0, 99))
def test_every_fold_leaves_rows_to_fit_and_classes_in_shares_that_differ_by_one(labels: list[int], seed: int) -> None:
    y = np.array(labels)
    fold = deal_folds(Problem("classification", np.zeros((len(y), 1)), y, np.arange(len(y)), 5), seed)
    assert len(np.unique(fold)) >= 2
    for label in np.unique(y):
        shares = np.bincount(fold[y == label], minlength=FOLDS)
        assert shares.max() - shares.min() <= 1
