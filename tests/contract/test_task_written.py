"""Tasks whose answers are texts: their columns, references, metrics, draws, and what is said of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft import api
from promptgraft.errors import RunError, TaskError
from promptgraft.task.load import load_task, read_texts
from promptgraft.task.sampling import cap, few_shot, within
from promptgraft.task.task import Example, References
from toys import tiny_model, toy_task

ROWS = [
    {"text": f"a long report number {n} on the weather", "summary": f"report number {n} in short"} for n in range(20)
]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_column_of_summaries_is_a_task_of_writing_and_that_is_said(tmp_path: Path) -> None:
    task = load_task(jsonl(tmp_path / "data.jsonl", ROWS))
    assert (task.kind, task.metric, dict(task.labels)) == ("text", "rougeL", {})
    assert task.columns == {"text": "text", "label": "summary"}
    assert "kind inferred: text (by the columns)" in task.notes
    assert "columns inferred: text = 'text', label = 'summary'" in task.notes
    assert task.train[0].label == References(
        (task.train[0].text.replace("a long ", "").replace(" on the weather", " in short"),)
    )


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": f"some text {n}", "target": ["good", "bad"][n % 2]} for n in range(20)],
        [{"text": f"some text {n}", "summary": f"words of a summary {n}", "label": n % 2} for n in range(20)],
        [{"text": f"some text {n}", "title": f"words of a title {n}", "label": n % 2} for n in range(20)],
    ],
)
def test_what_has_labels_stays_a_task_of_classes(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    assert load_task(jsonl(tmp_path / "data.jsonl", rows)).kind == "classification"


@pytest.mark.parametrize(
    ("source", "target"), [("input", "output"), ("document", "title"), ("source", "target"), ("原文", "译文")]
)
def test_a_declared_kind_finds_its_columns_by_their_usual_names(tmp_path: Path, source: str, target: str) -> None:
    rows = [{source: f"x {n}", target: f"y {n}"} for n in range(10)]
    assert load_task(jsonl(tmp_path / "data.jsonl", rows), kind="text").columns == {"text": source, "label": target}


def test_columns_that_cannot_be_told_are_one_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", [{"a": "x", "b": "y"}])
    with pytest.raises(TaskError, match="cannot tell which column holds the text to be written"):
        load_task(path, kind="text")
    assert load_task(path, kind="text", text="a", label="b").train[0] == Example("x", label=References(("y",)))


def test_several_references_come_from_a_list_or_from_a_column_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"source": "a", "target": "one", "references": ["one", "two", " ", "two"]},
        {"source": "b", "target": ["three", "four"]},
        {"source": "c", "target": "five", "references": None},
        {"source": "d", "target": 6},
    ]
    jsonl(tmp_path / "train.jsonl", rows)
    jsonl(tmp_path / "test.jsonl", rows[2:])
    task = load_task(tmp_path, kind="text")
    labels = [example.label.texts for example in task.train if isinstance(example.label, References)]
    assert labels == [("one", "two"), ("three", "four"), ("five",), ("6",)]
    assert "train: up to 2 references a row (1.5 on average)" in task.notes
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["source", "references"], ["a", '["one", "two"]'], ["b", "[sic] three"]])
    task = load_task(tmp_path / "a.csv", kind="text")
    assert {example.label for examples in task.splits.values() for example in examples} == {
        References(("one", "two")), References(("[sic] three",)),
    }  # fmt: skip


@pytest.mark.parametrize("value", [[], [" "], [["a"]], [True], {"a": 1}])
def test_a_row_without_a_text_to_be_written_is_one_line_with_its_place(tmp_path: Path, value: Any) -> None:
    path = jsonl(tmp_path / "data.jsonl", [{"source": "a", "target": "b"}, {"source": "a", "target": value}])
    with pytest.raises(TaskError, match=r"data\.jsonl:2: .*to be written") as caught:
        load_task(path, kind="text")
    assert "\n" not in str(caught.value)


def test_empty_targets_are_refused_and_empty_sources_said(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", [{"source": "", "target": "b"}, {"source": "a", "target": ""}])
    with pytest.raises(TaskError, match=r"data\.jsonl:2: the label \(column 'target'\) is empty"):
        load_task(path, kind="text")
    path = jsonl(
        tmp_path / "data.jsonl", [{"source": "", "target": "b"}, {"source": "a" * 10_000, "target": "c" * 10_000}]
    )
    assert any("1 row with an empty text" in note for note in load_task(path, kind="text").notes)


def test_parquet_and_frames_are_read_alike(tmp_path: Path) -> None:
    rows = [{"dialogue": f"a says {n}", "summary": [f"it is {n}", f"the number {n}"]} for n in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    read = load_task(tmp_path / "data.parquet", kind="text", name="data")
    assert read.splits == load_task(rows, kind="text").splits
    assert sum(map(len, read.splits.values())) == 4


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() not in ("", "nan", "NaN", "NAN")
)


@given(st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_whatever_is_to_be_written_comes_out_of_a_file_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, list[str]]]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    for split in ("train", "test"):
        jsonl(folder / f"{split}.jsonl", [{"source": source, "target": targets} for source, targets in pairs])
    task = load_task(folder, kind="text")
    wanted = [Example(source, label=References(tuple(dict.fromkeys(targets)))) for source, targets in pairs]
    assert list(task.train) == wanted


def test_task_toml_may_name_metrics_as_papers_do_and_what_is_not_computed_is_said(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", ROWS)
    for named, metric in (("rouge", "rougeL"), ("bleu", "bleu"), ("sari", "rougeL")):
        head = f'kind = "text2text"\nmetric = "{named}"\nsource_column = "text"\ntarget_column = "summary"\n'
        (tmp_path / "task.toml").write_text(head)
        task = load_task(tmp_path)
        assert (task.kind, task.metric) == ("text", metric)
        assert any("sari" in note for note in task.notes) is (named == "sari")
    with pytest.raises(TaskError, match="unknown metric 'sari'"):
        load_task(tmp_path, metric="sari")
    (tmp_path / "task.toml").write_text('kind = "text"\nlanguage = "ru"\n')
    assert load_task(tmp_path).metric == "chrf"


def test_language_is_part_of_the_task_where_the_metric_goes_by_it() -> None:
    task = toy_task("text")
    assert task.replace(language="zh").fingerprint != task.replace(language="en").fingerprint
    chrf = task.replace(metric="chrf")
    assert chrf.replace(language="zh").fingerprint == chrf.replace(language="en").fingerprint


def test_a_shot_is_a_row() -> None:
    task = toy_task("text")
    few, all_of = few_shot(task, 8, 0), within(task, 8, 0, validated=True)
    assert (len(few.train), len(few.validation)) == (8, 8)
    assert set(few_shot(task, 4, 0).train) <= set(few.train)
    assert len(all_of.train) + len(all_of.validation) == 8
    assert len(cap(task, "test", 5, 0).test) == 5


def test_rows_to_be_written_for_are_read_without_their_texts(tmp_path: Path) -> None:
    task = load_task(jsonl(tmp_path / "data.jsonl", ROWS))
    (tmp_path / "new.txt").write_text("one report\nanother\n", encoding="utf-8")
    assert read_texts(tmp_path / "new.txt", task) == [Example("one report"), Example("another")]


@pytest.mark.parametrize("verb", [api.tune, api.compare, partial(api.estimate, "tune")])
def test_a_model_that_does_not_generate_is_refused_in_one_line(tmp_path: Path, verb: Callable[..., Any]) -> None:
    model = tiny_model(tmp_path / "model", "bert")
    with pytest.raises(RunError, match=r"a text task needs a model that generates, and .* does not") as caught:
        verb(toy_task("text"), model)
    assert "\n" not in str(caught.value)
