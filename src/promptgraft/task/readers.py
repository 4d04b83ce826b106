"""Files to rows: every format the same way, every error with its file and line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptgraft.errors import TaskError

Row = tuple[dict[str, Any], int]
"""A row's values by column, and the line of the file it starts on (parquet: the row's number from 1)."""


def read_rows(path: str | Path) -> list[Row]:
    """The rows of one data file: jsonl, json, csv, tsv or parquet, each also as .gz.

    Text is UTF-8, with or without a byte order mark. json is a list of objects or {"data": [...]}. In csv and tsv the
    first line names the columns and all values are strings. A tsv whose quotes do not pair is read as one without
    quoting (as GLUE's files are), with a warning.

    Raises: TaskError for a missing, empty, damaged or ragged file, naming file and line.
    """
    path = Path(path)
    reader = READERS.get(file_format(path))
    if reader is None:
        raise TaskError(f"unknown format {path.suffix!r}", where=path, do=f"use one of: {', '.join(READERS)}")
    rows = reader(read_bytes(path), path)
    if not rows:
        raise TaskError("the file holds no rows", where=path, do="give a file with at least one row")
    return rows


def file_format(path: Path) -> str:
    """The file's format by its name, without .gz: `train.jsonl.gz` is "jsonl"."""
    return Path(path.name.removesuffix(".gz")).suffix.removeprefix(".").lower()


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked where it ends in .gz.

    Raises: TaskError where it is missing, unreadable, empty or damaged.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.name.endswith(".gz") else raw
    except FileNotFoundError:
        raise TaskError("no such file", where=path, do="check the path") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TaskError(f"not a whole gzip file ({error})", where=path, do="pack or download it again") from None
    except OSError as error:
        raise TaskError(f"cannot be read ({error.strerror})", where=path, do="check the path and its rights") from None
    if not content.strip(b"\xef\xbb\xbf \t\r\n"):
        raise TaskError("the file is empty", where=path, do="give a file with at least one row")
    return content


def read_text(path: Path) -> str:
    """A file's text. Raises: TaskError with the line of the first byte that is not UTF-8."""
    return decode(read_bytes(path), path)


def decode(raw: bytes, path: Path) -> str:
    """UTF-8 with or without a byte order mark. Raises: TaskError with the line of the first bad byte."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        what = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        raise TaskError(what, where=f"{path}:{line}", do="save the file as UTF-8") from None


def read_jsonl(raw: bytes, path: Path) -> list[Row]:
    """One JSON object a line; blank lines are passed over."""
    # not splitlines(): U+2028 and its like may stand inside a JSON string
    lines = decode(raw, path).split("\n")
    return [(parse_object(line, f"{path}:{n}"), n) for n, line in enumerate(lines, 1) if line.strip()]


def parse_object(line: str, where: str) -> dict[str, Any]:
    """The JSON object of one line."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"broken JSON: {error.msg} at column {error.colno}"
        raise TaskError(what, where=where, do="write one JSON object a line") from None
    return whole(row, line, where)


def whole(row: Any, source: str, where: str) -> dict[str, Any]:
    """The row, checked to be an object and free of half surrogate pairs, which no tokenizer takes."""
    if not isinstance(row, dict):
        raise TaskError(f"a row is a JSON object, not {type(row).__name__}", where=where, do='write {"text": ...}')
    if "\\ud" not in source and "\\uD" not in source:
        return row
    clean: dict[str, Any] = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    if clean != row:
        warnings.warn(f"{where}: half a surrogate pair was read as '?'", stacklevel=2)
    return clean


def read_json(raw: bytes, path: Path) -> list[Row]:
    """A list of objects, or an object whose "data" is such a list."""
    text = decode(raw, path)
    try:
        return list(json_rows(text, path))
    except json.JSONDecodeError as error:
        raise TaskError(f"broken JSON: {error.msg}", where=f"{path}:{error.lineno}", do="repair the file") from None


def json_rows(text: str, path: Path) -> Iterator[Row]:
    """The list's objects with their lines; json.loads would give no lines."""
    json.loads(text)
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    at = start_of_list(text, decoder, path)
    while text[at] != "]":
        line, counted = line + text.count("\n", counted, at), at
        row, end = decoder.raw_decode(text, at)
        yield whole(row, text[at:end], f"{path}:{line}"), line
        at = skip(text, end, ",")


def start_of_list(text: str, decoder: json.JSONDecoder, path: Path) -> int:
    """Where the first row of a JSON file (known to be sound) stands."""
    at = skip(text, 0, "")
    if text[at] == "[":
        return skip(text, at + 1, "")
    at = skip(text, at, "{")
    while text[at : at + 1] == '"':
        key, at = decoder.raw_decode(text, at)
        at = skip(text, at, ":")
        if key == "data" and text[at] == "[":
            return skip(text, at + 1, "")
        at = skip(text, decoder.raw_decode(text, at)[1], ",")
    raise TaskError("no list of rows", where=path, do='write a list of objects, or {"data": [...]}')


def skip(text: str, at: int, mark: str) -> int:
    """The next place that is neither white space nor the mark."""
    while text[at : at + 1] and text[at] in " \t\r\n" + mark:
        at += 1
    return at


def read_csv(raw: bytes, path: Path) -> list[Row]:
    """Comma-separated, quoted as RFC 4180 has it."""
    return delimited(decode(raw, path), path, ",", csv.QUOTE_MINIMAL)


def read_tsv(raw: bytes, path: Path) -> list[Row]:
    """Tab-separated, quoted or not."""
    text = decode(raw, path)
    try:
        return delimited(text, path, "\t", csv.QUOTE_MINIMAL)
    except TaskError as quoted:
        try:
            rows = delimited(text, path, "\t", csv.QUOTE_NONE)
        except TaskError:
            raise quoted from None
    warnings.warn(f"{path}: its quotes do not pair, so they were read as plain characters", stacklevel=2)
    return rows


def delimited(text: str, path: Path, delimiter: str, quoting: Any) -> list[Row]:
    """Rows of a csv or tsv text; the first line names the columns."""
    with long_fields():
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        rows = numbered(lines, path)
        header, line = next(rows)
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise TaskError(f"column {twice!r} stands twice", where=f"{path}:{line}", do="rename one of them")
        return [(named(header, values, f"{path}:{line}"), line) for values, line in rows]


def numbered(lines: Any, path: Path) -> Iterator[tuple[list[str], int]]:
    """The rows of a csv reader that are not blank, each with the line it starts on."""
    start = 1
    try:
        for values in lines:
            if values:
                yield values, start
            start = lines.line_num + 1
    except csv.Error as error:
        do = 'double the quotes inside a field, and put it in quotes: "a ""b"" c"'
        raise TaskError(f"broken row ({error})", where=f"{path}:{start}", do=do) from None


def named(header: list[str], values: list[str], where: str) -> dict[str, Any]:
    """A row by column names; ragged rows are an error."""
    if len(values) != len(header):
        what = f"the row has {len(values)} fields, the header has {len(header)}"
        raise TaskError(what, where=where, do="put fields that hold the delimiter or a newline in quotes")
    return dict(zip(header, values, strict=True))


@contextmanager
def long_fields() -> Iterator[None]:
    """Lets csv read fields of any length; its limit is one for the whole process, so it is put back."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def read_parquet(raw: bytes, path: Path) -> list[Row]:
    """Apache Parquet, by pyarrow."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(raw))
    except (pyarrow.ArrowException, OSError) as error:
        what = f"not a parquet file ({str(error).splitlines()[0]})"
        raise TaskError(what, where=path, do="write or download it again") from None
    return [(row, n) for n, row in enumerate(table.to_pylist(), 1)]


READERS: dict[str, Callable[[bytes, Path], list[Row]]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
}
