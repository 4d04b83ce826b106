"""Orders unlabelled rows by how much labelling them should help (active learning)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from promptgraft.engine.known_rows import known_places, side_by_side
from promptgraft.engine.predictor import Look, Predictor
from promptgraft.errors import RunError, UsageError, listed
from promptgraft.readout.by_class import ByLabel
from promptgraft.readout.classes import labels_given
from promptgraft.readout.fit import fitting_threads
from promptgraft.task.compare import count_rows
from promptgraft.task.draws import Array
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Example
from promptgraft.train.predict import add_scores

MOST = 20_000
"""Rows that are looked at: as many again would hold nothing that these do not."""
STARTS = 3
"""Of k-means, the best of which is taken."""
LEAST = 1e-6
"""What a row weighs of which the artefact is certain."""


@dataclass(frozen=True)
class Suggested:
    """The rows to label next, the first first.

    Attributes:
        places: their numbers among the rows that were given.
        predictions, probabilities: what the artefact would answer, and how sure it is; of several labels a row the
            labels, and the probability that these are all, as if each were by itself.
        notes: what was left out.
    """

    places: tuple[int, ...]
    predictions: tuple[str | tuple[str, ...], ...]
    probabilities: tuple[float, ...]
    notes: tuple[str, ...]


def check_count(count: int) -> None:
    """Raises a UsageError where rows cannot be that many."""
    if count < 1 or count != int(count):
        raise UsageError(f"--count {count}", do="ask for one row or more")


def suggest(predictor: Predictor, examples: Sequence[Example], count: int, seed: int = 0) -> Suggested:
    """Choose rows to label next: those that stand for many of which the artefact is unsure.

    Left out, with a note: rows with a label, rows without text, rows that come again, rows that the artefact remembers.

    Raises:
        UsageError: a count below 1.
        RunError: the kind has no classes, or no row is left.
    """
    card = predictor.artefact.card
    facts = KINDS[card.task.kind]
    if not facts.has_classes:
        what = f"rows are chosen by how sure of their classes it is, and a {card.task.kind} task's have none"
        kinds = [kind for kind, other in KINDS.items() if other.has_classes]
        raise RunError(what, where=card.task.name, do=f"suggest is for {listed(kinds)} tasks")
    check_count(count)
    places, notes = _open(examples)
    if len(places) > MOST:
        places = np.sort(np.random.default_rng(seed).permutation(places)[:MOST])
        notes.append(f"{MOST:,} of the rows, drawn by seed {seed}, are looked at")
    if not len(places):
        raise RunError("no row is left to label", where=card.task.name, do="give rows with a text and without a label")
    looks = predictor.looks([examples[place] for place in places])
    features = _features(looks)
    fresh = _fresh(predictor, looks)
    if not fresh.all():
        notes.append(f"left out: {count_rows(int(np.count_nonzero(~fresh)))} that it was tuned on")
        places, features = places[fresh], features[fresh]
    if not len(places):
        raise RunError("every row is one that it was tuned on", where=card.task.name, do="give rows without a label")
    if len(places) < count:
        notes.append(f"all there are: {count_rows(len(places))}, fewer than the {count} asked for")
    scores = add_scores([look.scores for look in looks])[torch.from_numpy(fresh)]
    answers, sure, doubt = (_labels if facts.several else _classes)(predictor, scores)
    chosen = order(doubt, features, min(count, len(places)), seed).tolist()
    return Suggested(
        tuple(places[chosen].tolist()),
        tuple(answers[row] for row in chosen),
        tuple(sure[chosen].tolist()),
        tuple(notes),
    )


Doubt = tuple[list[str | tuple[str, ...]], Float[Array, "U"], Float[Array, "U"]]
"""What the artefact would answer to each row, how sure it is, and how unsure, which is what the row weighs."""


def _classes(predictor: Predictor, scores: Float[Tensor, "U C"]) -> Doubt:
    """Rows of one class each: unsure is how near the next class is."""
    shares = scores.double().softmax(-1).numpy()
    return [predictor.classes[best] for best in shares.argmax(1)], shares.max(1), 1 - margin(shares)


def _labels(predictor: Predictor, scores: Float[Tensor, "U C 2"]) -> Doubt:
    """Rows of several labels: unsure is how many of the decisions on their labels are wrong, by their probabilities."""
    readout = predictor.tuned.readout
    assert isinstance(readout, ByLabel), "labels are read one by one"
    odds = (scores[..., 1] - scores[..., 0]).double()
    answers = [names for names in readout.chosen(odds) if isinstance(names, tuple)]
    shares = odds.sigmoid().numpy()
    given = np.zeros(shares.shape, dtype=bool)
    given[labels_given(answers, predictor.classes)] = True
    return [*answers], np.where(given, shares, 1 - shares).prod(1), np.minimum(shares, 1 - shares).sum(1)


def order(doubt: Float[Array, "U"], features: Float[Array, "U D"], count: int, seed: int) -> Int[Array, "_"]:
    """So many rows: one for each cluster of rows that are unsure, those for the most unsure rows first.

    Clusters by k-means, in which a row weighs the more the less sure it is; the row next to a cluster's centre stands
    for it. So unsure rows that say the same are asked for once, and rows like no other not at all.

    Args:
        doubt: how unsure each row is.
        features: at unit length.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    weight = doubt**2 + LEAST
    with fitting_threads(features.size), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        clusters = KMeans(count, n_init=STARTS, random_state=seed).fit(features, sample_weight=weight)
    distance = ((features - clusters.cluster_centers_[clusters.labels_]) ** 2).sum(1)
    members = [np.flatnonzero(clusters.labels_ == number) for number in range(count)]
    members = sorted((rows for rows in members if len(rows)), key=lambda rows: -weight[rows].sum())
    chosen = [int(rows[distance[rows].argmin()]) for rows in members]
    others = [row for row in np.argsort(-weight, kind="stable").tolist() if row not in chosen]
    return np.array([*chosen, *others[: count - len(chosen)]])


