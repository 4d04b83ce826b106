"""Converts marked stretches of a text to words with tags, and other schemes of tags to BIO."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from promptgraft.task.bio import spans
from promptgraft.task.formats.contract import Count

Mark = tuple[int, int, str]
"""A mark: its first character, the one behind its last, and its label."""
IDEOGRAPH = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
WORD = re.compile(rf"{IDEOGRAPH}|(?:(?!{IDEOGRAPH})\w)+|[^\w\s]")
"""An ideograph, a run of letters and digits, or a single other character."""


def tagged_words(text: str, marks: Sequence[Mark], count: Count) -> tuple[list[str], list[str]]:
    """The words of a text and their tags in BIO.

    A mark that ends inside a word cuts the word. Of marks that overlap, the one that begins first (of these the
    longest) is kept; the others, and marks that are not inside the text, are counted.
    """
    kept = separate(text, marks, count)
    cuts = sorted({place for begin, end, _ in kept for place in (begin, end)})
    words, tags = [], []
    mark, fresh = 0, True
    for begin, end in pieces(text, cuts):
        while mark < len(kept) and kept[mark][1] <= begin:
            mark, fresh = mark + 1, True
        inside = mark < len(kept) and kept[mark][0] <= begin
        words.append(text[begin:end])
        tags.append(("B-" if fresh else "I-") + kept[mark][2] if inside else "O")
        fresh = fresh and not inside
    return words, tags


def pieces(text: str, cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The positions where the words of a text begin and end; a word that contains cuts (sorted) is split at them."""
    n = 0
    for match in WORD.finditer(text):
        begin = match.start()
        while n < len(cuts) and cuts[n] <= begin:
            n += 1
        while n < len(cuts) and cuts[n] < match.end():
            yield begin, cuts[n]
            begin, n = cuts[n], n + 1
        yield begin, match.end()


def separate(text: str, marks: Sequence[Mark], count: Count) -> list[Mark]:
    """The marks that lie inside the text and do not overlap, in order."""
    kept: list[Mark] = []
    for begin, end, label in sorted(set(marks), key=lambda mark: (mark[0], -mark[1], mark[2])):
        if not 0 <= begin < end <= len(text) or not text[begin:end].strip():
            count.add("marks outside of their text, or of nothing, left out")
        elif kept and begin < kept[-1][1]:
            count.add("marks that overlap another, left out")
        else:
            kept.append((begin, end, label))
    return kept


def scheme(rows: Sequence[Sequence[str]]) -> str:
    """The scheme by which tags mark spans: IOB2 (BIO), IOB1, BIOES or BILOU; empty where there are no spans."""
    marks = {tag[:1] for tags in rows for tag in tags if tag[1:2] == "-"}
    if not marks:
        return ""
    if marks & set("LU"):
        return "BILOU"
    if marks & set("ES"):
        return "BIOES"
    opened = any(
        tag[:2] == "I-" and before[2:] != tag[2:]
        for tags in rows
        for before, tag in zip(["O", *tags], tags, strict=False)
    )
    return "IOB1" if opened else "IOB2"


def as_bio(tags: Sequence[str]) -> list[str]:
    """Tags of any scheme, converted to BIO."""
    plain = [{"L": "E", "U": "S"}.get(tag[:1], tag[:1]) + tag[1:] if tag[1:2] == "-" else "O" for tag in tags]
    result = ["O"] * len(tags)
    for label, first, last in spans(plain):
        result[first : last + 1] = [f"B-{label}", *[f"I-{label}"] * (last - first)]
    return result
