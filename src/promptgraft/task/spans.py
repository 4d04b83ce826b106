"""Spans of BIO tags and their F1, as seqeval and conlleval count them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from promptgraft.task.draws import Array

Span = tuple[str, int, int]


def spans(tags: Sequence[str]) -> Iterator[Span]:
    """(type, first token, last token) of every span of BIO (or BIOES) tags.

    Lenient as conlleval: an I- tag that continues nothing (after O, or of another type) opens a span.
    """
    begin, before, kind_before = 0, "O", ""
    for n, tag in enumerate([*tags, "O"]):
        mark, kind = tag[:1], tag[2:]
        goes_on = before in "BI" and mark in "IE" and kind == kind_before
        if before != "O" and not goes_on:
            yield kind_before, begin, n - 1
        if not goes_on:
            begin = n
        before, kind_before = mark, kind


def count_spans(gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Spans of a row that match exactly, that are there, that are predicted."""
    true, said = set(spans(gold)), set(spans(predicted))
    return len(true & said), len(true), len(said)


def span_figures(counts: Int[Array, "D 3"]) -> dict[str, Float[Array, "D"]]:
    """Micro F1, precision and recall in percent from sums of `count_spans`; 0 where nothing can match."""
    right, there, said = counts.T
    return {
        "span_f1": 100 * 2 * right / np.maximum(there + said, 1),
        "precision": 100 * right / np.maximum(said, 1),
        "recall": 100 * right / np.maximum(there, 1),
    }
