"""Chooses the threshold above which a row gets a label: the log odds with the highest F1 on rows not trained on.

One threshold for all labels, by probes' scores of rows left out, gives a micro F1 of 53.7, 57.1, 60.6 and 63.8 % at 4,
8, 16 and 32 rows a label on six tasks (kinds of names in tweets, in web text, in Chinese news and in questions on
restaurants and flights, and what a restaurant's description tells; 3 to 26 labels, four draws of rows, MiniLM and
e5-small frozen). A half gives 38.6, 41.8, 45.3 and 49.8: few rows of each label make odds modest. A threshold for each
label gives 50.9, 55.5, 59.2 and 62.7, and no higher macro F1 either: a few rows cannot tell it.

Without labelled rows the threshold is a guess: the best one for F1 is half the F1 that it gives (Lipton et al., 2014).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from promptgraft.task.draws import Array

UNJUDGED = -math.log(3)
"""The threshold without labelled rows, a probability of a quarter: descriptions alone give an F1 of about a half. On
six tasks (three English on MiniLM, three Chinese on e5-small; a row has 0.7 to 2.6 labels) micro F1 is 48.0 % with it
and 41.6 with a half, macro F1 39.9 and 34.3; micro F1 is worse on one of the six, by 0.8."""
TRIED = 200
"""Thresholds at most, evenly spread over the log odds that occur."""
NEAR = 0.01
"""Thresholds whose F1 is so near the best are as good; the one nearest to a probability of a half is taken."""


def best_threshold(
    odds: Float[Array, "B C"], gold: Int[Array, "B C"], *, macro: bool = False, least: bool = False
) -> float:
    """The log odds above which labels are given; 0 where no row is labelled.

    Args:
        gold: 1 where a row has a label, 0 where it has not, below 0 where that is not known and does not count.
        macro: whether the mean F1 of the labels is to be high, not that of all decisions.
        least: whether every row gets its likeliest label whatever its odds.
    """
    known, true = gold >= 0, gold > 0
    if not true.any():
        return 0.0
    always = odds == odds.max(1, keepdims=True) if least else np.zeros_like(true)
    values = np.unique(odds[known])
    between = (values[1:] + values[:-1]) / 2
    places = np.linspace(0, max(0, len(between) - 1), min(TRIED, len(between))).round().astype(int)
    candidates = np.append(between[places], 0.0)
    scores = np.array([f1(true, ((odds > candidate) | always) & known, macro=macro) for candidate in candidates])
    good = candidates[scores >= scores.max() - NEAR]
    return float(good[np.abs(good).argmin()])


def f1(true: Bool[Array, "B C"], guess: Bool[Array, "B C"], *, macro: bool) -> float:
    """F1 over all decisions, or its mean over the labels that occur."""
    axis = 0 if macro else None
    right, count = (true & guess).sum(axis), true.sum(axis) + guess.sum(axis)
    occurs = np.maximum((count > 0).sum(), 1)
    return float((2 * right / np.maximum(count, 1)).sum() / occurs)
