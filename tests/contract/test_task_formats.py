"""Exports of labelling tools and files of benchmarks are recognised by their content, said, and read as a task."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from exports import CASES, EU, EU_TEXT, choices, lines, prodigy, studio
from promptgraft.errors import TaskError
from promptgraft.task.formats.all import FORMATS
from promptgraft.task.load import load_task, read_inputs
from promptgraft.task.readers import read_table
from promptgraft.task.task import Example, Task


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_recognised_said_and_read(name: str, tmp_path: Path) -> None:
    file, content, kind, rows, notes = CASES[name]
    (tmp_path / file).write_text(content, encoding="utf-8", newline="")
    task = load_task(tmp_path / file)
    assert (task.kind, Counter(example for split in task.splits.values() for example in split)) == (kind, Counter(rows))
    assert any("read as " in note for note in task.notes)
    for note in notes:
        assert any(said == note or said == f"{file}: {note}" for said in task.notes), (note, task.notes)


@pytest.mark.parametrize("name", CASES)
def test_the_same_file_can_be_labelled(name: str, tmp_path: Path) -> None:
    file, content, kind, _, _ = CASES[name]
    (tmp_path / file).write_text(content, encoding="utf-8", newline="")
    task = load_task(tmp_path / file)
    table = read_inputs(tmp_path / file, task)
    assert table.rows
    assert any("read as " in note for note in table.notes)
    assert task.kind == kind


def test_every_format_has_a_case(tmp_path: Path) -> None:
    seen = set()
    for file, content, *_ in CASES.values():
        (tmp_path / file).write_text(content, encoding="utf-8", newline="")
        notes = read_table(tmp_path / file).notes
        seen |= {name for name in FORMATS if any(f"read as {name}" in note for note in notes)}
    assert seen | {"BRAT (.txt with .ann)"} == set(FORMATS)


def test_brat_documents(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(EU_TEXT + "\n\nNew York, New York\n")
    (tmp_path / "one.ann").write_text(
        "T1\tORG 0 2\tEU\nT2\tMISC 13 19\tGerman\nR1\tof Arg1:T1 Arg2:T2\n#1\tAnnotatorNotes T1\tsure\n"
        "T3\tLOC 26 34\tNew York\nT4\tLOC 36 39;40 44\tNew York\n"
    )
    york = Example(tokens=("New", "York", ",", "New", "York"), label=("B-LOC", "I-LOC", "O", "O", "O"))
    for path in (tmp_path / "one.txt", tmp_path / "one.ann"):
        task = load_task(path)
        assert (task.kind, set(task.train + task.test)) == ("tagging", {EU, york})
        assert f"{path.name}: marks of several parts, left out: 1" in task.notes
        assert f"{path.name}: relations, events, attributes and notes, not used: 2" in task.notes
    (tmp_path / "two.txt").write_text("Nothing here\n")
    (tmp_path / "two.ann").write_text("")
    task = load_task(tmp_path)
    assert "2 documents read as BRAT (.txt with .ann)" in task.notes
    assert sum(map(len, task.splits.values())) == 3
    (tmp_path / "one.ann").write_text("T1\tORG 3 5\tEU\n")
    with pytest.raises(TaskError, match=r"one\.ann:1: it marks 'EU', where the text has 're'"):
        load_task(tmp_path / "one.txt")


def test_split_files_of_plain_lines(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("".join(f"__label__{'ab'[n % 2]} text {n}\n" for n in range(10)))
    (tmp_path / "test.txt").write_text("__label__a text x\n")
    task = load_task(tmp_path)
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 10, "test": 1}


def test_names_of_class_numbers_from_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    tags = {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "Sequence"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features | {"tags": tags}}})}
    rows = [{"text": f"t{n}", "label": (0, 1, -1)[n % 3], "tags": [n % 2]} for n in range(9)]
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    task = load_task(tmp_path / "a.parquet", text="text")
    assert (task.kind, task.classes) == ("classification", ("no", "yes"))
    assert "a.parquet: names for the numbers of 'label', 'tags' from a.parquet" in task.notes
    assert "train: 3 rows without a label, left out" in task.notes
    assert read_table(tmp_path / "a.parquet").rows[1][0]["tags"] == ["B-X"]


def test_names_of_class_numbers_from_dataset_info(tmp_path: Path) -> None:
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": features}))
    (tmp_path / "train-00000-of-00001.jsonl").write_text(lines([{"text": f"t{n}", "label": n % 2} for n in range(10)]))
    task = load_task(tmp_path)
    assert task.classes == ("no", "yes")
    assert "train-00000-of-00001.jsonl: names for the numbers of 'label' from dataset_info.json" in task.notes
    (tmp_path / "train-00000-of-00001.jsonl").rename(tmp_path / "train.jsonl")
    (tmp_path / "train.jsonl").write_text(lines([{"text": "x", "label": 0}, {"text": "y", "label": 7}]))
    with pytest.raises(TaskError, match=r"train\.jsonl:2: class 7 has no name \(2 are known\)"):
        load_task(tmp_path)


def test_marks_that_cut_words_overlap_or_lie_outside(tmp_path: Path) -> None:
    labels = [[0, 3, "A"], [2, 5, "B"], [6, 9, "A"], [9, 99, "A"], [5, 5, "A"]]
    (tmp_path / "a.jsonl").write_text(lines([{"text": "prefix word", "label": labels}, {"text": "x", "label": []}]))
    task = load_task(tmp_path / "a.jsonl")
    assert task.train[0] == Example(tokens=("pre", "fix", "wo", "rd"), label=("B-A", "O", "B-A", "O"))
    assert "a.jsonl: marks that overlap another, left out: 1" in task.notes
    assert "a.jsonl: marks outside of their text, or of nothing, left out: 2" in task.notes


def test_what_is_named_decides_over_a_format(tmp_path: Path) -> None:
    rows = [{"word": "bank", "sentence1": f"a{n}", "sentence2": "b", "label": n % 2} for n in range(10)]
    (tmp_path / "a.jsonl").write_text(lines(rows))
    assert load_task(tmp_path / "a.jsonl", text="sentence1", pair="sentence2").train[0].text.startswith("a")
    assert load_task(tmp_path / "a.jsonl").train[0].text.startswith("bank: a")


def test_another_question_of_label_studio_can_be_named(tmp_path: Path) -> None:
    tasks = [studio(f"t{n}", {"result": choices("good" if n % 2 else "bad")["result"]
             + choices("yes" if n % 3 else "no", question="urgent")["result"]}) for n in range(12)]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    assert load_task(tmp_path / "a.json").classes == ("bad", "good")
    assert load_task(tmp_path / "a.json", label="urgent").classes == ("no", "yes")


def test_a_damaged_row_of_an_export_is_named(tmp_path: Path) -> None:
    broken = {
        "id": 2,
        "data": {"text": "x"},
        "annotations": [{"result": [{"type": "choices", "from_name": "sentiment"}]}],
    }
    (tmp_path / "a.json").write_text(json.dumps([studio("fine", choices("good")), broken], indent=0))
    with pytest.raises(TaskError, match=r"a\.json:\d+: a row that is not like the others \(KeyError: 'value'\)"):
        load_task(tmp_path / "a.json")


def test_an_export_without_a_usable_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines([prodigy("x", "ignore", label="a"), prodigy("y", "ignore", label="b")]))
    with pytest.raises(TaskError, match=r"no row is left \(rows that were ignored, left out: 2\)"):
        load_task(tmp_path / "a.jsonl")


def test_rows_to_predict_need_no_annotations(tmp_path: Path) -> None:
    task = Task("t", "classification", "accuracy", {"a": "a", "b": "b"}, {}, columns={"text": "text", "label": "mood"})
    (tmp_path / "a.json").write_text(json.dumps([studio("fine"), studio("poor")]))
    assert [row["text"] for row, _ in read_inputs(tmp_path / "a.json", task).rows] == ["fine", "poor"]
