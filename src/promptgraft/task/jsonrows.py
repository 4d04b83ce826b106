"""Reads json and jsonl into rows, each with its line number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from promptgraft.errors import TaskError
from promptgraft.task.table import TableRow
from promptgraft.untrusted import read_json

LIST_EXPECTED = 'write a list of objects, or {"data": [...]}'


def read_jsonl_rows(text: str, path: Path) -> tuple[list[TableRow], list[str]]:
    """The rows of one JSON object a line (blank lines are skipped), or, with a note, of one list in the whole file."""
    if text.lstrip()[:1] == "[" and (rows := one_list(text, path)) is not None:
        return rows, [f"{path.name}: one JSON list, not one object a line"]
    # not splitlines(): U+2028 and its like may stand inside a JSON string
    lines = text.split("\n")
    rows = [(parse_object(line, f"{path}:{n}"), n) for n, line in enumerate(lines, 1) if line.strip(" \t\r")]
    return cleaned(rows, text, path)


def read_json_rows(text: str, path: Path) -> tuple[list[TableRow], list[str]]:
    """The rows of a list of objects, of an object whose "data" is a list, or, with a note, of one object a line."""
    try:
        rows = list(json_rows(text, path))
    except TaskError as problem:
        cause = problem.__cause__
        if not isinstance(cause, json.JSONDecodeError):
            raise
        if cause.msg == "Extra data" and text.lstrip()[:1] == "{":
            rows, notes = read_jsonl_rows(text, path)
            return rows, [*notes, f"{path.name}: one JSON object a line"]
        what = f"broken JSON: {cause.msg}"
        raise TaskError(what, where=f"{path}:{cause.lineno}", do="repair the file") from None
    return cleaned(rows, text, path)


def one_list(text: str, path: Path) -> list[TableRow] | None:
    """The rows of a text that is one JSON list of objects, None where it is none."""
    try:
        return list(json_rows(text, path))
    except TaskError:
        return None


def parse_object(line: str, where: str) -> dict[str, Any]:
    """The JSON object of one line."""
    try:
        row = read_json(line, where, TaskError)
    except TaskError as problem:
        cause = problem.__cause__
        what = problem.what
        if isinstance(cause, json.JSONDecodeError):
            what = f"broken JSON: {cause.msg} at column {cause.colno}"
        raise TaskError(what, where=where, do="write one JSON object a line") from None
    return checked_object(row, where)


def checked_object(row: Any, where: str) -> dict[str, Any]:
    """The row, if it is an object."""
    if not isinstance(row, dict):
        raise TaskError(f"a row is a JSON object, not {type(row).__name__}", where=where, do='write {"text": ...}')
    return row


def cleaned(rows: list[TableRow], text: str, path: Path) -> tuple[list[TableRow], list[str]]:
    """The rows free of half surrogate pairs, which no tokenizer takes, with a note on those that had some."""
    if "\\ud" not in text and "\\uD" not in text:
        return rows, []
    clean = [(json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")), line) for row, line in rows]
    halved = [line for (row, line), (new, _) in zip(rows, clean, strict=True) if row != new]
    if not halved:
        return rows, []
    count = f"{len(halved)} row{'s' if len(halved) > 1 else ''} (first: line {halved[0]})"
    return clean, [f"{path.name}: half a surrogate pair was read as '?' in {count}"]


def json_rows(text: str, path: Path) -> Iterator[TableRow]:
    """The objects of a JSON list, each with its line, which reading the list at once (done first) does not give."""
    read_json(text, path, TaskError)
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    at = start_of_list(text, decoder, path)
    while text[at] != "]":
        line, counted = line + text.count("\n", counted, at), at
        row, end = decoder.raw_decode(text, at)
        yield checked_object(row, f"{path}:{line}"), line
        at = skip(text, end, ",")


def start_of_list(text: str, decoder: json.JSONDecoder, path: Path) -> int:
    """The position of the first row in a JSON file that is known to be valid."""
    at = skip(text, 0, "")
    if text[at] == "[":
        return skip(text, at + 1, "")
    if text[at] != "{":
        raise TaskError("no list of rows", where=path, do=LIST_EXPECTED)
    at = skip(text, at, "{")
    while text[at : at + 1] == '"':
        key, at = decoder.raw_decode(text, at)
        at = skip(text, at, ":")
        if key == "data" and text[at] == "[":
            return skip(text, at + 1, "")
        at = skip(text, decoder.raw_decode(text, at)[1], ",")
    raise TaskError("no list of rows", where=path, do=LIST_EXPECTED)


def skip(text: str, at: int, mark: str) -> int:
    """The next position that is neither white space nor the mark."""
    while text[at : at + 1] and text[at] in " \t\r\n" + mark:
        at += 1
    return at
