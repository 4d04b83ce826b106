"""Reads doccano's JSONL, whose labels are lists of names or marks, and its CSV, whose labels are joined by #."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from promptgraft.task.formats.contract import Content, Count, Format, ReadRows, rows_by, rows_with
from promptgraft.task.formats.votes import has_several, voted_labels
from promptgraft.task.formats.words import Mark, tagged_words
from promptgraft.task.table import Columns

LABELS = ("label", "labels", "entities")
JOINT = "#"


def label_column(content: Content) -> str | None:
    """The column whose values are lists of names, or of marks, in every row."""
    for name in LABELS:
        values = [row.get(name) for row, _ in content.rows]
        if all(isinstance(value, list) and all(is_label(part) for part in value) for value in values):
            return name
    return None


def is_label(part: Any) -> bool:
    """Whether a value is a label's name, or a mark as a list or an object."""
    if isinstance(part, list):
        return len(part) == 3 and isinstance(part[0], int) and isinstance(part[1], int)
    return isinstance(part, str) or (isinstance(part, dict) and {"label", "start_offset", "end_offset"} <= part.keys())


def is_jsonl(content: Content) -> bool:
    """Whether every row is a text with a list of labels."""
    texts = rows_with(content, "text") and all(isinstance(row["text"], str) for row, _ in content.rows)
    return texts and label_column(content) is not None


def read_jsonl(content: Content) -> ReadRows:
    """Texts with their label or labels, or words with tags where parts of the text are marked."""
    name, count = label_column(content) or "", Count()
    if any(not isinstance(part, str) for row, _ in content.rows for part in row[name]):

        def mark(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
            words, tags = tagged_words(row["text"], list(map(mark_of, row[name])), count)
            yield {"tokens": words, "tags": tags}

        rows = rows_by(content, mark)
        count.add("relations, not used", sum(len(row.get("relations") or ()) for row, _ in content.rows))
        return ReadRows(rows, Columns(text="tokens", label="tags"), "tagging", count.notes())
    return labelled(content, name, [row[name] for row, _ in content.rows], count, yet="id" in content.rows[0][0])


def labelled(
    content: Content, column: str, answers: Sequence[Sequence[str]], count: Count, *, yet: bool = True
) -> ReadRows:
    """The rows with their label, or, where some have several, their labels.

    Args:
        yet: whether what has none is not annotated yet, as with doccano, which numbers its rows; otherwise no label
            fits a row without one, where others have several.
    """
    several = has_several(answers)
    asked = several and not yet
    labels = [voted_labels([answer] if answer or asked else [], count, several=several) for answer in answers]
    rows = [({**row, column: label}, line) for (row, line), label in zip(content.rows, labels, strict=True)]
    return ReadRows(rows, Columns(text="text", label=column), "multilabel" if several else None, count.notes())


def mark_of(part: Any) -> Mark:
    """A mark from its list or its object."""
    if isinstance(part, dict):
        return int(part["start_offset"]), int(part["end_offset"]), str(part["label"])
    begin, end, label = part
    return int(begin), int(end), str(label)


def is_csv(content: Content) -> bool:
    """Whether the columns are id, text and label, and some label joins the names of other labels."""
    if not rows_with(content, "id", "text", "label") or set(content.rows[0][0]) - {"id", "text", "label", "Comments"}:
        return False
    labels = {str(row["label"]) for row, _ in content.rows}
    return any(JOINT in label and labels & set(label.split(JOINT)) for label in labels)


def read_csv(content: Content) -> ReadRows:
    """Texts with their labels."""
    labels = [str(row["label"] or "") for row, _ in content.rows]
    return labelled(content, "label", [label.split(JOINT) if label else [] for label in labels], Count())


JSONL = Format("doccano JSONL", is_jsonl, read_jsonl)
CSV = Format("doccano CSV", is_csv, read_csv)
