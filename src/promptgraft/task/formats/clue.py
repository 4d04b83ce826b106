"""Reads CLUE's json files whose labels are numbers with a name, or whose rows hold more than a text and a label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from promptgraft.task.formats.contract import Content, Count, Format, ReadRows, rows_by, rows_with
from promptgraft.task.formats.glue import with_gold
from promptgraft.task.formats.words import Mark, tagged_words
from promptgraft.task.table import Columns

NAMES = ("label_desc", "label_des")


def is_named(content: Content) -> bool:
    """Whether every row has the name of its label (TNEWS, IFLYTEK)."""
    return any(rows_with(content, "sentence", "label", name) for name in NAMES)


def read_named(content: Content) -> ReadRows:
    """A sentence with the name of its label."""
    name = next(name for name in NAMES if rows_with(content, name))
    return ReadRows(content.rows, Columns(text="sentence", label=name), notes=(f"labels by their names ({name!r})",))


def is_ocnli(content: Content) -> bool:
    """Whether the rows are pairs with the labels of five annotators."""
    return rows_with(content, "sentence1", "sentence2", "label", "label0", "label4")


def read_ocnli(content: Content) -> ReadRows:
    """Pairs, without those that have no majority."""
    return with_gold(list(content.rows), Columns(text="sentence1", pair="sentence2", label="label"))


def is_csl(content: Content) -> bool:
    """Whether the rows are abstracts with keywords."""
    return rows_with(content, "abst", "keyword") and all(isinstance(row["keyword"], list) for row, _ in content.rows)


def read_csl(content: Content) -> ReadRows:
    """Pairs of the abstract and its keywords."""
    rows = rows_by(content, lambda row: [{**row, "keyword": "；".join(map(str, row["keyword"]))}])
    return ReadRows(
        rows, Columns(text="abst", pair="keyword", label="label"), notes=("the second text is the keywords",)
    )


def is_cluener(content: Content) -> bool:
    """Whether every label is an object of types, names and places."""
    return (
        rows_with(content, "text")
        and any("label" in row for row, _ in content.rows)
        and all(isinstance(row["text"], str) and is_places(row.get("label", {})) for row, _ in content.rows)
    )


def is_places(label: Any) -> bool:
    """Whether a label has the form {type: {name: [[first, last], ...]}}."""
    return isinstance(label, dict) and all(
        isinstance(names, dict)
        and all(isinstance(places, list) and all(map(is_place, places)) for places in names.values())
        for names in label.values()
    )


def is_place(place: Any) -> bool:
    """Whether a place is the numbers of a first and a last character."""
    return isinstance(place, list) and len(place) == 2 and all(isinstance(number, int) for number in place)


def read_cluener(content: Content) -> ReadRows:
    """Words with tags; the last character of a name belongs to it."""
    count = Count()

    def convert(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        words, tags = tagged_words(row["text"], list(marks(row.get("label", {}))), count)
        yield {"tokens": words, "tags": tags if "label" in row else None}

    return ReadRows(rows_by(content, convert), Columns(text="tokens", label="tags"), "tagging", count.notes())


def marks(label: dict[str, Any]) -> Iterator[Mark]:
    """The marks of a label's names; each ends behind the name's last character."""
    for kind, names in label.items():
        for places in names.values():
            for first, last in places:
                yield first, last + 1, kind


FORMATS = (
    Format("TNEWS or IFLYTEK", is_named, read_named),
    Format("OCNLI", is_ocnli, read_ocnli),
    Format("CSL", is_csl, read_csl),
    Format("CLUENER", is_cluener, read_cluener),
)
