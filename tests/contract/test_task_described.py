"""A task of which the labels are known and no row has one: they are declared, and the texts stay unlabelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptgraft import api
from promptgraft.errors import PromptgraftError, RunError, TaskError
from promptgraft.model.load import load_backbone
from promptgraft.task.load import load_task
from toys import tiny_model

WAY = "--label-column"
LABELS = {"praise": "the film was good", "complaint": "the plot was poor"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.txt", "good\nbad, bad\nfine\n"),
        ("t.csv", 'text\ngood\n"bad, bad"\nfine\n'),
        ("t.csv", 'text,label\ngood,\n"bad, bad",\nfine,\n'),
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


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("channel", ("mail", "phone")),
        ("note", ("", "", "", "seen")),
        ("urgent", ("0", "1")),
        ("page", ("1", "2", "3")),
        ("kinds", ("a|b", "b", "a|c", "c")),
    ],
)
def test_a_column_that_holds_no_declared_label_is_not_the_label(
    column: str, values: tuple[str, ...], tmp_path: Path
) -> None:
    path, table = tmp_path / "t.csv", [(f"text number {n}", values[n % len(values)]) for n in range(20)]
    path.write_text(f"id,text,{column}\n" + "".join(f"{n},{text},{value}\n" for n, (text, value) in enumerate(table)))
    frame = [{"text": text, column: value} for text, value in table]
    for task in (load_task(path, labels=LABELS), load_task(frame, labels=LABELS)):
        assert [row.text for row in task.splits["unlabelled"]] == [text for text, _ in table]
        assert f"column {column!r} holds no declared label and is not read; if it is the label: {WAY}" in task.notes


def test_columns_of_0_and_1_are_labels_where_these_are_declared() -> None:
    rows = [{"text": f"text {n}", "urgent": n % 2, "seen": n % 3 == 0} for n in range(20)]
    assert set(load_task(rows, labels=LABELS).splits) == {"unlabelled"}
    assert load_task(rows, labels={"urgent": "now", "seen": "known"}).kind == "multilabel"


def test_a_column_of_declared_labels_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    verdicts = ("praise", "complaint", "Praise")
    path.write_text("text,channel,verdict\n" + "".join(f"text {n},{n % 2},{verdicts[n % 3]}\n" for n in range(20)))
    with pytest.raises(TaskError, match=r"the label '0' is not declared .*; or name another label than 'channel'"):
        load_task(path, labels=LABELS)
    with pytest.raises(TaskError, match="the label 'Praise' is not declared"):
        load_task(path, labels=LABELS, label="verdict")


def test_a_label_that_is_not_declared_is_said_with_its_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,rating\n" + "".join(f"text {n},{n % 5}\n" for n in range(20)))
    with pytest.raises(TaskError) as caught:
        load_task(path, labels=LABELS)
    assert caught.value.line.endswith("; or name another --label-column than 'rating', or take that out")


@pytest.mark.parametrize(
    ("filled", "trained"), [({0: "praise"}, 0), ({3: "praise", 4: "praise"}, 0), ({0: "praise", 3: "complaint"}, 2)]
)
def test_rows_that_no_one_has_labelled_yet_are_unlabelled(filled: dict[int, str], trained: int, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"text {n},{filled.get(n, '')}\n" for n in range(20)))
    frame = [{"text": f"text {n}", "label": filled.get(n)} for n in range(20)]
    for task in (load_task(path, labels=LABELS), load_task(frame, labels=LABELS)):
        if trained:
            assert len(task.train) == trained
            assert f"train: {20 - trained} rows without a label, left out" in task.notes
        else:
            assert len(task.splits["unlabelled"]) == 20
            count = "1 row" if len(filled) == 1 else "2 rows"
            assert f"{count} labelled 'praise' (column 'label') not used: no row has another label" in task.notes


def test_a_table_of_texts_and_declared_labels_are_a_task() -> None:
    task = load_task([{"text": "good"}, {"text": "bad"}], labels=LABELS)
    assert [row.text for row in task.splits["unlabelled"]] == ["good", "bad"]
    assert "no labels in data: 2 texts are unlabelled" in task.notes


@pytest.mark.parametrize("labels", [["praise", "complaint"], {"praise": None, "complaint": " "}])
def test_labels_without_a_description_mean_their_names_which_is_said(labels: Any) -> None:
    task = load_task([{"text": "good"}], labels=labels)
    assert dict(task.labels) == {"praise": "praise", "complaint": "complaint"}
    assert "no labels in data: 1 text is unlabelled" in task.notes
    assert "no description of 'praise', 'complaint': read is the name" in task.notes


def test_declared_labels_that_differ_in_case_only_are_said() -> None:
    task = load_task([{"text": "good"}], labels={"praise": "good", "Praise": "very good"})
    assert "labels that differ in case only: 'praise', 'Praise'" in task.notes


def test_labels_that_are_numbers_are_declared_as_numbers() -> None:
    rows = [{"text": f"good {n}", "label": n % 2} for n in range(20)]
    assert dict(load_task(rows, labels={0: "bad", 1: "good"}).labels) == {"0": "bad", "1": "good"}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("praise", "one label only is declared"),
        ({}, "no label is declared"),
        ({"": "good", "complaint": "bad"}, "a label has no name"),
        (["praise", "praise "], "the label 'praise' is given twice"),
        (3, "labels is 3; give a dictionary, a list, a text or None"),
    ],
)
def test_labels_that_cannot_be_are_one_line(labels: Any, problem: str) -> None:
    with pytest.raises(PromptgraftError, match=problem):
        load_task([{"text": "good"}], labels=labels)


def test_texts_without_labels_and_none_declared_are_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("good\nbad\n")
    with pytest.raises(TaskError, match="of texts without labels, declare these"):
        load_task(tmp_path / "t.txt")


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


@pytest.mark.parametrize("method", ["prompt-tuning", "linear-probe", "model-tuning"])
def test_what_trains_on_labels_refuses_a_task_without_one(method: str, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    with pytest.raises(RunError, match=f"{method} needs labelled rows; label some rows, or use transfer"):
        api.tune(load_task([{"text": "good"}], labels=LABELS), backbone, method=method, steps=2)


@pytest.mark.parametrize("options", [{"method": "pot"}, {"options": {"effort": "full"}}])
def test_transfers_that_need_labels_refuse_a_task_without_one(options: Any, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    bank = api.as_bank(tmp_path / "bank", create=True)
    with pytest.raises(PromptgraftError) as caught:
        api.transfer(load_task([{"text": "good"}], labels=LABELS), backbone, bank, steps=2, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", [api.rank, api.compare])
def test_what_judges_by_labels_says_what_does_without(verb: Any, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    bank = api.as_bank(tmp_path / "bank", create=True)
    with pytest.raises(RunError, match="by labelled rows, and there are none; label some rows, or use transfer"):
        verb(load_task([{"text": "good"}], labels=LABELS), backbone, bank)


def test_descriptions_that_read_the_same_are_refused(tmp_path: Path) -> None:
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    bank = api.as_bank(tmp_path / "bank", create=True)
    task = load_task([{"text": "good"}], labels={"praise": "the same", "complaint": "The same"})
    with pytest.raises(RunError, match="the descriptions of 'praise' and 'complaint' read the same to the model"):
        api.transfer(task, backbone, bank)
