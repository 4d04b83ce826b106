"""What predict writes reads back as it was, in every format and for hostile cells; what cannot be is refused."""

from __future__ import annotations

import datetime
import json
import math
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.cli.values import cell, json_value
from promptgraft.cli.writing import WRITERS, check_writable, columns_of, free_name, safe, write
from promptgraft.errors import UsageError
from promptgraft.task.readers import read_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "\r",
        "\n",
        "\r\n",
        '"',
        '""',
        "a,b",
        "a\tb",
        "\ufeff",
        "=1+1",
        "-",
        "null",
        "\x00",
        "\u2028",
        "'",
        "sep=;",
    ]
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=6)
NUMBERS = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | NUMBERS | TEXT
NESTED = st.recursive(
    PLAIN, lambda part: st.lists(part, max_size=2) | st.dictionaries(NAMES, part, max_size=2), max_leaves=4
)
FROM_PARQUET = (
    st.datetimes() | st.dates() | st.times() | st.binary(max_size=4)
    | st.timedeltas(datetime.timedelta(-(10**5)), datetime.timedelta(10**5))
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000, places=2)
)  # fmt: skip


def back(rows: list[dict[str, Any]], ending: str) -> list[dict[str, Any]]:
    """Rows written and read."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"out.{ending}"
        check_writable(rows, file)
        write(rows, file)
        return [row for row, _ in read_table(file).rows]


def tables(values: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows with a text and a prediction, and columns that only some rows have."""
    extra = st.dictionaries(NAMES, values, min_size=least, max_size=3)
    row = st.tuples(TEXT, extra).map(lambda both: {"text": both[0], "prediction": "good", **both[1]})
    return st.lists(row, min_size=1, max_size=4)


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@given(data=st.data())
def test_cells_come_back_from_tables(ending: str, data: st.DataObject) -> None:
    rows = data.draw(tables(NESTED | FROM_PARQUET))
    assert back(rows, ending) == [{name: cell(row.get(name)) for name in columns_of(rows)} for row in rows]


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@given(data=st.data())
def test_values_come_back_from_json(ending: str, data: st.DataObject) -> None:
    rows = data.draw(tables(NESTED))
    assert back(rows, ending) == rows


@given(rows=tables(FROM_PARQUET | st.just(math.nan), least=1))
def test_what_json_does_not_know_is_written_as_text(rows: list[dict[str, Any]]) -> None:
    assert back(rows, "jsonl") == json_value(rows)


@given(st.one_of(*(tables(values) for values in (TEXT, NUMBERS, st.none() | st.booleans(), *FROM_PARQUET.branches))))
def test_columns_come_back_from_parquet_or_are_refused(rows: list[dict[str, Any]]) -> None:
    try:
        found = back(rows, "parquet")
    except UsageError:
        return
    assert found == [{name: row.get(name) for name in columns_of(rows)} for row in rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.timedelta(days=1, seconds=2.5), "P1DT2.5S"),
        (-datetime.timedelta(seconds=90), "-P0DT90S"),
        (Decimal("1.20"), "1.20"),
        (b"\xff\x00", "/wA="),
        ({"when": datetime.date(2024, 1, 2)}, '{"when": "2024-01-02"}'),
        ([("key", 1)], '[["key", 1]]'),
    ],
)
def test_values_have_the_text_that_is_documented(value: object, text: str) -> None:
    assert cell(value) == text


def test_what_has_no_text_is_refused_with_its_column() -> None:
    with pytest.raises(UsageError, match=r"column 'odd' cannot be written to out\.csv"):
        check_writable([{"text": "a", "odd": object()}], Path("out.csv"))
    with pytest.raises(UsageError, match="column 'mixed' is no column of parquet"):
        check_writable([{"mixed": 1}, {"mixed": "a"}], Path("out.parquet"))
    with pytest.raises(UsageError, match="column 'keys' is no column of parquet"):
        check_writable([{"keys": {"a": 1}}, {"keys": {"b": 1}}], Path("out.parquet"))


@given(st.text(max_size=8))
def test_safe_cells_are_no_formulas_and_numbers_stay(text: str) -> None:
    [row] = safe([{"text": text}])
    assert not row["text"].startswith(("=", "@", "\t", "\r"))
    assert row["text"] in (text, f"'{text}")


@pytest.mark.parametrize(
    ("text", "kept"), [("=1+1", "'=1+1"), ("-5", "-5"), ("+1.5e3", "+1.5e3"), ("-", "'-"), ("+a", "'+a"), ("@x", "'@x")]
)
def test_safe_cells(text: str, kept: str) -> None:
    assert safe([{"=x": text}]) == [{"'=x": kept}]


@given(name=NAMES, taken=st.lists(NAMES | st.sampled_from(["p", "p_2", "p_3"])))
def test_a_free_name_is_free(name: str, taken: list[str]) -> None:
    assert free_name(name, taken) not in taken
    assert free_name("p", ["p", "p_2"]) == "p_3"


def test_every_format_is_read_back() -> None:
    assert len(WRITERS) == 5
    for ending in WRITERS:
        assert json.dumps(back([{"text": "a", "n": 1}], ending)[0]["text"]) == '"a"'
