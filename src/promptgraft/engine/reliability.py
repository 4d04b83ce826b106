"""How far the probabilities of a classifier can be believed, on rows whose labels are known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict

from promptgraft.engine.interval import RESAMPLES, drawn
from promptgraft.task.draws import Array

BINS = 15
"""Equal parts of the range of confidence over which calibration error is taken (Guo et al. 2017)."""


class Measured(BaseModel):
    """Settings of the values below: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(Measured):
    """A figure with its 95 % interval over rows."""

    value: float
    low: float
    high: float


class Bin(Measured):
    """The rows of one part of the range of confidence.

    Attributes:
        confidence: their mean probability of the answer.
        accuracy: the share of them whose answer is right.
    """

    rows: int
    confidence: float
    accuracy: float


class Reliability(Measured):
    """Calibration of the probabilities on one split.

    Attributes:
        ece: expected calibration error, in percent: the mean distance between confidence and accuracy over BINS equal
            parts of the range of confidence (Guo et al. 2017).
        perfect: the calibration error that right probabilities of the same confidence would show on so many rows,
            which chance alone keeps above 0: 4 to 5 points at 500 rows.
        log_loss: mean negative log probability of the label, in nats.
        brier: mean squared distance between probabilities and label, summed over classes (Brier 1950): 0 to 2.
        bins: those that have rows, by confidence.
    """

    ece: Figure
    perfect: float
    log_loss: Figure
    brier: Figure
    bins: tuple[Bin, ...]


def reliability(probabilities: Float[Array, "N C"], gold: Int[Array, "N"]) -> Reliability:
    """Measure the calibration of rows' probabilities, with bootstrap intervals over rows.

    They are percentiles of the resampled figures; of calibration error, mirrored at its value: a resample adds as much
    error by chance as the rows themselves have, so that its percentiles lie too high (of true errors of 5 points on 500
    rows they held 7 in 10, mirrored ones 9 in 10).

    Args:
        gold: the class of each row.
    """
    confidence, hit = probabilities.max(1), probabilities.argmax(1) == gold
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    member = place[:, None] == np.arange(BINS)
    gaps = member * (hit - confidence)[:, None]
    losses = np.stack([log_losses(probabilities, gold), brier_scores(probabilities, gold)], axis=1)
    value = _figures(np.ones((1, len(gold))), gaps, losses)[0]
    draws = np.sort(np.concatenate([_figures(counts, gaps, losses) for counts in _counted(len(gold))]), axis=0)
    low, high = draws[round(0.025 * (RESAMPLES - 1))], draws[round(0.975 * (RESAMPLES - 1))]
    low[0], high[0] = max(2 * value[0] - high[0], 0.0), max(2 * value[0] - low[0], value[0])
    ece, log_loss, brier = (
        Figure(value=float(value[column]), low=float(low[column]), high=float(high[column])) for column in range(3)
    )
    spread = (member * (confidence * (1 - confidence))[:, None]).sum(0)
    perfect = 100 * float(np.sqrt(2 / np.pi * spread).sum()) / len(gold)
    bins = tuple(
        Bin(rows=int(rows.sum()), confidence=float(confidence[rows].mean()), accuracy=float(hit[rows].mean()))
        for rows in member.T
        if rows.any()
    )
    return Reliability(ece=ece, perfect=perfect, log_loss=log_loss, brier=brier, bins=bins)


def log_losses(probabilities: Float[Array, "N C"], gold: Int[Array, "N"]) -> Float[Array, "N"]:
    """Negative log probability of each row's label; a probability of 0 counts as the smallest step above it."""
    least = np.finfo(probabilities.dtype).eps
    return np.asarray(-np.log(probabilities[np.arange(len(gold)), gold].clip(least, 1 - least)))


def brier_scores(probabilities: Float[Array, "N C"], gold: Int[Array, "N"]) -> Float[Array, "N"]:
    """Squared distance between each row's probabilities and its label, summed over classes."""
    return np.asarray(((probabilities - np.eye(probabilities.shape[1])[gold]) ** 2).sum(1))


def _figures(
    counts: Float[Array, "D N"], gaps: Float[Array, "N P"], losses: Float[Array, "N 2"]
) -> Float[Array, "D 3"]:
    """The three figures of each draw, which holds every row so many times."""
    rows = gaps.shape[0]
    ece = 100 * np.abs(counts @ gaps).sum(1, keepdims=True) / rows
    return np.concatenate([ece, counts @ losses / rows], axis=1)


def _counted(rows: int) -> Iterator[Float[Array, "D N"]]:
    """How many times each row is in each draw of the bootstrap."""
    for draws in drawn(rows):
        places = draws + rows * np.arange(len(draws))[:, None]
        yield np.bincount(places.ravel(), minlength=draws.size).reshape(draws.shape).astype(np.float64)
