"""Reads Argilla's records, as JSON with fields and responses, or flat with columns such as `label.responses`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from promptgraft.errors import quoted
from promptgraft.task.formats.contract import Content, Count, Format, ReadRows, rows_by, rows_with
from promptgraft.task.formats.votes import has_several, majority, voted_labels
from promptgraft.task.formats.words import Mark, tagged_words
from promptgraft.task.names import TEXTS
from promptgraft.task.table import Columns, TableRow
from promptgraft.task.task import Kind

RESPONSES, STATUS = ".responses", ".responses.status"
SUBMITTED = ("submitted", None)
"""The statuses of responses that count; drafts and discarded ones do not."""


def is_records(content: Content) -> bool:
    """Whether every row has fields and responses."""
    return rows_with(content, "fields", "responses") and all(
        isinstance(row["fields"], dict) and isinstance(row["responses"], dict | list) for row, _ in content.rows
    )


def read_records(content: Content) -> ReadRows:
    """One row for each record: its fields, and a column for each question."""
    count = Count()

    def convert(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from record(dict(row["fields"]), list(responses_of(row["responses"])), count)

    return labelled_reading(rows_by(content, convert), count)


def responses_of(content: Any) -> Iterator[tuple[str, Any, str | None]]:
    """Every response as (question, value, status), of either version of the format."""
    if isinstance(content, dict):
        for question, responses in content.items():
            for response in responses or ():
                yield question, response["value"], response.get("status")
        return
    for response in content:
        for question, value in (response.get("values") or {}).items():
            yield question, value["value"], response.get("status")


def is_flat(content: Content) -> bool:
    """Whether the table has columns of responses, and all of them hold lists."""
    columns = [name for name in content.rows[0][0] if name.endswith(RESPONSES)] if content.rows else []
    return bool(columns) and all(isinstance(row.get(name), list | None) for row, _ in content.rows for name in columns)


def read_flat(content: Content) -> ReadRows:
    """One row for each record: its fields, and a column for each question."""
    count = Count()

    def convert(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        questions = [name.removesuffix(RESPONSES) for name in row if name.endswith(RESPONSES)]
        fields = {name: value for name, value in row.items() if not is_about(name, questions)}
        responses = [
            (question, value, status)
            for question in questions
            for value, status in paired(row[question + RESPONSES], row.get(question + STATUS))
        ]
        yield from record(fields, responses, count)

    return labelled_reading(rows_by(content, convert), count)


def is_about(name: str, questions: Sequence[str]) -> bool:
    """Whether a column belongs to a question, or is the record's number, metadata or vectors."""
    return any(name.startswith(question + ".") for question in questions) or name in ("id", "_server_id", "status")


def paired(values: Sequence[Any] | None, statuses: Sequence[str | None] | None) -> list[tuple[Any, str | None]]:
    """Responses, each with its status; without statuses all count as submitted."""
    values = values or ()
    return list(zip(values, statuses or [None] * len(values), strict=True))


def record(
    fields: dict[str, Any], responses: Sequence[tuple[str, Any, str | None]], count: Count
) -> Iterator[dict[str, Any]]:
    """The fields with the submitted answers of each question; nothing where all were discarded."""
    submitted = [(question, value) for question, value, status in responses if status in SUBMITTED]
    if responses and not submitted:
        count.add("rows whose responses were all discarded or drafts, left out")
        return
    answers: dict[str, list[Any]] = {}
    for question, value in submitted:
        answers.setdefault(question, []).append(value)
    yield {"fields": fields, "answers": answers}


def labelled_reading(records: Sequence[TableRow], count: Count) -> ReadRows:
    """The rows, labelled by the question that was answered most."""
    questions = Counter(question for row, _ in records for question in row["answers"]).most_common()
    if not questions:
        return ReadRows([(row["fields"], line) for row, line in records], notes=count.notes())
    label = questions[0][0]
    marked = any(is_marks(value) for row, _ in records for value in row["answers"].get(label, ()))
    notes = [f"the label is {quoted(label)}; also asked: {quoted(name)}" for name, _ in questions[1:2]]
    listed = [v for row, _ in records for v in row["answers"].get(label, ()) if isinstance(v, list) and not marked]
    several = has_several(listed)
    rows: list[TableRow] = []
    for row, line in records:
        values = [value for value in row["answers"].get(label, ()) if value is not None]
        answer: Any
        if listed:
            answer = voted_labels([[str(n) for n in value] for value in values], count, several=several)
        else:
            answer = majority([marks_of(value) if marked else value for value in values], count)
        if marked:
            words, tags = tagged_words(text_of(row["fields"]), answer or (), count)
            rows.append(({"tokens": words, "tags": None if answer is None else tags}, line))
        else:
            rows.append(({**row["fields"], label: answer}, line))
    columns = Columns(text="tokens", label="tags") if marked else Columns(label=label)
    kind: Kind | None = "tagging" if marked else "multilabel" if several else None
    return ReadRows(rows, columns, kind, (*notes, *count.notes()))


def is_marks(value: Any) -> bool:
    """Whether a response is a list of marks in the text."""
    return isinstance(value, list) and any(isinstance(part, dict) and "start" in part for part in value)


def marks_of(value: Any) -> tuple[Mark, ...]:
    """A response as a tuple of marks."""
    return tuple(sorted((int(mark["start"]), int(mark["end"]), str(mark["label"])) for mark in value))


def text_of(fields: Mapping[str, Any]) -> str:
    """The text that was marked: the field with a usual name, else the longest."""
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    return next((texts[name] for name in TEXTS if name in texts), max(texts.values(), key=len, default=""))


RECORDS = Format("Argilla records", is_records, read_records)
FLAT = Format("Argilla records, flat", is_flat, read_flat)
