"""Whatever text is in a file comes out of it as it went in, in every format."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.task.readers import read_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
AWKWARD = st.sampled_from(
    ['"', '""', ",", "\t", "\n", "\r\n", "\r", "\u2028", "\x85", "\\", "\x00", " ", "北京，", "\ufeff"]
)
FIELD = st.lists(TEXT | AWKWARD, max_size=4).map("".join)
TABLE = st.lists(st.fixed_dictionaries({"text": FIELD, "label": FIELD}), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers")


def written(path: Path, text: str, bom: bool, packed: bool) -> Path:
    raw = text.encode("utf-8-sig" if bom else "utf-8")
    if packed:
        path = path.with_name(path.name + ".gz")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    return path


def delimited(table: list[dict[str, str]], delimiter: str, ending: str) -> str:
    out = io.StringIO(newline="")
    # Python 3.11's writer leaves a lone \r unquoted where lines do not end in it
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL if ending == "\r\n" else csv.QUOTE_ALL
    writer = csv.DictWriter(out, ["text", "label"], delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


@given(TABLE, st.booleans(), st.booleans(), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_jsonl_round_trip(
    folder: Path, table: list[dict[str, str]], bom: bool, packed: bool, ending: str, escaped: bool
) -> None:
    text = ending.join(json.dumps(row, ensure_ascii=escaped) for row in table)
    rows = read_table(written(folder / "a.jsonl", text, bom, packed)).rows
    assert rows == [(row, n) for n, row in enumerate(table, 1)]


@given(TABLE, st.booleans(), st.booleans(), st.sampled_from([None, 1]), st.booleans())
def test_json_round_trip_with_the_line_of_every_row(
    folder: Path, table: list[dict[str, str]], bom: bool, packed: bool, indent: int | None, wrapped: bool
) -> None:
    content = {"version": {"data": [1]}, "data": table, "more": []} if wrapped else table
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    rows = read_table(written(folder / "a.json", text, bom, packed)).rows
    assert [row for row, _ in rows] == table
    if indent is not None:
        assert all(text.split("\n")[line - 1].strip() == "{" for _, line in rows)


@given(TABLE, st.booleans(), st.booleans(), st.sampled_from(["\n", "\r\n"]), st.sampled_from([",", "\t"]))
def test_delimited_round_trip(
    folder: Path, table: list[dict[str, str]], bom: bool, packed: bool, ending: str, delimiter: str
) -> None:
    name = "a.csv" if delimiter == "," else "a.tsv"
    rows = read_table(written(folder / name, delimited(table, delimiter, ending), bom, packed)).rows
    assert [row for row, _ in rows] == table


@given(TABLE)
def test_parquet_round_trip(folder: Path, table: list[dict[str, str]]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), folder / "a.parquet")
    assert read_table(folder / "a.parquet").rows == [(row, n) for n, row in enumerate(table, 1)]


def test_lines_are_where_rows_start(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,label\r\n"one\r\ntwo",a\r\n\r\nthree,b\r\n')
    assert [line for _, line in read_table(tmp_path / "a.csv").rows] == [2, 5]
    (tmp_path / "a.jsonl").write_text('\n{"text": "x"}\n\n{"text": "y"}\n')
    assert [line for _, line in read_table(tmp_path / "a.jsonl").rows] == [2, 4]


def test_fields_of_any_length(tmp_path: Path) -> None:
    long = "长" * 300_000
    (tmp_path / "a.csv").write_text(f"text,label\n{long},a\n", encoding="utf-8")
    limit = csv.field_size_limit()
    assert read_table(tmp_path / "a.csv").rows[0][0]["text"] == long
    assert csv.field_size_limit() == limit


def test_tsv_without_quoting_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Hello, he said\t1\n5" wide\t0\n')
    table = read_table(tmp_path / "a.tsv")
    assert table.notes == ("a.tsv: its quotes do not pair, so they were read as plain characters",)
    assert [row["text"] for row, _ in table.rows] == ['"Hello, he said', '5" wide']


def test_half_a_surrogate_pair_is_replaced_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "cut \\ud83d"}\n{"text": "whole \\ud83d\\ude00"}\n')
    table = read_table(tmp_path / "a.jsonl")
    assert table.notes == ("a.jsonl: half a surrogate pair was read as '?' in 1 row (first: line 1)",)
    assert [row["text"] for row, _ in table.rows] == ["cut ?", "whole 😀"]
