"""Whatever labels a row has come out of a file as they went in, in every form that several labels take."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from promptgraft.errors import TaskError
from promptgraft.task.load import load_task
from promptgraft.task.multilabel import as_list, inferred_separator, parts_of, several
from promptgraft.task.task import Example, Task

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)
NAMES = st.lists(WORDS.filter(lambda name: name.lower() not in ("nan",)), min_size=2, max_size=5, unique=True)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just("[" * 300),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@st.composite
def sets_of(draw: st.DrawFn) -> tuple[list[str], list[frozenset[str]]]:
    """Names, and rows of some of them: every name alone, all of them, and whatever else."""
    names = draw(NAMES)
    more = draw(st.lists(st.frozensets(st.sampled_from(names)), max_size=8))
    return names, [*(frozenset({name}) for name in names), frozenset(names), *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


def rows(task: Task) -> list[Example]:
    return sorted((row for split in task.splits.values() for row in split), key=lambda row: row.text)


def expected(sets: list[frozenset[str]]) -> list[Example]:
    return [Example(f"text {n:02}", label=tuple(sorted(labels))) for n, labels in enumerate(sets)]


@given(sets_of(), st.booleans())
def test_lists_round_trip(folder: Path, drawn: tuple[list[str], list[frozenset[str]]], in_csv: bool) -> None:
    names, sets = drawn
    table = [{"text": f"text {n:02}", "labels": sorted(labels)} for n, labels in enumerate(sets)]
    if in_csv:
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerows([["text", "labels"], *([row["text"], json.dumps(row["labels"])] for row in table)])
        path = folder / "a.csv"
        path.write_text(out.getvalue(), encoding="utf-8", newline="")
    else:
        path = folder / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    task = load_task(path)
    assert (task.kind, set(task.classes)) == ("multilabel", set(names))
    assert rows(task) == expected(sets)


@given(sets_of(), st.sampled_from(["|", ";", ",", "#"]))
def test_joined_names_round_trip(folder: Path, drawn: tuple[list[str], list[frozenset[str]]], joint: str) -> None:
    names, sets = drawn
    assume(not any(mark in name for name in names for mark in "|;,#[]\"'"))
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([["text", "labels"], *([f"text {n:02}", joint.join(sorted(part))] for n, part in enumerate(sets))])
    (folder / "b.csv").write_text(out.getvalue(), encoding="utf-8", newline="")
    task = load_task(folder / "b.csv", kind="multilabel")
    assert (set(task.classes), task.separator) == (set(names), joint)
    assert rows(task) == expected(sets)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=12))
def test_columns_of_0_and_1_round_trip(folder: Path, table: list[list[bool]]) -> None:
    assume(any(any(row) for row in table))
    lines = [f"text {n:02}," + ",".join(str(int(flag)) for flag in row) for n, row in enumerate(table)]
    (folder / "c.csv").write_text("\n".join(["text,x,y,z", *lines]) + "\n")
    task = load_task(folder / "c.csv")
    assert task.classes == ("x", "y", "z")
    assert rows(task) == expected([frozenset(n for n, flag in zip("xyz", row, strict=True) if flag) for row in table])


@given(st.lists(ANYTHING, max_size=6))
def test_no_value_of_a_label_column_breaks_the_inference(values: list[object]) -> None:
    assert isinstance(several(values), str)
    for value in values:
        found = as_list(value)
        assert found is None or isinstance(found, list)


@given(st.frozensets(st.text(max_size=12), max_size=8))
def test_a_separator_that_is_inferred_separates(labels: frozenset[str]) -> None:
    separator = inferred_separator(labels)
    assert separator is None or any(len(parts_of(label, separator)) > 1 for label in labels)


@given(st.lists(ANYTHING, min_size=1, max_size=6))
def test_a_column_of_anything_is_read_or_has_its_one_line(folder: Path, values: list[object]) -> None:
    table = [{"text": f"text {n}", "labels": value} for n, value in enumerate(values)]
    for kind in (None, "multilabel"):
        try:
            messages = load_task(table, kind=kind).notes
        except TaskError as problem:
            messages = (str(problem),)
        assert all(len(message) < 2000 and len(message.splitlines()) == 1 for message in messages)
