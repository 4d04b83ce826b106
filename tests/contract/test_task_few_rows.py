"""Few rows, numbers for classes, several labels a row: a task all the same, or a word on why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptgraft.task.load import load_task
from promptgraft.task.sampling import few_shot
from promptgraft.task.task import Example, Task


def table(path: Path, rows: list[tuple[str, object]], label: str = "label") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"text,{label}\n" + "".join(f"{text},{value}\n" for text, value in rows))
    return path


@pytest.mark.parametrize("rows", [1, 2])
def test_one_or_two_rows_a_class_make_a_task_without_a_test_split(rows: int, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [(f"text {n}", "ab"[n % 2]) for n in range(2 * rows)])
    task = load_task(path)
    assert {split: len(examples) for split, examples in task.splits.items()} == {"train": 2 * rows}
    assert task.test == task.validation == ()
    assert f"one file, split by seed 13: {2 * rows} train, 0 validation and 0 test rows" in task.notes
    assert "too few rows a class for a test split (three or more give one)" in task.notes


def test_a_split_without_rows_is_absent_however_the_task_was_made(tmp_path: Path) -> None:
    rows = (Example("x", label="a"),)
    task = Task("t", "classification", "accuracy", {"a": "a"}, {"train": rows, "validation": (), "test": ()})
    assert dict(task.splits) == {"train": rows}
    assert dict(few_shot(task, 0, 0).splits) == {}
    assert dict(task.replace(splits={**task.splits, "test": ()}).splits) == {"train": rows}


@pytest.mark.parametrize("content", ["", "text,label\n"])
def test_a_split_file_without_rows_is_said(content: str, tmp_path: Path) -> None:
    table(tmp_path / "t" / "train.csv", [(f"text {n}", "ab"[n % 2]) for n in range(20)])
    (tmp_path / "t" / "test.csv").write_text(content)
    task = load_task(tmp_path / "t")
    what = "the file holds no rows" if content else "the file is empty"
    assert f"test.csv: {what}, so there is no test split of it" in task.notes
    assert len(task.test) == 4


@pytest.mark.parametrize(
    ("label", "values", "kind"),
    [
        ("label", list(range(77)), "classification"),
        ("label", [n % 150 for n in range(750)], "classification"),
        ("points", [n % 150 for n in range(750)], "classification"),
        ("points", [n % 150 for n in range(300)], "regression"),
        ("label", [1900 + 37 * n for n in range(60)], "regression"),
        ("label", [n / 2 for n in range(60)], "regression"),
        ("points", list(range(77)), "regression"),
    ],
)
def test_whole_numbers_that_stand_for_classes(label: str, values: list[float], kind: str, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [(f"text {n} of it", value) for n, value in enumerate(values)], label)
    task = load_task(path)
    assert task.kind == kind
    other = "--kind regression" if kind == "classification" else "--kind classification"
    [note] = [note for note in task.notes if note.startswith("kind inferred")]
    assert other in note
    assert load_task(path, kind=other.split()[1]).kind == other.split()[1]


def test_labels_that_join_others_are_said(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [(f"text {n}", ("good", "bad", "bad|urgent")[n % 3]) for n in range(30)], "labels")
    task = load_task(path, kind="classification")
    assert task.classes == ("bad", "bad|urgent", "good")
    joined = "labels that join others are classes of their own: 'bad|urgent'; --kind multilabel reads them as several"
    assert joined in task.notes


def test_one_of_many_hot_columns(tmp_path: Path) -> None:
    lines = [f"{n},text number {n},{n % 2},{n // 2 % 2}\n" for n in range(40)]
    (tmp_path / "a.csv").write_text("id,comment_text,praise,question\n" + "".join(lines))
    task = load_task(tmp_path / "a.csv", label="praise")
    assert (task.classes, task.columns["text"]) == (("0", "1"), "comment_text")
    assert "further columns of 0 and 1 are not used: 'question'; --kind multilabel reads them as several" in task.notes


def test_tags_of_a_known_type_may_be_new(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"tokens": ["a", "b"], "tags": ["O", "B-X"]}')
    (tmp_path / "test.jsonl").write_text('{"tokens": ["a", "b"], "tags": ["B-X", "I-X"]}')
    assert load_task(tmp_path).classes == ("O", "B-X", "I-X")
    (tmp_path / "test.jsonl").write_text('{"tokens": ["a", "b"], "tags": ["B-Y", "O"]}')
    (tmp_path / "task.toml").write_text('[labels]\nX = "an x"\nY = "a y"\n')
    assert load_task(tmp_path).labels["B-Y"] == "a y"
