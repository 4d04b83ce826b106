"""Spans of BIO tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

TagSpan = tuple[str, int, int]
"""A span: its type, first token and last token."""


def spans(tags: Sequence[str]) -> Iterator[TagSpan]:
    """The spans of a row of BIO (or BIOES) tags, each as (type, first token, last token).

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
