"""Files to label and labelled files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptgraft.errors import UsageError

if TYPE_CHECKING:
    from promptgraft.task.task import Example, Kind, Task

DELIMITERS = {"csv": ",", "tsv": "\t"}
WRITABLE = (*DELIMITERS, "jsonl")


@dataclass(frozen=True)
class Shape:
    """What the reader must know of the task a file is for."""

    kind: Kind
    columns: dict[str, str] = field(default_factory=dict)


def rows_of(file: Path, task: Task, text: str | None, pair: str | None) -> tuple[list[dict[str, Any]], list[Example]]:
    """The rows of a file with all their columns, and the same rows as examples."""
    from promptgraft.task.load import read_texts
    from promptgraft.task.readers import file_format, read_rows

    columns = {role: name for role, name in (("text", text), ("pair", pair)) if name is not None}
    examples = read_texts(file, Shape(task.kind, columns or dict(task.columns)))
    if file_format(file) == "txt":
        return [{"text": example.text} for example in examples], examples
    return [row for row, _ in read_rows(file)], examples


def written(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write rows as csv, tsv or jsonl, by the file's ending; whole or not at all."""
    from promptgraft.prompt.atomic import write_bytes

    ending = out.suffix.removeprefix(".").lower()
    if ending not in WRITABLE:
        raise UsageError(f"--out {out}: cannot write {ending!r}", do=f"use one of: {', '.join(WRITABLE)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    text = as_lines(rows) if ending == "jsonl" else as_table(rows, DELIMITERS[ending])
    write_bytes(out, text.encode())


def as_lines(rows: Sequence[dict[str, Any]]) -> str:
    """An object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_table(rows: Sequence[dict[str, Any]], delimiter: str) -> str:
    """A header, then a line a row; lists as JSON."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: as_text(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def as_text(value: Any) -> str:
    """A value as a cell shows it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else str(value)
