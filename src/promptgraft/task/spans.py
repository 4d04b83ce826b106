"""Spans of BIO tags and their F1, as seqeval and conlleval count them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def span_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Micro precision, recall and F1 over exactly matching spans, in percent; 0 where nothing can match."""
    right = in_gold = in_predicted = 0
    for true, guess in zip(gold, predicted, strict=True):
        true_spans, guessed_spans = set(spans(true)), set(spans(guess))
        right += len(true_spans & guessed_spans)
        in_gold += len(true_spans)
        in_predicted += len(guessed_spans)
    return {
        "span_f1": 100 * 2 * right / max(in_gold + in_predicted, 1),
        "precision": 100 * right / max(in_predicted, 1),
        "recall": 100 * right / max(in_gold, 1),
    }
