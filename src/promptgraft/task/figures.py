"""Computes each metric, over all rows or over many bootstrap draws of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from promptgraft.task.answers import score_answers
from promptgraft.task.draws import (
    Array,
    Pairs,
    correlation,
    f1_of_classes,
    macro_f1_of,
    macro_recall_of,
    matthews_of,
)
from promptgraft.task.generated import (
    Script,
    bleu_counts,
    bleu_of,
    bleu_scorer,
    chrf_counts,
    chrf_of,
    each_row,
    rouge_of,
    script_of,
)
from promptgraft.task.spans import count_spans, span_figures
from promptgraft.task.task import Answers, References, Task

Draws = Int[Array, "D N"]
"""Rows by number, D times N of them: what a bootstrap draws."""
Figures = dict[str, Float[Array, "D"]]
"""Figures by name, one for every draw, in percent (-100..100 for correlations)."""


def all_rows(count: int) -> Draws:
    """A single draw that holds every row once."""
    return np.arange(count)[None]


def accuracy(task: Task, labels: Sequence[Any], predictions: Sequence[Any], draws: Draws) -> Figures:
    """Share of correct predictions; for tagging, of correct tags over all tokens. Several labels must all be right."""
    if task.facts.scored == "word":
        right, tokens = (np.array(counts) for counts in zip(*map(right_tags, labels, predictions), strict=True))
        return {"accuracy": 100 * right[draws].sum(1) / np.maximum(tokens[draws].sum(1), 1)}
    hits = np.array([is_hit(task, *row) for row in zip(labels, predictions, strict=True)])
    return {"accuracy": 100 * hits[draws].sum(1) / draws.shape[1]}


def is_hit(task: Task, label: Any, guess: Any) -> bool:
    """Whether a prediction is right; several labels have no order."""
    return set(label) == set(guess) if task.facts.several else bool(label == guess)


def right_tags(tags: Sequence[str], predicted: Sequence[str]) -> tuple[int, int]:
    """How many tags of a row are right, and how many tags there are."""
    return sum(tag == guess for tag, guess in zip(tags, predicted, strict=True)), len(tags)


def f1(task: Task, labels: Sequence[str], predictions: Sequence[str], draws: Draws) -> Figures:
    """F1 of the task's positive class, else the mean of all classes' F1 (scikit-learn's macro average)."""
    pairs = Pairs.of(labels, predictions)
    confusion = pairs.confusion(draws)
    if task.positive is None:
        return {"f1": 100 * macro_f1_of(confusion)}
    if task.positive not in pairs.names:
        return {"f1": np.zeros(len(draws))}
    return {"f1": 100 * f1_of_classes(confusion)[:, pairs.names.index(task.positive)]}


def micro_f1(
    task: Task, labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], draws: Draws
) -> Figures:
    """F1 over all decisions on a row and a label (scikit-learn's micro average); 0 where there is no label."""
    counts = label_counts(labels, predictions, draws).sum(1)
    return {"micro_f1": 100 * f1_of_counts(counts)}


def macro_f1(
    task: Task, labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], draws: Draws
) -> Figures:
    """Mean F1 of the labels that occur on either side (scikit-learn's macro average of these)."""
    counts = label_counts(labels, predictions, draws)
    occurs = counts[..., 1:].any(-1)
    return {"macro_f1": 100 * f1_of_counts(counts).sum(1) / np.maximum(occurs.sum(1), 1)}


def label_counts(
    labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], draws: Draws
) -> Float[Array, "D C 3"]:
    """Of every draw and label, how many rows have it on both sides, in truth, and as predicted."""
    names = sorted({name for side in (labels, predictions) for row in side for name in row})
    place = {name: number for number, name in enumerate(names)}
    truth, guess = np.zeros((len(labels), len(names))), np.zeros((len(labels), len(names)))
    for table, side in ((truth, labels), (guess, predictions)):
        for row, group in enumerate(side):
            table[row, [place[name] for name in group]] = 1
    cells = draws + len(labels) * np.arange(len(draws))[:, None]
    times = np.bincount(cells.ravel(), minlength=len(draws) * len(labels)).reshape(len(draws), -1).astype(float)
    return np.stack([times @ side for side in (truth * guess, truth, guess)], axis=-1)


def label_ranking(task: Task, labels: Sequence[Any], probabilities: Float[Array, "B C"]) -> dict[str, float]:
    """How well the labels of a row rank above others (scikit-learn's label ranking average precision)."""
    table = np.array([[int(name in row) for name in task.classes] for row in labels]).reshape(-1, len(task.classes))
    return {"label_ranking": 100 * float(ranking_precision(np.asarray(probabilities), table).mean())}


