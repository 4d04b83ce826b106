"""F1 of the spans of BIO tags, as seqeval and conlleval count them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from promptgraft.task.bio import spans
from promptgraft.task.draws import Array


def count_spans(gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """How many spans of a row match exactly, how many are gold, and how many are predicted."""
    gold_spans, predicted_spans = set(spans(gold)), set(spans(predicted))
    return len(gold_spans & predicted_spans), len(gold_spans), len(predicted_spans)


def span_figures(counts: Int[Array, "D 3"]) -> dict[str, Float[Array, "D"]]:
    """Micro F1, precision and recall in percent from sums of `count_spans`; 0 where nothing can match."""
    right, gold, predicted = counts.T
    return {
        "span_f1": 100 * 2 * right / np.maximum(gold + predicted, 1),
        "precision": 100 * right / np.maximum(predicted, 1),
        "recall": 100 * right / np.maximum(gold, 1),
    }
