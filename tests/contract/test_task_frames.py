"""Tables in memory are tasks: pandas, polars, pyarrow, `datasets`, lists of dictionaries, and splits of these."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow
import pytest

from promptgraft.errors import PromptgraftError, TaskError
from promptgraft.task.load import load_task
from promptgraft.task.task import Example, Task

ROWS = [{"id": n, "review": f"text {n:02}", "label": ("bad", "good")[n % 2]} for n in range(24)]


def dataset(rows: list[dict[str, Any]]) -> Any:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    return datasets.Dataset.from_list(rows)


def odd_index(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=[f"row {7 * n % 24}" for n in range(len(rows))])


def categories(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.assign(label=frame["label"].astype("category"), review=frame["review"].astype("string"))


TABLES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "list": list,
    "tuple": tuple,
    "pandas": pd.DataFrame,
    "pandas, odd index": odd_index,
    "pandas, categories": categories,
    "pandas on arrow": lambda rows: pd.DataFrame(rows).convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.DataFrame,
    "polars, categories": lambda rows: pl.DataFrame(rows).with_columns(pl.col("label").cast(pl.Categorical)),
    "pyarrow": pyarrow.Table.from_pylist,
    "datasets": dataset,
}


def rows(task: Task) -> list[Example]:
    return sorted((row for split in task.splits.values() for row in split), key=lambda row: row.text)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_the_task_that_its_file_is(name: str, tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "data.csv", index=False)
    task, file = load_task(TABLES[name](ROWS)), load_task(tmp_path / "data.csv")
    assert task.fingerprint == file.fingerprint
    assert (task.name, task.columns) == ("data", {"text": "review", "label": "label"})
    assert load_task(TABLES[name](ROWS), name="reviews", text="review", label="label").name == "reviews"


@pytest.mark.parametrize("name", TABLES)
def test_several_labels_are_lists_or_joined(name: str) -> None:
    if "categories" in name:
        pytest.skip("a category is one value")
    sets = [["bad"], ["good", "urgent"], [], ["bad", "urgent"]] * 6
    lists = [{"text": f"text {n:02}", "label": labels} for n, labels in enumerate(sets)]
    joined = [{"text": f"text {n:02}", "label": "|".join(labels)} for n, labels in enumerate(sets)]
    expected = [Example(f"text {n:02}", label=tuple(labels)) for n, labels in enumerate(sets)]
    assert rows(load_task(TABLES[name](lists))) == expected
    assert rows(load_task(TABLES[name](joined))) == expected, "an empty text is a row that no label fits"
    new = [*joined, {"text": "text 99", "label": None}]
    assert rows(load_task(TABLES[name](new))) == expected, "a missing one is a row that no one has labelled"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_rows_without_a_label_are_left_out_and_said(missing: Any) -> None:
    frame = pd.DataFrame([*ROWS, {"id": 99, "review": "new", "label": None}])
    frame["label"] = frame["label"].astype(object)
    frame.loc[24, "label"] = missing
    task = load_task(frame)
    assert rows(task) == rows(load_task(ROWS))
    assert "train: 1 row without a label, left out" in task.notes


def test_numbers_of_numpy_are_numbers() -> None:
    frame = pd.DataFrame({"text": [f"text {n:02}" for n in range(24)], "score": [n / 7 for n in range(24)]})
    task = load_task(frame)
    assert task.kind == "regression"
    assert rows(task)[3].label == pytest.approx(3 / 7)
    whole = load_task(pd.DataFrame({"text": frame["text"], "label": [n % 3 for n in range(24)]}))
    assert (whole.kind, whole.classes) == ("classification", ("0", "1", "2"))


BOOLEANS = [{"text": f"text {n:02}", "label": n % 2 == 0} for n in range(24)]


@pytest.mark.parametrize("labels", [{True: "yes", False: "no"}, {"True": "yes", "False": "no"}, {"true": "yes"}])
@pytest.mark.parametrize("form", ["csv", "jsonl", "pandas", "list"])
def test_truth_values_meet_however_they_are_written(labels: dict[Any, str], form: str, tmp_path: Path) -> None:
    labels = labels if len(labels) == 2 else {**labels, "false": "no"}
    frame, path = pd.DataFrame(BOOLEANS), tmp_path / f"t.{form}"
    frame.to_csv(path, index=False) if form == "csv" else frame.to_json(path, orient="records", lines=True)
    data = {"csv": path, "jsonl": path, "pandas": frame, "list": BOOLEANS}[form]
    task = load_task(data, labels=labels)
    assert list(task.labels.values()) == ["yes", "no"]
    assert {row.label for row in rows(task)} == set(task.labels)


def test_splits_of_two_spellings_meet() -> None:
    texts = [{"text": row["text"], "label": str(row["label"])} for row in BOOLEANS]
    task = load_task({"train": texts, "test": BOOLEANS})
    assert task.classes == ("False", "True")
    assert {row.label for row in task.test} == {"False", "True"}
    numbers = [{"text": row["text"], "label": f"{int(row['label'])}.0"} for row in BOOLEANS]
    halves = [{"text": row["text"], "label": float(row["label"])} for row in BOOLEANS]
    assert {row.label for row in load_task({"train": numbers, "test": halves}).test} == {"0.0", "1.0"}


@pytest.mark.parametrize("name", ["list", "pandas", "pandas on arrow", "polars", "pyarrow", "datasets"])
def test_days_are_the_labels_that_a_file_has(name: str) -> None:
    days = [datetime(2024, 1, 1 + n % 2) for n in range(24)]
    table = TABLES[name]([{"text": f"text {n:02}", "label": day} for n, day in enumerate(days)])
    assert load_task(table).classes == ("2024-01-01", "2024-01-02")


def test_a_time_of_a_day_stays_in_its_label() -> None:
    rows = [{"text": f"text {n:02}", "label": datetime(2024, 1, 1, n % 2)} for n in range(24)]
    assert load_task(rows).classes == ("2024-01-01", "2024-01-01 01:00:00")


def test_names_of_class_labels() -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    label = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    columns = {"text": [f"text {n:02}" for n in range(9)], "label": [0, 1, 0, 1, 0, 1, 0, 1, -1]}
    task = load_task(datasets.Dataset.from_dict(columns, features=features))
    assert rows(task) == [Example(f"text {n:02}", label=("no", "yes")[n % 2]) for n in range(8)]
    assert "data: names for the numbers of 'label' from its features" in task.notes


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("training", "dev", "test")])
def test_splits_by_name(names: tuple[str, str, str]) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    parts = dict(zip(names, (ROWS[:12], ROWS[12:18], ROWS[18:]), strict=True))
    for splits in (
        parts,
        {name: pd.DataFrame(part) for name, part in parts.items()},
        datasets.DatasetDict({name: dataset(part) for name, part in parts.items()} | {"unsupervised": dataset(ROWS)}),
    ):
        task = load_task(splits)
        assert [len(task.train), len(task.validation), len(task.test)] == [12, 6, 6]
        assert rows(task) == rows(load_task(ROWS))
    assert "splits that are not used: 'unsupervised'" in task.notes
    del splits["unsupervised"], splits[names[1]]
    assert "validation" not in load_task(splits).splits


@pytest.mark.parametrize("table", ["pandas", "csv"])
def test_splits_by_a_column(table: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS).assign(Split=["train"] * 12 + ["dev"] * 6 + ["test"] * 6)
    frame.to_csv(tmp_path / "data.csv", index=False)
    data = frame if table == "pandas" else tmp_path / "data.csv"
    task = load_task(data)
    assert [len(task.train), len(task.validation), len(task.test)] == [12, 6, 6]
    assert "split by the column 'Split': 12 train, 6 validation, 6 test rows" in task.notes
    assert not any("'Split'" in note for note in task.notes if note.startswith("columns"))


@pytest.mark.parametrize("values", [["train", "other"], ["test", "dev"]])
def test_a_column_called_split_that_says_something_else_is_a_column(values: list[str]) -> None:
    task = load_task(pd.DataFrame(ROWS).assign(split=values * 12))
    assert len(rows(task)) == 24
    assert not any(note.startswith("split by") for note in task.notes)


def test_an_export_in_memory_is_recognised() -> None:
    marks = [{"id": n, "data": {"text": f"text {n}"}, "annotations": []} for n in range(12)]
    for n, row in enumerate(marks):
        value = {"choices": [("bad", "good")[n % 2]]}
        row["annotations"] = [{"result": [{"from_name": "mood", "type": "choices", "value": value}]}]
    task = load_task(marks)
    assert (task.kind, task.classes) == ("classification", ("bad", "good"))
    assert "data: read as Label Studio JSON" in task.notes


def test_descriptions_are_given_beside_the_table() -> None:
    task = load_task(ROWS, labels={"good": "it is praised", "bad": "it is blamed"})
    assert task.labels == {"good": "it is praised", "bad": "it is blamed"}


@pytest.mark.parametrize(
    ("data", "columns", "message"),
    [
        (pd.DataFrame(ROWS), {"text": "reviw"}, "data: no column 'reviw'; did you mean 'review'? Name it with text"),
        (pd.DataFrame(ROWS), {"label": "lable"}, "data: no column 'lable'; did you mean 'label'? Name it with label"),
        ([], {}, "data: the table has no rows; give one with at least one row"),
        (pd.DataFrame(), {}, "data: the table has no rows; give one with at least one row"),
        ({}, {}, "data: no train split; its splits: none"),
        ({"test": ROWS}, {}, "data: no train split; its splits: 'test'"),
        ({"train": []}, {}, "data: no train split; its splits: 'train'"),
        (3, {}, "data: a int is no table; give a file, a table (pandas, polars, pyarrow, datasets) or a list of "),
        (None, {}, "data: a NoneType is no table; give a file, "),
        (["a text"], {}, "data:0: a row is a str, not a dictionary; give a file, "),
        ([{"text": ["x"], "label": "a"}, {"text": "y", "label": "b"}], {"kind": "classification"},
         "data:0: column 'text' holds a list, not a text; give a text"),
        (pd.DataFrame([["a", "x", "b"]], columns=["text", "label", "text"]), {},
         "data: column 'text' stands twice; rename one of them"),
    ],
)  # fmt: skip
def test_what_is_no_table_has_its_one_line(data: Any, columns: dict[str, str], message: str) -> None:
    with pytest.raises(TaskError) as caught:
        load_task(data, **columns)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [iter(ROWS), object(), {"train": 3}, [[1, 2]], {"a", "b"}, b"text", [{}], [{1: 2}]])
def test_every_error_is_ours(data: Any) -> None:
    with pytest.raises(PromptgraftError) as caught:
        load_task(data)
    assert "\n" not in str(caught.value)


def test_reading_a_list_imports_no_library_of_frames() -> None:
    code = (
        "import sys, promptgraft as pg; pg.load_task([{'text': f't {n}', 'label': 'ab'[n % 2]} for n in range(9)]); "
        "print([name for name in ('pandas', 'polars', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