def ranking_precision(scores: Float[Array, "B C"], y: Int[Array, "B C"]) -> Float[Array, "B"]:
    """Of each row, the mean over its labels of the share of its labels among those that score no lower.

    Its mean over rows is scikit-learn's label ranking average precision; 1 where a row has no label, or all.
    """
    result = np.ones(len(y))
    for row, (own, has) in enumerate(zip(scores, y > 0, strict=True)):
        if has.any() and not has.all():
            above = own[None] >= own[has][:, None]
            result[row] = (above[:, has].sum(1) / above.sum(1)).mean()
    return result


def f1_of_counts(counts: Float[Array, "*D 3"]) -> Float[Array, "*D"]:
    """F1 from the rows that agree, those that are true and those that are predicted; 0 without any."""
    return np.asarray(2 * counts[..., 0] / np.maximum(counts[..., 1] + counts[..., 2], 1))


def macro_recall(task: Task, labels: Sequence[str], predictions: Sequence[str], draws: Draws) -> Figures:
    """Mean recall of the classes that occur in the labels (TweetEval's measure for sentiment)."""
    return {"macro_recall": 100 * macro_recall_of(Pairs.of(labels, predictions).confusion(draws))}


def matthews(task: Task, labels: Sequence[str], predictions: Sequence[str], draws: Draws) -> Figures:
    """Matthews correlation (CoLA's measure); 0 for constant predictions."""
    return {"matthews": 100 * matthews_of(Pairs.of(labels, predictions).confusion(draws))}


def pearson_spearman(task: Task, labels: Sequence[float], predictions: Sequence[float], draws: Draws) -> Figures:
    """Mean of both correlations (STS-B's measure in GLUE); 0 where either side is constant."""
    from scipy.stats import rankdata

    true_values, predicted = (np.array(side, dtype=float)[draws] for side in (labels, predictions))
    pearson = 100 * correlation(true_values, predicted)
    spearman = 100 * correlation(rankdata(true_values, axis=1), rankdata(predicted, axis=1))
    return {"pearson_spearman": (pearson + spearman) / 2, "pearson": pearson, "spearman": spearman}


def span_f1(task: Task, labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], draws: Draws) -> Figures:
    """Micro F1 over exactly matching spans, as seqeval's default."""
    counts = np.array([count_spans(*row) for row in zip(labels, predictions, strict=True)])
    return span_figures(counts[draws].sum(1))


def em_f1(task: Task, labels: Sequence[Answers | References], predictions: Sequence[str], draws: Draws) -> Figures:
    """F1 of answer strings, with exact match beside it."""
    rows = zip(labels, predictions, strict=True)
    scores = np.array([score_answers(label.texts, guess, task.language) for label, guess in rows])
    best, exact = 100 * scores[draws].sum(1).T / draws.shape[1]
    return {"em_f1": best, "exact_match": exact}


def rouge(task: Task, labels: Sequence[References], predictions: Sequence[str], draws: Draws) -> Figures:
    """Mean F1 of the longest common subsequence, of words, and of pairs of words (of ideographs in Chinese)."""
    rows = each_row(partial(rouge_of, script=_script(task, labels)), _texts(labels), predictions)
    longest, words, pairs = 100 * rows[draws].sum(1).T / draws.shape[1]
    return {"rougeL": longest, "rouge1": words, "rouge2": pairs}


def bleu(task: Task, labels: Sequence[References], predictions: Sequence[str], draws: Draws) -> Figures:
    """BLEU over all rows, as sacrebleu counts it."""
    rows = each_row(partial(bleu_counts, scorer=bleu_scorer(_script(task, labels))), _texts(labels), predictions)
    return {"bleu": np.array([bleu_of(rows[draw].sum(0).astype(int)) for draw in draws])}


def chrf(task: Task, labels: Sequence[References], predictions: Sequence[str], draws: Draws) -> Figures:
    """chrF over all rows, as sacrebleu counts it."""
    rows = each_row(chrf_counts, _texts(labels), predictions)
    return {"chrf": chrf_of(np.array([rows[draw].sum(0) for draw in draws]))}


def _script(task: Task, labels: Sequence[References]) -> Script:
    return script_of(task.language, [text for label in labels for text in label.texts])


def _texts(labels: Sequence[References]) -> list[tuple[str, ...]]:
    return [label.texts for label in labels]


FIGURES: dict[str, Callable[[Task, Sequence[Any], Sequence[Any], Draws], Figures]] = {
    "accuracy": accuracy,
    "micro_f1": micro_f1,
    "macro_f1": macro_f1,
    "f1": f1,
    "macro_recall": macro_recall,
    "matthews": matthews,
    "pearson_spearman": pearson_spearman,
    "span_f1": span_f1,
    "em_f1": em_f1,
    "rougeL": rouge,
    "rouge1": rouge,
    "rouge2": rouge,
    "bleu": bleu,
    "chrf": chrf,
}
"""The function of each metric of `metrics.METRICS`; a metric's own figure is among its result."""
