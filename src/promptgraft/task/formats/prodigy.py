"""Reads Prodigy's JSONL: accept, reject or ignore as the answer to a label, options, or marks in a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from promptgraft.task.formats.contract import Content, Count, Format, ReadRows, rows_by, rows_with
from promptgraft.task.formats.votes import has_several, majority, voted_labels
from promptgraft.task.formats.words import tagged_words
from promptgraft.task.table import Columns, TableRow

ANSWERS = ("accept", "reject", "ignore")
QUESTIONS = ("label", "accept", "spans")


def recognise(content: Content) -> bool:
    """Whether every row is a text with one of Prodigy's answers to one of its questions."""
    return rows_with(content, "text", "answer") and all(
        row["answer"] in ANSWERS and any(name in row for name in QUESTIONS) for row, _ in content.rows
    )


def read(content: Content) -> ReadRows:
    """The accepted rows; rejected and ignored ones are left out, with their number.

    Where one label alone was asked for, what was rejected is `not LABEL`, or there would be one class.
    """
    count = Count()
    marked = any(row.get("spans") for row, _ in content.rows)
    accepted = {str(row.get("label")) for row, _ in content.rows if row["answer"] == "accept" and "label" in row}
    only = accepted.pop() if len(accepted) == 1 and not marked else None

    def convert(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if row["answer"] == "ignore":
            count.add("rows that were ignored, left out")
        elif row["answer"] == "reject" and only is None:
            count.add("rows that were rejected, left out")
        else:
            yield marked_row(row, count) if marked else classed_row(row, only, count)

    converted = rows_by(content, convert)
    if marked:
        rows = joined(converted, "tags", lambda votes: list_of(majority(votes, count)), count)
        return ReadRows(rows, Columns(text="tokens", label="tags"), "tagging", count.notes())
    several = has_several(row["label"] or () for row, _ in converted)
    rows = joined(converted, "label", lambda votes: voted_labels(votes, count, several=several), count)
    return ReadRows(rows, Columns(text="text", label="label"), "multilabel" if several else None, count.notes())


def marked_row(row: dict[str, Any], count: Count) -> dict[str, Any]:
    """The words of a row and their tags."""
    spans = [(int(s["start"]), int(s["end"]), str(s["label"])) for s in row.get("spans") or ()]
    words, tags = tagged_words(row["text"], spans, count)
    return {"tokens": words, "tags": tuple(tags), "item": row.get("_input_hash")}


def classed_row(row: dict[str, Any], only: str | None, count: Count) -> dict[str, Any]:
    """The text of a row and its classes."""
    labels = row.get("accept") or () if "accept" in row else [row["label"]] if row.get("label") is not None else None
    if only is not None and row["answer"] == "reject":
        count.add(f"rows that were rejected, read as 'not {only}'")
        labels = [f"not {only}"]
    label = None if labels is None else tuple(map(str, labels))
    return {"text": row["text"], "label": label, "item": row.get("_input_hash")}


def list_of(answer: tuple[str, ...] | None) -> list[str] | None:
    """An answer as a list."""
    return None if answer is None else list(answer)


def joined(rows: Sequence[TableRow], column: str, vote: Callable[[list[Any]], object], count: Count) -> list[TableRow]:
    """The rows, with those of one item by several annotators joined and labelled by their votes."""
    groups: dict[Any, list[TableRow]] = {}
    for n, (row, line) in enumerate(rows):
        groups.setdefault((row["item"],) if row["item"] is not None else n, []).append((row, line))
    count.add("rows of further annotators, joined with the first", len(rows) - len(groups))
    result: list[TableRow] = []
    for group in groups.values():
        first, line = group[0]
        votes = [row[column] for row, _ in group if row[column] is not None]
        result_row = {name: value for name, value in first.items() if name != "item"}
        result.append((result_row | {column: vote(votes)}, line))
    return result


FORMAT = Format("Prodigy JSONL", recognise, read)
