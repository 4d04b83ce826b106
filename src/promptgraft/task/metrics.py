"""Metrics: predictions against labels. Every figure is in percent, higher is better."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from promptgraft.task.answers import answer_scores
from promptgraft.task.spans import span_scores
from promptgraft.task.task import Answers, Example, Kind, Label, Task


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to judge predictions.

    Attributes:
        name: its name in METRICS, and the key of its figure.
        kinds: the kinds of task it can judge.
        compute: (task, labels, predictions) -> figures by name, in percent (-100..100 for correlations); its own name
            first, then its parts.
    """

    name: str
    kinds: tuple[Kind, ...]
    compute: Callable[[Task, Sequence[Any], Sequence[Any]], dict[str, float]]


def score(task: Task, predictions: Sequence[Label], examples: Sequence[Example]) -> dict[str, float]:
    """The task's metric under "score", and all metrics of its kind by name, in percent.

    Args:
        predictions: label names (classification, pair), the option's text (choice), floats (regression), a tuple of
            tags a row (tagging), answer strings (span); in the order of `examples`, which must be labelled.
    Raises: ValueError where the lengths differ, there is nothing to score, or a label is missing.
    """
    if len(predictions) != len(examples) or not examples:
        raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
    labels = [example.label for example in examples]
    if any(label is None for label in labels):
        raise ValueError("an example without a label cannot be scored")
    figures: dict[str, float] = {}
    for metric in METRICS.values():
        if task.kind in metric.kinds:
            figures |= metric.compute(task, labels, predictions)
    return {"score": figures[task.metric], **figures}


def accuracy(task: Task, labels: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """Share of right predictions; of right tags over all tokens for tagging."""
    if task.kind == "tagging":
        labels, predictions = flat(labels), flat(predictions)
    right = sum(label == guess for label, guess in zip(labels, predictions, strict=True))
    return {"accuracy": 100 * right / max(len(labels), 1)}


def flat(rows: Sequence[Sequence[str]]) -> list[str]:
    """All tags in one list."""
    return [tag for row in rows for tag in row]


def f1(task: Task, labels: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """F1 of the task's positive class, else the mean of all classes' F1 (scikit-learn's macro average)."""
    from sklearn.metrics import f1_score

    if task.positive is None:
        return {"f1": 100 * float(f1_score(*numbered(labels, predictions), average="macro", zero_division=0))}
    true = [label == task.positive for label in labels]
    said = [guess == task.positive for guess in predictions]
    return {"f1": 100 * float(f1_score(true, said, zero_division=0))}


def macro_recall(task: Task, labels: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Mean recall of the classes that occur in the labels (TweetEval's measure for sentiment)."""
    from sklearn.metrics import recall_score

    true, said = numbered(labels, predictions)
    value = recall_score(true, said, labels=sorted(set(true)), average="macro", zero_division=0)
    return {"macro_recall": 100 * float(value)}


def matthews(task: Task, labels: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Matthews correlation (CoLA's measure); 0 for constant predictions."""
    from sklearn.metrics import matthews_corrcoef

    return {"matthews": 100 * float(matthews_corrcoef(*numbered(labels, predictions)))}


def numbered(labels: Sequence[str], predictions: Sequence[str]) -> tuple[list[int], list[int]]:
    """Names as numbers: scikit-learn takes ten times as long over texts."""
    numbers = {name: n for n, name in enumerate(sorted({*labels, *predictions}))}
    return [numbers[name] for name in labels], [numbers[name] for name in predictions]


def pearson_spearman(task: Task, labels: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Mean of both correlations (STS-B's measure in GLUE); 0 where either side is constant."""
    from scipy.stats import NearConstantInputWarning, pearsonr, spearmanr

    if len(set(labels)) < 2 or len(set(predictions)) < 2:
        return {"pearson_spearman": 0.0, "pearson": 0.0, "spearman": 0.0}
    with warnings.catch_warnings():
        # what an untrained readout says is nearly constant: that it tells nothing shows in the figure
        warnings.simplefilter("ignore", NearConstantInputWarning)
        pearson, spearman = (100 * float(rule(labels, predictions)[0]) for rule in (pearsonr, spearmanr))
    return {"pearson_spearman": (pearson + spearman) / 2, "pearson": pearson, "spearman": spearman}


def span_f1(task: Task, labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Micro F1 over exactly matching spans, as seqeval's default."""
    return span_scores(labels, predictions)


def em_f1(task: Task, labels: Sequence[Answers], predictions: Sequence[str]) -> dict[str, float]:
    """F1 of answer strings, with exact match beside it."""
    return answer_scores([label.texts for label in labels], predictions, task.language)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", ("classification", "pair", "choice", "tagging"), accuracy),
        Metric("f1", ("classification", "pair"), f1),
        Metric("macro_recall", ("classification", "pair"), macro_recall),
        Metric("matthews", ("classification", "pair"), matthews),
        Metric("pearson_spearman", ("regression",), pearson_spearman),
        Metric("span_f1", ("tagging",), span_f1),
        Metric("em_f1", ("span",), em_f1),
    )
}
