"""What the figures are: percent, and 0 where there is nothing to tell."""

from __future__ import annotations

import warnings

import pytest

from promptgraft.errors import TaskError
from promptgraft.task.answers import score_answers
from promptgraft.task.figures import FIGURES
from promptgraft.task.kinds import KINDS
from promptgraft.task.metrics import METRICS, score
from promptgraft.task.task import Answers, Example, Kind, Label, Task


def scored(kind: Kind, metric: str, labels: list[Label], predictions: list[Label], **more: str) -> dict[str, float]:
    names = {str(label): "" for label in labels} if kind in ("classification", "pair") else {}
    task = Task("t", kind, metric, names, {}, **more)  # type: ignore[arg-type]
    return score(task, predictions, [Example("x", label=label) for label in labels])


def test_every_kind_has_a_metric_and_every_metric_its_own_name() -> None:
    assert {name for facts in KINDS.values() for name in facts.metrics} == METRICS.keys()
    assert all(name == metric.name for name, metric in METRICS.items())
    assert FIGURES.keys() == METRICS.keys()


def test_classes() -> None:
    got = scored("classification", "f1", ["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert got == pytest.approx(
        {"score": 73.3333333, "accuracy": 75, "f1": 73.3333333, "macro_recall": 83.3333333, "matthews": 57.7350269}
    )
    one = scored("classification", "f1", ["a", "a", "a", "b"], ["a", "a", "b", "b"], positive="b")
    assert one["score"] == pytest.approx(66.6666667)


def test_a_class_that_is_never_right_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = scored("classification", "matthews", ["a", "b", "c"], ["a", "a", "a"])
        assert got["score"] == 0
        assert got["macro_recall"] == pytest.approx(100 / 3)
        assert scored("pair", "f1", ["a", "b"], ["a", "a"], positive="b")["score"] == 0
        assert scored("regression", "pearson_spearman", [1.0, 2.0, 3.0], [0.5, 0.5, 0.5])["score"] == 0


def test_correlations() -> None:
    got = scored("regression", "pearson_spearman", [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 40.0])
    assert got["spearman"] == pytest.approx(100)
    assert got["score"] == pytest.approx((got["pearson"] + got["spearman"]) / 2)


def test_nearly_constant_predictions_score_nothing_rather_than_not_a_number() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = scored("regression", "pearson_spearman", [1.0, 2.0, 3.0], [1e8, 1e8, 1e8 + 1e-7])
    assert -100 <= got["score"] <= 100


def test_choices_and_tags() -> None:
    assert scored("choice", "accuracy", ["x", "y"], ["x", "x"])["score"] == 50
    tags: list[Label] = [("B-A", "I-A", "O"), ("O",)]
    said: list[Label] = [("B-A", "O", "O"), ("O",)]
    got = scored("tagging", "accuracy", tags, said)
    assert (got["score"], got["span_f1"]) == (75, 0)


@pytest.mark.parametrize(
    ("gold", "guess", "f1", "exact"),
    [
        (["the Eiffel Tower"], "Eiffel tower!", 100, 100),
        (["Eiffel Tower", "tower"], "the tower in Paris", 50, 0),
        (["New York"], "", 0, 0),
        (["重庆大学"], "重庆大学。", 100, 100),
        (["重庆大学"], "在重庆", 200 * 2 / 7, 0),
        # the longest common run counts, not the bag: only one of the two shared characters
        (["大学重庆"], "重大", 200 * 1 / 6, 0),
        (["iPhone 手机"], "iphone", 200 * 1 / 4, 0),
    ],
)
def test_answers_by_the_published_rules(gold: list[str], guess: str, f1: float, exact: float) -> None:
    assert score_answers(gold, guess, None) == pytest.approx((f1 / 100, exact / 100))


def test_the_language_of_the_task_decides_the_rule() -> None:
    label = Answers(("北京 天安门",), (0,))
    assert scored("span", "em_f1", [label], ["天安门"], language="zh")["score"] == pytest.approx(75)
    assert scored("span", "em_f1", [label], ["天安门"], language="en")["score"] == pytest.approx(200 / 3)


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ValueError, match="0 predictions for 0 examples"):
        scored("classification", "accuracy", [], [])
    task = Task("t", "classification", "accuracy", {}, {})
    with pytest.raises(TaskError, match="without a label"):
        score(task, ["a"], [Example("x")])
