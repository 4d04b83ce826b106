"""The threshold of several labels a row is the one with the highest F1 on the rows it is chosen by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from promptgraft.readout.by_class import label_rates, of_labels
from promptgraft.readout.multilabel import Multilabel, MultilabelText
from promptgraft.readout.readout import Given
from promptgraft.readout.threshold import NEAR, best_threshold
from promptgraft.task.task import Example, Task
from toys import toy_task


@given(st.integers(1, 12), st.integers(2, 4), st.booleans(), st.integers(0, 99))
def test_no_threshold_is_better_by_more_than_is_allowed(rows: int, labels: int, macro: bool, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    odds, gold = numbers.normal(size=(rows, labels)), numbers.integers(0, 2, (rows, labels))
    average = "macro" if macro else "micro"

    def score(threshold: float) -> float:
        return f1_score(gold, odds > threshold, average=average, zero_division=0)

    chosen = best_threshold(odds, gold, macro=macro)
    if macro:  # scikit-learn counts labels that occur nowhere as 0
        return
    middles = np.sort(odds.ravel())
    assert score(chosen) >= max(score(t) for t in [0.0, *(middles[1:] + middles[:-1]) / 2]) - NEAR - 1e-12


def test_labels_that_are_told_apart_by_a_half_keep_it() -> None:
    gold = np.array([[1, 0], [0, 1], [1, 1]])
    assert best_threshold(np.where(gold > 0, 2.0, -2.0), gold) == 0
    assert best_threshold(np.where(gold > 0, -1.0, -3.0), gold) == -2
    assert best_threshold(np.ones((2, 2)), np.zeros((2, 2), dtype=int)) == 0
    assert best_threshold(np.ones((2, 2)), np.full((2, 2), -100)) == 0


def test_rows_without_labels_have_none() -> None:
    gold = np.array([[1, 0], [-100, -100], [0, 1]])
    odds = np.array([[-1.0, -3.0], [9.0, 9.0], [-3.0, -1.0]])
    assert best_threshold(odds, gold) == -2


def test_labels_that_are_not_known_of_a_row_do_not_count() -> None:
    gold = np.array([[1, 0, -1], [-1, 1, 0], [0, -1, 1]])
    odds = np.array([[-1.0, -3.0, 9.0], [9.0, -1.0, -3.0], [-3.0, 9.0, -1.0]])
    assert best_threshold(odds, gold) == -2


def labelled(*labels: tuple[str, ...]) -> Task:
    rows = tuple(Example("x", label=names) for names in labels)
    return Task("t", "multilabel", "micro_f1", {"a": "a", "b": "b"}, {"train": rows})


def test_labels_start_from_their_share_of_the_rows() -> None:
    rates, least = label_rates(labelled(("a",), ("a",), ("a", "b")))
    torch.testing.assert_close(rates.sigmoid(), torch.tensor([3.5 / 4, 1.5 / 4]))
    assert least == 1
    assert label_rates(labelled(("a",), ()))[1] == 0
    rates, least = label_rates(labelled())
    torch.testing.assert_close(rates.sigmoid(), torch.tensor([0.5, 0.5]))
    assert least == 1


@pytest.mark.parametrize("kind", [Multilabel, MultilabelText])
def test_a_row_gets_what_is_above_the_threshold_and_its_likeliest_label_where_all_rows_have_one(
    kind: type[Multilabel] | type[MultilabelText],
) -> None:
    task, generator = labelled(("a",), ("b",)), torch.Generator().manual_seed(0)
    readout = kind.create(task, 4, generator, Given(lambda texts: torch.eye(4)[: len(texts)]))
    tokens = None
    scores = of_labels(torch.tensor([[1.0, 2.0], [-1.0, -2.0], [-2.0, -2.5]]))
    rows = [Example("x")] * 3
    assert readout.predict(scores, tokens, rows, task) == [("a", "b"), ("a",), ("a",)]  # type: ignore[arg-type]
    some = kind.load({**readout.state(), "least": torch.tensor(0.0), "threshold": torch.tensor(-1.5)})
    assert some.predict(scores, tokens, rows, task) == [("a", "b"), ("a",), ()]  # type: ignore[arg-type]
    settled = some.settled(scores, torch.tensor([[1, 1], [1, 0], [0, 0]]), task)
    assert settled.predict(scores, tokens, rows, task) == [("a", "b"), ("a",), ()]  # type: ignore[arg-type]
    assert settled.state().keys() == readout.state().keys()


def test_descriptions_that_are_alike_tell_nothing_and_break_nothing() -> None:
    task = toy_task("multilabel").replace(labels={"negative": "same", "positive": "same"})
    readout = MultilabelText.create(task, 4, torch.Generator(), Given(lambda texts: torch.ones(len(texts), 4)))
    scores = readout.scores(torch.randn(5, 4), None)  # type: ignore[arg-type]
    assert scores.isfinite().all()
    assert torch.equal(scores[0], scores[1])


def test_without_labelled_rows_a_label_is_given_from_a_quarter_on() -> None:
    given_text = Given(lambda texts: torch.eye(len(texts), 4))
    readout = MultilabelText.create(labelled(), 4, torch.Generator(), given_text)
    assert torch.tensor(float(readout.threshold)).sigmoid() == pytest.approx(0.25)
    assert MultilabelText.create(labelled(("a",)), 4, torch.Generator(), given_text).threshold == 0
