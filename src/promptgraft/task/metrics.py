"""Metrics compare predictions with labels. Every figure is in percent, higher is better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from promptgraft.errors import TaskError
from promptgraft.task.task import Example, Label, Task


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to judge predictions; which kinds it judges stands in their facts.

    Attributes:
        name: its name in METRICS, and the key of its figure.
        bounds: between which its figure lies, in percent.
    """

    name: str
    bounds: tuple[float, float] = (0.0, 100.0)

    def compute(self, task: Task, labels: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        """Figures by name, in percent (-100..100 for correlations): its own, and what is computed with it."""
        from promptgraft.task.figures import FIGURES, all_rows  # numpy is not for those who only read a task

        figures = FIGURES[self.name](task, labels, predictions, all_rows(len(labels)))
        return {name: float(values[0]) for name, values in figures.items()}


def score(
    task: Task, predictions: Sequence[Label], examples: Sequence[Example], probabilities: Any = None
) -> dict[str, float]:
    """The task's metric under "score", and all metrics of its kind by name, in percent.

    Args:
        predictions: label names (classification, pair), a tuple of names a row (multilabel), the option's text
            (choice), floats (regression), a tuple of tags a row (tagging), answer strings (span),
            texts (text); in the order of
            `examples`, which must be labelled.
        probabilities: of each label, `[rows, labels]`; where a row has several, their ranking is judged as well.
    Raises: TaskError where a label is missing; ValueError where the lengths differ, or there is nothing to score.
    """
    if len(predictions) != len(examples) or not examples:
        raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
    labels = [example.label for example in examples]
    if any(label is None for label in labels):
        raise TaskError("a row without a label cannot be scored", where=task.name, do="leave it out, or give it one")
    figures: dict[str, float] = {}
    for metric in METRICS.values():
        if metric.name in task.facts.metrics and metric.name not in figures:
            figures |= metric.compute(task, labels, predictions)
    if task.facts.several and probabilities is not None:
        from promptgraft.task.figures import label_ranking

        figures |= label_ranking(task, labels, probabilities)
    return {"score": figures[task.metric], **figures}


LOPSIDED = 0.8
"""The share of the largest class above which accuracy hides whether the other classes are ever predicted."""


def lopsided(task: Task) -> tuple[str, ...]:
    """A note where nearly all rows are of one class and the metric is accuracy, which then tells little."""
    rows = task.test or task.train
    if task.metric != "accuracy" or not task.facts.one_class or not rows:
        return ()
    (label, count), *_ = Counter(row.label for row in rows).most_common()
    if count < LOPSIDED * len(rows) or len(task.labels) < 2:
        return ()
    where = "test" if task.test else "train"
    return (
        f"{task.name}: {100 * count / len(rows):.1f} % of the {where} rows are {label!r}, which is what always "
        "answering it scores; --metric macro_recall reports and chooses by all classes alike",
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy"),
        Metric("micro_f1"),
        Metric("macro_f1"),
        Metric("f1"),
        Metric("macro_recall"),
        Metric("matthews", (-100.0, 100.0)),
        Metric("pearson_spearman", (-100.0, 100.0)),
        Metric("span_f1"),
        Metric("em_f1"),
        Metric("rougeL"),
        Metric("rouge1"),
        Metric("rouge2"),
        Metric("bleu"),
        Metric("chrf"),
    )
}
