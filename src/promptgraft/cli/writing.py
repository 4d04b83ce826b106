"""Writes labelled rows as csv, tsv, jsonl, json or parquet; what cannot be written is refused before the work."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptgraft.cli.values import cell, json_value
from promptgraft.errors import UsageError

if TYPE_CHECKING:
    from pyarrow import Array, Table

    from promptgraft.cli.say import Say

Records = Sequence[Mapping[str, Any]]

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The beginnings of a cell that a spreadsheet runs as a formula."""
OF_CELLS = ("csv", "tsv")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def check_target(out: Path | None, *, read_from: Path | None, safe_cells: bool = False) -> None:
    """Check that a file can be written to a path, and make its folder; None is the screen.

    Args:
        read_from: the file that is labelled, which must not be written over.

    Raises:
        UsageError: an ending that is not written, a folder of that name, a place without the right to write.
    """
    if out is None:
        if safe_cells:
            raise UsageError("--safe-cells is for files", do="add --out FILE.csv, or leave it out")
        return
    if out.is_dir():
        raise UsageError(f"--out {out}: this is a folder", do="name a file in it")
    ending = ending_of(out)
    if ending not in WRITERS:
        raise UsageError(f"--out {out}: cannot write {ending!r}", do=f"use one of: {', '.join(WRITERS)}")
    if safe_cells and ending not in OF_CELLS:
        raise UsageError(f"--safe-cells is for csv and tsv, not {ending}", do="leave it out")
    if read_from is not None and out.exists() and read_from.exists() and out.samefile(read_from):
        raise UsageError(f"--out {out}: this is the file to label", do="name another file")
    check_folder(out.parent, out)
    out.parent.mkdir(parents=True, exist_ok=True)


def check_folder(folder: Path, out: Path) -> None:
    """Check that the folder that `--out` names or lies in can be made, and be written in; nothing is made yet.

    Raises:
        UsageError: a file stands in its way, or there is no right to write.
    """
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir():
        raise UsageError(f"--out {out}: {place} is a file, not a folder", do="choose another place")
    if not os.access(place, os.W_OK):
        raise UsageError(f"--out {out}: no right to write there", do="choose another place")


def check_writable(rows: Records, out: Path | None) -> None:
    """Check that rows can be written to `out` and read back unchanged; without `out`, that they can be JSON.

    Raises:
        UsageError: they cannot; with the column.
    """
    if out is not None and ending_of(out) == "parquet":
        parquet(rows)
        return
    for name in columns_of(rows):
        try:
            name.encode()
            for row in rows:
                cell(row.get(name)).encode()
        except (TypeError, UnicodeEncodeError) as error:
            where = "as JSON" if out is None else f"to {out.name}"
            raise UsageError(f"column {name!r} cannot be written {where} ({error})", do="leave it out") from error


def write(rows: Records, out: Path, *, safe_cells: bool = False) -> None:
    """Write rows in the format of the file's ending, whole or not at all.

    Args:
        safe_cells: put an apostrophe before cells of csv and tsv that a spreadsheet would take for a formula.
    """
    from promptgraft.prompt.atomic import write_bytes

    write_bytes(out, WRITERS[ending_of(out)](safe(rows) if safe_cells else rows))


def ending_of(path: Path) -> str:
    """The format that a file's ending stands for."""
    return path.suffix.removeprefix(".").lower()


def holds_lists(out: Path | None, say: Say) -> bool:
    """Whether rows go where a value may be a list: JSON and parquet, not the cells of csv, tsv and the screen."""
    return say.json if out is None else ending_of(out) not in OF_CELLS


def joined(rows: Records, separator: str) -> list[dict[str, Any]]:
    """The rows with one text for each list, as in a file with one cell for all labels of a row."""
    return [
        {name: separator.join(map(str, value)) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]


def columns_of(rows: Records) -> list[str]:
    """All columns that occur in rows, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name itself, or with the first number appended that makes it differ from all taken names."""
    taken = set(taken)
    numbered = (f"{name}_{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(candidate for candidate in numbered if candidate not in taken)


def safe(rows: Records) -> list[dict[str, str]]:
    """The records with cells and column names escaped that a spreadsheet would take for a formula."""
    return [{_safe(name): _safe(cell(value)) for name, value in row.items()} for row in rows]


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text


def table(rows: Records, delimiter: str) -> bytes:
    """The rows as csv or tsv: a header, then one line for each row, with empty cells for missing values."""
    columns = columns_of(rows)
    cells = [columns, *([cell(row.get(name)) for name in columns] for row in rows)]
    content = "".join(delimiter.join(quoted(text, delimiter) for text in line) + "\n" for line in cells)
    mark = "\ufeff" if content.startswith("\ufeff") else ""  # a reader takes the first for a byte order mark
    return (mark + content).encode()


def quoted(text: str, delimiter: str) -> str:
    """A cell, in quotes where it needs them; csv.writer does not quote a bare carriage return."""
    needed = any(mark in text for mark in (delimiter, '"', "\n", "\r"))
    return '"' + text.replace('"', '""') + '"' if needed else text


def lines(rows: Records) -> bytes:
    """The rows as jsonl, one object a line."""
    return "".join(json.dumps(json_value(row), ensure_ascii=False) + "\n" for row in rows).encode()


def array(rows: Records) -> bytes:
    """The rows as a JSON list, one object a line."""
    body = ",\n".join(json.dumps(json_value(row), ensure_ascii=False) for row in rows)
    return f"[\n{body}\n]\n".encode()


def parquet(rows: Records) -> bytes:
    """The rows as Apache Parquet, through pyarrow.

    Raises:
        UsageError: a column whose values are not of one type.
    """
    import pyarrow
    import pyarrow.parquet

    columns = {name: _column(name, [row.get(name) for row in rows]) for name in columns_of(rows)}
    content = io.BytesIO()
    content_table: Table = pyarrow.table(columns)
    try:
        pyarrow.parquet.write_table(content_table, content)
    except (pyarrow.ArrowException, NotImplementedError) as error:
        what = str(error).splitlines()[0]
        raise UsageError(f"these rows cannot be written as parquet ({what})", do="use --out FILE.jsonl") from error
    return content.getvalue()


def _column(name: str, values: list[Any]) -> Array:
    """The values of a column as an array, checked to be read back as they are."""
    import pyarrow

    try:
        column = pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise UsageError(f"column {name!r} is no column of parquet ({what})", do="use --out FILE.jsonl") from error
    if [cell(value) for value in column.to_pylist()] != [cell(value) for value in values]:
        what = f"column {name!r} is no column of parquet (its values are of several types)"
        raise UsageError(what, do="use --out FILE.jsonl")
    return column


WRITERS: dict[str, Callable[[Records], bytes]] = {
    "csv": lambda rows: table(rows, ","),
    "tsv": lambda rows: table(rows, "\t"),
    "jsonl": lines,
    "json": array,
    "parquet": parquet,
}
