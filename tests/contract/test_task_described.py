"""A task of which the labels are known and no row has one: they are declared, and the texts stay unlabelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptgraft import api
from promptgraft.errors import TaskError
from promptgraft.model.load import load_backbone
from promptgraft.task.load import load_task
from toys import tiny_model

LABELS = {"praise": "a review that praises", "complaint": "a review that complains"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.txt", "good\nbad, bad\nfine\n"),
        ("t.csv", 'text\ngood\n"bad, bad"\nfine\n'),
        ("t.csv", 'id,text\n1,good\n2,"bad, bad"\n3,fine\n'),
        ("t.jsonl", '{"text": "good"}\n{"text": "bad, bad"}\n{"text": "fine"}\n'),
    ],
)
def test_a_file_of_texts_and_declared_labels_are_a_task(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    task = load_task(path, labels=LABELS)
    assert [row.text for row in task.splits["unlabelled"]] == ["good", "bad, bad", "fine"]
    assert (task.kind, dict(task.labels), set(task.splits)) == ("classification", LABELS, {"unlabelled"})
    assert f"no labels in {name}: 3 texts are unlabelled" in task.notes


def test_labels_that_rows_have_are_described(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"good {n},praise\nbad {n},complaint\n" for n in range(20)))
    task = load_task(path, labels=LABELS)
    assert dict(task.labels) == LABELS
    assert len(task.train) > 20
    with pytest.raises(TaskError, match=r"the label 'praise' is not declared"):
        load_task(path, labels={"good": "praise", "complaint": ""})


def test_one_declared_label_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("good\nbad\n")
    with pytest.raises(TaskError, match="one label only is declared"):
        load_task(path, labels={"praise": "good"})


def test_an_empty_file_of_texts_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text\n")
    with pytest.raises(TaskError, match=r"t\.csv"):
        load_task(path, labels=LABELS)


def test_it_is_transferred_without_a_row(tmp_path: Path) -> None:
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    path = tmp_path / "texts.txt"
    path.write_text("the film was good\nthe plot was poor\n")
    bank = api.as_bank(tmp_path / "bank", create=True)
    outcome = api.transfer(load_task(path, labels=LABELS), backbone, bank)
    assert outcome.best.result.method == "graft"
    assert not outcome.baselines
    assert set(outcome.predictor.predict(["the film was good", "poor"])) <= set(LABELS)
