"""A few labelled rows fit a scale and class biases to another model's class scores (Platt scaling, with a prior)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from promptgraft.readout.evidence import Evidence, log_softmax
from promptgraft.task.draws import Array

SCALE_SPREAD, BIAS_SPREAD = 1.0, 1.0
"""Deviation of the logarithm of the scale, and of the biases, before a row is seen."""


def scaled_evidence(
    scores: Float[Array, "U K"], y: Int[Array, "U"], fold: Int[Array, "U"], weight: Float[Array, "U"]
) -> tuple[Evidence, Float[Array, "2 _"]]:
    """Evidence for scores as they are and for scaled ones, and the scale and biases of both, fitted to all rows.

    Args:
        fold: which part a row is left out of.
        weight: of the rows.
    Returns: beside the evidence, of each the scale and then the biases.
    """
    scores = log_softmax(scores)
    unseen = np.empty_like(scores)
    for number in range(fold.max() + 1):
        part = fold == number
        unseen[part] = log_softmax(moved(scores[part], fitted_scale(scores, y, ~part, weight)))
    plain = np.concatenate([[1.0], np.zeros(scores.shape[1])])
    return Evidence(np.stack([scores, unseen])), np.stack([plain, fitted_scale(scores, y, y >= 0, weight)])


def moved(scores: Float[Array, "U K"], scale: Float[Array, "K1"]) -> Float[Array, "U K"]:
    """The scores times the scale plus the biases."""
    return np.asarray(scale[0] * scores + scale[1:])


def fitted_scale(
    scores: Float[Array, "U K"], y: Int[Array, "U"], part: Bool[Array, "U"], weight: Float[Array, "U"]
) -> Float[Array, "K1"]:
    """The scale and biases that make some rows' labels likeliest, held near 1 and 0 (Platt 1999, with a prior)."""
    from scipy.optimize import minimize  # loading it is an eighth of the start of every command, few of which fit

    x, gold, share = scores[part], y[part], weight[part]
    rows = np.arange(len(gold))

    def loss(place: Float[Array, "K1"]) -> tuple[float, Float[Array, "K1"]]:
        scale, bias = np.exp(place[0]), place[1:]
        logs = log_softmax(scale * x + bias)
        value = -share @ logs[rows, gold] + (place[0] / SCALE_SPREAD) ** 2 / 2 + (bias / BIAS_SPREAD) @ bias / 2
        slope = np.exp(logs) * share[:, None]
        slope[rows, gold] -= share
        held = np.concatenate([[place[0] / SCALE_SPREAD**2], bias / BIAS_SPREAD**2])
        return float(value), np.concatenate([[scale * (slope * x).sum()], slope.sum(0)]) + held

    found = minimize(loss, np.zeros(scores.shape[1] + 1), jac=True, method="L-BFGS-B")
    return np.concatenate([[np.exp(found.x[0])], found.x[1:]])