def margin(shares: Float[Array, "U C"]) -> Float[Array, "U"]:
    """How much likelier the likeliest class is than the next."""
    first_two = np.partition(shares, -2, axis=1)[:, -2:] if shares.shape[1] > 1 else np.pad(shares, ((0, 0), (1, 0)))
    return np.asarray(first_two[:, 1] - first_two[:, 0])


def _open(examples: Sequence[Example]) -> tuple[Int[Array, "N"], list[str]]:
    """The numbers of rows with a text and without a label that do not come again, and notes on the others."""
    unlabelled = [number for number, example in enumerate(examples) if example.label is None]
    written = [number for number in unlabelled if not examples[number].blank]
    first: dict[tuple[str, str | None], int] = {}
    for number in written:
        first.setdefault((examples[number].text, examples[number].pair), number)
    notes = []
    if len(unlabelled) < len(examples):
        notes.append(f"left out: {count_rows(len(examples) - len(unlabelled))} with a label")
    if len(written) < len(unlabelled):
        notes.append(f"left out: {count_rows(len(unlabelled) - len(written))} without text")
    if len(first) < len(written):
        notes.append(f"left out: {count_rows(len(written) - len(first))} that came before")
    return np.array(list(first.values()), dtype=np.int64), notes


def _features(looks: Sequence[Look]) -> Float[Array, "U D"]:
    """The directions of all members' features side by side, at unit length."""
    features = np.concatenate([look.features.double().numpy() for look in looks], axis=1)
    return side_by_side(features, [look.features.shape[1] for look in looks])


def _fresh(predictor: Predictor, looks: Sequence[Look]) -> Bool[Array, "U"]:
    """Which rows are none that the artefact remembers; all where it remembers none.

    A memory has the directions of the first members side by side. Members that read words, or whose prompt was trained,
    come after these and are not in it.
    """
    memory = predictor.artefact.memory
    if memory is None or not len(memory.sample):
        return np.ones(len(looks[0].features), dtype=bool)
    widths = [look.features.shape[1] for look in looks]
    count = int(np.searchsorted(np.cumsum(widths), memory.sample.shape[1])) + 1
    features = np.concatenate([look.features.double().numpy() for look in looks[:count]], axis=1)
    return known_places(features, memory.sample, widths[:count]) < 0
