"""The two baselines of docs/results/labels.md that need no language model: word vectors and TF-IDF, each with a
logistic regression on the same labelled rows as every other method."""

from __future__ import annotations

import pickle
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from promptgraft.task.task import Task

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""The values of scikit-learn's C that cross-validation chooses from."""
STEPS = 200
"""Of the solver; weak penalties on thousands of words would take many more, and give the same answers."""
FOLDS = 5
MANY = 20_000
"""Rows times classes from which on one fold is left out in place of each in turn."""
FEATURES = 20_000
LEAST = 1e-4
"""A probability below this counts as this, so that no single row decides on the strength."""
Features = Any
"""A dense array or a sparse matrix, a row a text."""


@dataclass(frozen=True)
class Answers:
    """What a baseline says of the test rows.

    Attributes:
        probabilities: `[rows, classes]`, in the order of the task's classes.
        bytes: of what is kept for this task.
    """

    probabilities: np.ndarray
    seconds: float
    bytes: int


def static(task: Task, seed: int) -> Answers:
    """Mean word vectors of the package wordllama, 256 numbers a text."""
    return _answers(task, seed, _static_features, keeps_features=False)


def tf_idf(task: Task, seed: int) -> Answers:
    """Words and pairs of words; characters in runs of one to three where the task is Chinese."""
    return _answers(task, seed, _tf_idf_features(task.language), keeps_features=True)


BASELINES: dict[str, Callable[[Task, int], Answers]] = {"static-embedding": static, "tf-idf": tf_idf}


def _answers(
    task: Task,
    seed: int,
    prepare: Callable[[Sequence[str]], tuple[Callable[[Sequence[str]], Features], object]],
    *,
    keeps_features: bool,
) -> Answers:
    """Fit to the training rows and answer the test rows.

    Args:
        prepare: from training texts to what turns texts into features, and what of it is kept.
        keeps_features: whether what `prepare` gives is of this task alone.
    """
    began = time.perf_counter()
    read, kept = prepare([row.text for row in task.train])
    labels = np.array([task.classes.index(str(row.label)) for row in task.train])
    model = fitted(read([row.text for row in task.train]), labels, seed)
    seconds = time.perf_counter() - began
    probabilities = np.zeros((len(task.test), len(task.classes)))
    probabilities[:, model.classes_] = model.predict_proba(read([row.text for row in task.test]))
    parts = [model.coef_.astype(np.float32), model.intercept_.astype(np.float32), kept if keeps_features else None]
    return Answers(probabilities, seconds, len(pickle.dumps(parts)))


def fitted(features: Features, labels: np.ndarray, seed: int) -> LogisticRegression:
    """A logistic regression whose strength is the one that rows left out are likeliest under."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solver's steps are few on purpose; rare classes are in some folds only
        likelihood = _likelihoods(features, labels, seed)
        best = max(STRENGTHS, key=lambda strength: (likelihood[strength], strength == 1.0))
        return LogisticRegression(C=best, max_iter=STEPS).fit(features, labels)


def _likelihoods(features: Features, labels: np.ndarray, seed: int) -> dict[float, float]:
    """The log likelihood of rows left out under each strength; equal where no row can be left out."""
    likelihood = dict.fromkeys(STRENGTHS, 0.0)
    most = Counter(labels.tolist()).most_common(1)[0][1]
    folds = min(FOLDS, most)
    if folds < 2 or len(set(labels.tolist())) < 2:
        return likelihood
    split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
    for rest, out in islice(split, 1 if len(labels) * len(set(labels.tolist())) > MANY else folds):
        if len(set(labels[rest].tolist())) < 2:
            continue
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=STEPS).fit(features[rest], labels[rest])
            found = np.zeros((len(out), labels.max() + 1))
            found[:, model.classes_] = model.predict_proba(features[out])
            right = found[np.arange(len(out)), labels[out]]
            likelihood[strength] += float(np.log(np.maximum(right, LEAST)).sum())
    return likelihood


def _static_features(_: Sequence[str]) -> tuple[Callable[[Sequence[str]], Features], object]:
    model = _word_vectors()
    return (lambda texts: model.embed([text or " " for text in texts], norm=True)), None


@cache
def _word_vectors() -> Any:
    import wordllama

    package = Path(wordllama.__file__).parent  # the vectors and their tokenizer lie in it as in a cache
    return wordllama.WordLlama.load(dim=256, cache_dir=package, disable_download=True)


def _tf_idf_features(
    language: str | None,
) -> Callable[[Sequence[str]], tuple[Callable[[Sequence[str]], Features], object]]:
    def prepare(texts: Sequence[str]) -> tuple[Callable[[Sequence[str]], Features], object]:
        units: dict[str, Any] = (
            {"analyzer": "char", "ngram_range": (1, 3)} if language == "zh" else {"ngram_range": (1, 2)}
        )
        vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=FEATURES, **units).fit(texts)
        return vectorizer.transform, (vectorizer.vocabulary_, vectorizer.idf_.astype(np.float32))

    return prepare
