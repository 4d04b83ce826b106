"""Several labels a row, however a file writes them: lists, joined names, columns of 0 and 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promptgraft.errors import TaskError
from promptgraft.task.load import load_task, read_texts
from promptgraft.task.multilabel import inferred_separator, separator_of
from promptgraft.task.task import Example, Task

SETS = [("good",), ("bad",), ("bad", "urgent"), ("good", "urgent"), (), ("bad", "good", "urgent")] * 4


def rows(task: Task) -> list[Example]:
    """All rows in the order of their texts."""
    return sorted((row for split in task.splits.values() for row in split), key=lambda row: row.text)


def expected(sets: list[tuple[str, ...]]) -> list[Example]:
    return [Example(f"text {n:02}", label=labels) for n, labels in enumerate(sets)]


def csv(sets: list[tuple[str, ...]], joint: str, column: str = "labels") -> str:
    return f"text,{column}\n" + "".join(f'text {n:02},"{joint.join(labels)}"\n' for n, labels in enumerate(sets))


@pytest.mark.parametrize("joint", ["|", ";", ", ", " | ", "#"])
def test_joined_names_are_several_labels(joint: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv(SETS, joint))
    task = load_task(tmp_path / "a.csv")
    assert (task.kind, task.metric, task.classes) == ("multilabel", "micro_f1", ("bad", "good", "urgent"))
    assert rows(task) == expected(SETS)
    assert task.separator == joint.strip()
    [note] = [note for note in task.notes if note.startswith("kind inferred")]
    assert note == (
        f"kind inferred: multilabel (up to 3 labels a row, joined by {joint.strip()!r}; if each is a class of its own: "
        "--kind classification)"
    )
    assert any(note.endswith("rows have no label") for note in task.notes)


@pytest.mark.parametrize("joint", ["+", "/", "&"])
def test_other_joints_are_tried_where_the_kind_is_given(joint: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv([labels or ("good",) for labels in SETS], joint))
    assert load_task(tmp_path / "a.csv").kind == "classification"
    task = load_task(tmp_path / "a.csv", kind="multilabel")
    assert (task.classes, task.separator) == (("bad", "good", "urgent"), joint)


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        ({"a|b", "a", "c"}, "|"),
        ({"a, b", "b, c", "a, c"}, ","),
        ({"business, finance", "sports"}, None),
        ({"world, asia", "world, europe", "world, africa"}, None),
        ({"1,5", "2,5", "1,0", "5"}, None),
        ({"27", "2,25", "2,25,9", "9"}, ","),
        ({"R&B", "Soul", "Rock"}, None),
        ({"a|", "|", "a"}, None),
        (set(), None),
    ],
)
def test_what_shows_that_names_are_joined(labels: set[str], separator: str | None) -> None:
    assert inferred_separator(labels) == separator


def test_declared_names_decide_what_joins_them(tmp_path: Path) -> None:
    sets = [("R&B", "Soul"), ("Soul",), ("R&B",), ("Rock, hard", "Soul")] * 3
    (tmp_path / "train.csv").write_text(csv(sets, ";", "style"))
    names = {"R&B": "rhythm", "Rock, hard": "loud", "Soul": "warm", "Jazz": "free"}
    described = "".join(f"{json.dumps(name)} = {json.dumps(text)}\n" for name, text in names.items())
    (tmp_path / "task.toml").write_text(f'kind = "multilabel"\nlabel = "style"\n[labels]\n{described}')
    task = load_task(tmp_path)
    assert (dict(task.labels), task.separator) == (names, ";")
    assert rows(task) == expected(sets)
    assert "declared labels that train lacks: Jazz" in task.notes


@pytest.mark.parametrize("column", ["label", "labels", "tags", "what it is"])
@pytest.mark.parametrize("form", ["jsonl", "json in csv", "python in csv", "parquet"])
def test_lists_are_several_labels(form: str, column: str, tmp_path: Path) -> None:
    table: list[dict[str, Any]] = [{"text": f"text {n:02}", column: list(labels)} for n, labels in enumerate(SETS)]
    if form == "jsonl":
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps({**row, "more": 1}) + "\n" for row in table))
    elif form == "parquet":
        import pyarrow
        import pyarrow.parquet

        path = tmp_path / "a.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)
    else:
        path, write = tmp_path / "a.csv", json.dumps if form.startswith("json") else str
        cells = (write(row[column]).replace(chr(34), chr(34) * 2) for row in table)
        path.write_text(f"text,{column}\n" + "".join(f'text {n:02},"{cell}"\n' for n, cell in enumerate(cells)))
    task = load_task(path)
    assert (task.kind, task.separator) == ("multilabel", None)
    assert rows(task) == expected(SETS)


def test_lists_of_one_are_one_label(tmp_path: Path) -> None:
    table = [{"text": f"text {n:02}", "labels": [("a", "b")[n % 2]], "id": n} for n in range(12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    task = load_task(tmp_path / "a.jsonl")
    assert (task.kind, task.classes) == ("classification", ("a", "b"))
    assert load_task(tmp_path / "a.jsonl", kind="multilabel").train[0].label in (("a",), ("b",))


def test_columns_of_0_and_1_are_labels(tmp_path: Path) -> None:
    lines = [f"{n},text {n:02},{n % 2},{n // 2 % 2},0\n" for n in range(24)]
    (tmp_path / "train.csv").write_text("id,comment_text,praise,question,threat\n" + "".join(lines))
    (tmp_path / "test.csv").write_text("id,comment_text,praise,question,threat\n1,x,1,1,0\n2,y,-1,-1,-1\n")
    task = load_task(tmp_path)
    assert (task.kind, task.classes) == ("multilabel", ("praise", "question", "threat"))
    assert task.test == (Example("x", label=("praise", "question")),)
    assert (
        "3 columns of 0 and 1 are the labels: 'praise', 'question', 'threat' (one of them alone: --label-column)"
        in task.notes
    )
    assert "declared labels that train lacks: threat" in task.notes
    assert "test: 1 row without a label, left out" in task.notes
    assert load_task(tmp_path / "train.csv", label="praise").kind == "classification"


def test_a_label_column_beside_others_of_0_and_1_is_one_label_unless_asked(tmp_path: Path) -> None:
    lines = [f"text {n:02},{n % 2},{n // 2 % 2}\n" for n in range(24)]
    (tmp_path / "a.csv").write_text("text,label,urgent\n" + "".join(lines))
    assert load_task(tmp_path / "a.csv").kind == "classification"
    assert load_task(tmp_path / "a.csv", kind="multilabel").classes == ("label", "urgent")


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("a.jsonl", '{"review": "a", "label": ["x", "y"]}', "classification",
         "{}:1: the label is a list, not a name; give every row one label, or kind multilabel"),
        ("a.jsonl", '{"text": "a", "labels": {"x": 1}}', "multilabel",
         '{}:1: the labels are no list of names; write ["a", "b"], or [] where no label fits'),
        ("a.csv", "text,labels\na,\nb,\n", "multilabel", "{}: no row of train has a label; label some rows"),
        ("a.csv", "text,labels\na,x\nb,x\n", "multilabel",
         "{}: train has one class only ('x'); give examples of two classes or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_has_its_one_line(name: str, content: str, kind: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TaskError) as caught:
        load_task(tmp_path / name, kind=kind)
    assert str(caught.value) == message.format(tmp_path / name)


def test_an_export_of_several_labels_can_be_read_as_one_label_a_row(tmp_path: Path) -> None:
    marks = [{"text": f"text {n}", "label": [("a", "b")[n % 2]]} for n in range(8)]
    marks.append({"text": "both", "label": ["a", "b"]})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in marks))
    assert load_task(tmp_path / "a.jsonl").kind == "multilabel"
    task = load_task(tmp_path / "a.jsonl", kind="classification")
    assert (task.kind, len(rows(task))) == ("classification", 8)
    assert "train: 1 row without a label, left out" in task.notes


def test_rows_to_label_need_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv(SETS, "|"))
    task = load_task(tmp_path / "a.csv")
    (tmp_path / "new.csv").write_text("text,labels\nnew text,good|bad\n")
    (tmp_path / "new.txt").write_text("new text\n")
    assert [row.text for row in read_texts(tmp_path / "new.csv", task)] == ["new text"]
    assert read_texts(tmp_path / "new.txt", task) == [Example("new text")]


def test_what_joins_labels_in_a_cell_is_in_none_of_them() -> None:
    task = Task("t", "multilabel", "micro_f1", {"a|b": "", "c;d": ""}, {})
    assert separator_of(task) == ","
    assert separator_of(task.replace(separator="#")) == "#"
