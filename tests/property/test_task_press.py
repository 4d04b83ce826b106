"""A press for the readers: whatever a file holds, it is a task or one line, and no row is gone without a word."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from press import press
from promptgraft.task.readers import read_table

CELL = st.lists(
    st.sampled_from(["a", "é", "北京", " ", '"', "'", ",", ";", "\t", "|", "\u2028", "\x85", "\\", "sep=;", "#", "-1"]),
    max_size=5,
).map("".join)
TABLES = st.lists(st.fixed_dictionaries({"text": CELL, "label": CELL}), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("press")


def test_sixty_hostile_files(folder: Path) -> None:
    fates = [press(seed, folder) for seed in range(60)]
    assert sum(fate.endswith(" rows") for fate in fates) > 10
    assert sum(str(folder) in fate for fate in fates) > 10


@pytest.mark.slow
def test_a_thousand_hostile_files(folder: Path) -> None:
    fates = [press(seed, folder) for seed in range(1000)]
    assert all(fate.endswith(" rows") or str(folder) in fate for fate in fates), "a task, or a line that names the file"


@settings(max_examples=60, deadline=None)
@given(
    table=TABLES,
    delimiter=st.sampled_from(",;\t|"),
    ending=st.sampled_from(["csv", "tsv"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    end=st.sampled_from(["\n", "\r\n"]),
    told=st.booleans(),
    header=st.booleans(),
)
def test_every_cell_of_every_dialect_comes_out_as_it_went_in(
    folder: Path,
    table: list[dict[str, str]],
    delimiter: str,
    ending: str,
    encoding: str,
    end: str,
    told: bool,
    header: bool,
) -> None:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["text", "label"], delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    if header:
        writer.writeheader()
    writer.writerows(table)
    path = folder / f"table.{ending}"
    first = f"sep={delimiter}{end}" if told or not header else ""
    path.write_bytes((first + out.getvalue()).encode(encoding))
    found = read_table(path, header=header)
    names = ("text", "label") if header else ("column_1", "column_2")
    assert [tuple(row[name] for name in names) for row, _ in found.rows] == [(r["text"], r["label"]) for r in table]


@settings(max_examples=60, deadline=None)
@given(table=TABLES, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]), listed=st.booleans(),
       ending=st.sampled_from(["json", "jsonl"]))  # fmt: skip
def test_every_object_of_json_comes_out_as_it_went_in(
    folder: Path, table: list[dict[str, str]], encoding: str, listed: bool, ending: str
) -> None:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in table)
    path = folder / f"objects.{ending}"
    path.write_bytes((json.dumps(table) if listed else lines).encode(encoding))
    if ending == "json" and not listed and len(table) == 1:
        return  # one object is no list of rows
    assert [row for row, _ in read_table(path).rows] == table
