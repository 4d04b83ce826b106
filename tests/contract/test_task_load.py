"""What a file does not say is inferred, and said; splits that are not there are made, and said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from promptgraft.errors import UsageError
from promptgraft.task.compare import overlap
from promptgraft.task.load import load_task, read_texts
from promptgraft.task.task import Answers, Example, Task


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def reviews(count: int) -> list[dict[str, Any]]:
    return [{"review": f"review number {n}", "sentiment": ("bad", "good")[n % 2]} for n in range(count)]


def test_one_file_is_inferred_and_split_by_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "shop.jsonl", reviews(100))
    task = load_task(path)
    assert (task.name, task.kind, task.metric, task.classes) == ("shop", "classification", "accuracy", ("bad", "good"))
    assert task.columns == {"text": "review", "label": "sentiment"}
    assert task.notes == (
        "columns inferred: text = 'review', label = 'sentiment'",
        "kind inferred: classification (2 different labels)",
        "labels inferred: bad, good",
        "metric: accuracy (usual for classification)",
        "one file, split by seed 13: 70 train, 10 validation and 20 test rows",
    )
    assert Counter(e.label for e in task.test) == {"bad": 10, "good": 10}
    assert load_task(path).fingerprint == task.fingerprint
    assert load_task(path, seed=14).fingerprint != task.fingerprint
    everything = [e.text for split in task.splits.values() for e in split]
    assert sorted(everything) == sorted(row["review"] for row in reviews(100))


def test_what_the_caller_names_is_not_inferred(tmp_path: Path) -> None:
    rows = [{"id": n, "a": f"text {n}", "b": f"other {n}", "c": n % 2} for n in range(40)]
    path = write(tmp_path / "x.jsonl", rows)
    task = load_task(path, kind="pair", text="b", pair="a", label="c", metric="f1", positive="1", name="mine")
    assert (task.name, task.kind, task.metric, task.positive, task.classes) == ("mine", "pair", "f1", "1", ("0", "1"))
    assert task.train[0].text.startswith("other")
    assert (task.train[0].pair or "").startswith("text")
    assert [note for note in task.notes if "columns" in note] == []


@pytest.mark.parametrize(
    ("rows", "kind", "example"),
    [
        (
            [{"premise": f"p{n}", "hypothesis": f"h{n}", "label": n % 3} for n in range(30)],
            "pair",
            Example("p0", pair="h0", label="0"),
        ),
        (
            [{"s": f"text {n}", "score": n / 7} for n in range(30)],
            "regression",
            Example("text 0", label=0.0),
        ),
        (
            [{"sentence1": f"a{n}", "sentence2": f"b{n}", "score": n * 1.1} for n in range(30)],
            "regression",
            Example("a0", pair="b0", label=0.0),
        ),
        (
            [{"essay": f"essay {n}", "points": str(n)} for n in range(30)],
            "regression",
            Example("essay 0", label=0.0),
        ),
        (
            [{"text": f"t{n}", "stars": n % 5 + 1} for n in range(30)],
            "classification",
            Example("t0", label="1"),
        ),
        (
            [{"question": f"q{n}", "options": ["yes", "no"], "answer": "no"} for n in range(30)],
            "choice",
            Example("q0", choices=("yes", "no"), label="no"),
        ),
        (
            [{"words": ["in", "Rome"], "ner_tags": ["O", "B-LOC"]} for n in range(30)],
            "tagging",
            Example(tokens=("in", "Rome"), label=("O", "B-LOC")),
        ),
        (
            [{"context": "他在重庆", "question": "?", "answers": [{"text": "重庆", "answer_start": 2}]}] * 30,
            "span",
            Example("?", pair="他在重庆", label=Answers(("重庆",), (2,))),
        ),
        (
            [{"标题": f"第{n}条", "类别": ("体育", "财经")[n % 2]} for n in range(30)],
            "classification",
            Example("第0条", label="体育"),
        ),
        (
            [{"note to self": f"a longer text {n}", "mood": "ab"[n % 2], "id": n} for n in range(30)],
            "classification",
            Example("a longer text 0", label="a"),
        ),
    ],
)
def test_kinds_are_told_by_columns_and_values(
    tmp_path: Path, rows: list[dict[str, Any]], kind: str, example: Example
) -> None:
    write(tmp_path / "t" / "train.jsonl", rows)
    write(tmp_path / "t" / "test.jsonl", rows[:4])
    task = load_task(tmp_path / "t")
    assert task.kind == kind
    assert task.train[0] == example
    assert any(note.startswith("kind inferred") for note in task.notes)


def test_declared_labels_are_classes_though_they_are_numbers(tmp_path: Path) -> None:
    rows = [{"premise": f"p{n}", "hypothesis": f"h{n}", "label": n * 1.5} for n in range(4)]
    write(tmp_path / "t" / "train.jsonl", rows)
    (tmp_path / "t" / "task.toml").write_text('[labels]\n0 = "none"\n"1.5" = "one"\n3 = "two"\n"4.5" = "three"\n')
    task = load_task(tmp_path / "t")
    assert (task.kind, task.classes) == ("pair", ("0", "1.5", "3", "4.5"))


def test_lists_may_stand_in_a_csv(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("tokens,tags\n" + "I see Rome,O O B-LOC\n" * 5)
    assert load_task(tmp_path / "tags.csv").train[0].tokens == ("I", "see", "Rome")
    (tmp_path / "choice.csv").write_text("text,choices,label\n" + 'x,"[""a b"", ""c""]",c\n' * 5)
    assert load_task(tmp_path / "choice.csv").train[0].choices == ("a b", "c")


def test_the_part_of_a_choice_question_that_has_its_own_column(tmp_path: Path) -> None:
    rows = [{"text": "It rained.", "question": "effect", "choices": ["wet", "dry"], "label": "wet"}] * 5
    assert load_task(write(tmp_path / "c.jsonl", rows)).train[0].text == "It rained.\neffect"


def test_a_test_split_without_labels_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "t" / "train.jsonl", reviews(20))
    write(tmp_path / "t" / "dev.jsonl", reviews(6))
    write(tmp_path / "t" / "test.jsonl", [{"review": "unlabelled"}] * 4)
    task = load_task(tmp_path / "t")
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 20, "test": 6}
    assert "test: no labels (column 'sentiment'), left out" in task.notes
    assert "no test split: validation is used as test" in task.notes


def test_repeats_and_empty_texts_are_notes(tmp_path: Path) -> None:
    train = [*reviews(20), {"review": "Review  NUMBER 0", "sentiment": "good"}, {"review": " ", "sentiment": "bad"}]
    write(tmp_path / "t" / "train.jsonl", train)
    write(tmp_path / "t" / "test.jsonl", [*reviews(3), {"review": "new", "sentiment": "good"}])
    notes = load_task(tmp_path / "t").notes
    assert "train: 1 row with the input of an earlier row (1 input has different labels)" in notes
    assert "3 of 4 rows of test also in train" in notes
    assert f"train: 1 row with an empty text (first: {tmp_path}/t/train.jsonl:22)" in notes


@pytest.mark.parametrize(
    ("inputs", "note"),
    [
        (1, "train: 39 rows with the input of an earlier row (1 input has different labels)"),
        (2, "train: 38 rows with the input of an earlier row (2 inputs have different labels)"),
    ],
)
def test_inputs_with_different_labels_are_counted_as_inputs(inputs: int, note: str, tmp_path: Path) -> None:
    rows = [{"text": f"text {n // 2 % inputs}", "label": "xy"[n % 2]} for n in range(40)]
    write(tmp_path / "t" / "train.jsonl", rows)
    write(tmp_path / "t" / "test.jsonl", [{"text": "another", "label": "x"}])
    assert note in load_task(tmp_path / "t").notes


def test_rows_that_are_not_as_many_as_declared_are_a_note(tmp_path: Path) -> None:
    write(tmp_path / "t" / "train.jsonl", reviews(20))
    (tmp_path / "t" / "task.toml").write_text("[rows]\ntrain = 30\n")
    assert "train: 20 rows, but task.toml says 30" in load_task(tmp_path / "t").notes


def test_numbers_and_true_false_are_names_where_they_are_classes(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "label": n % 3 == 0} for n in range(30)]
    assert load_task(write(tmp_path / "a.jsonl", rows)).classes == ("false", "true")
    rows = [{"text": f"t{n}", "label": float(n % 12)} for n in range(60)]
    assert load_task(write(tmp_path / "b.jsonl", rows)).classes == tuple(map(str, range(12)))


@pytest.mark.parametrize(
    ("labels", "count", "classes"),
    [
        (("007", "7"), 2, ("007", "7")),
        (("1", "1.0", "2", "2.00"), 4, ("1", "1.0", "2", "2.00")),
        ((1, 1.0, "1", 2), 2, ("1", "2")),
        (("good", "good ", "bad"), 2, ("bad", "good")),
    ],
)
def test_labels_are_counted_as_the_classes_that_they_become(
    labels: tuple[Any, ...], count: int, classes: tuple[str, ...], tmp_path: Path
) -> None:
    rows = [{"text": f"text {n}", "label": labels[n % len(labels)]} for n in range(40)]
    task = load_task(write(tmp_path / "t.jsonl", rows))
    assert set(task.classes) == set(classes)
    assert any(note.startswith(f"kind inferred: classification ({count} different labels") for note in task.notes)


@pytest.mark.parametrize(
    "labels",
    [
        ("Good", "good ", "bad"),
        (["Good"], ["good", "bad"], ["bad", "Good"]),
        ("Good|bad", "good", "bad|good", "Good"),
    ],
)
def test_labels_that_differ_in_case_only_are_said(labels: tuple[Any, ...], tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": labels[n % len(labels)]} for n in range(40)]
    assert "labels that differ in case only: 'Good', 'good'" in load_task(write(tmp_path / "t.jsonl", rows)).notes
    declared = load_task(tmp_path / "t.jsonl", labels=["good", "bad", "Good"])
    assert "labels that differ in case only: 'good', 'Good'" in declared.notes


def test_tags_that_differ_in_case_only_are_said(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["O", ("B-Loc", "B-LOC")[n % 2]]} for n in range(9)]
    assert "labels that differ in case only: 'B-LOC', 'B-Loc'" in load_task(write(tmp_path / "t.jsonl", rows)).notes


def test_texts_to_predict(tmp_path: Path) -> None:
    task = load_task(write(tmp_path / "train.jsonl", reviews(20)))
    (tmp_path / "new.csv").write_text("id,review,sentiment\n1,fine thing,good\n2,unknown,\n")
    assert read_texts(tmp_path / "new.csv", task) == [Example("fine thing", label="good"), Example("unknown")]
    (tmp_path / "other.csv").write_text("body\njust this\n")
    assert read_texts(tmp_path / "other.csv", task) == [Example("just this")]
    (tmp_path / "new.txt").write_bytes("first\r\n\r\n第二行\r\n".encode())
    assert read_texts(tmp_path / "new.txt", task) == [Example("first"), Example("第二行")]


def test_texts_to_predict_for_a_task_whose_columns_are_not_known(tmp_path: Path) -> None:
    task = Task("t", "tagging", "span_f1", {"O": "O"}, {})
    path = write(tmp_path / "new.jsonl", [{"tokens": ["a", "b"], "tags": None}])
    with pytest.warns(UserWarning, match="^columns inferred: text = 'tokens'$"):
        assert read_texts(path, task) == [Example(tokens=("a", "b"))]
    path = write(tmp_path / "bare.jsonl", [{"tokens": ["a", "b"]}])
    with pytest.warns(UserWarning, match="^columns inferred: text = 'tokens'$"):
        assert read_texts(path, task) == [Example(tokens=("a", "b"))]


def test_overlap_counts_long_texts_by_their_letters() -> None:
    def task(*texts: str) -> Task:
        return Task("t", "classification", "accuracy", {}, {"train": tuple(Example(text) for text in texts)})

    a = task("A rather long sentence, twice over.", "Good!", "这部电影的画面非常漂亮")
    b = task("a RATHER long sentence  twice over", "good", "这部电影的画面，非常漂亮！", "something else entirely here")
    assert overlap(a, b) == {("train", "train"): 2}
    assert overlap(a, task("nothing in common with the others")) == {}


def test_class_numbers_of_the_hub_become_names(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    tags = datasets.Sequence(datasets.ClassLabel(names=["O", "B-X"]))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")), "tags": tags})
    data = datasets.Dataset.from_dict({"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [0]]}, features=features)
    monkeypatch.setattr("promptgraft.task.tables.read_hub", lambda address: datasets.DatasetDict(train=data, test=data))
    task = load_task("hub:someone/words")
    assert [row.label for row in task.train] == [("O", "B-X"), ("O",)]
    assert (task.name, task.source) == ("words", "hub:someone/words")


def test_rows_of_the_hub_without_a_label_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"text {n}", "label": (None, "no", "yes")[n % 3]} for n in range(30)]
    monkeypatch.setattr("promptgraft.task.tables.read_hub", lambda address: {"train": rows})
    task = load_task("hub:someone/reviews")
    assert sum(map(len, task.splits.values())) == 20
    assert "train: 10 rows without a label, left out" in task.notes


def test_two_parts_of_a_hub_name_are_tried_both_ways() -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    from promptgraft.task.hub import fetch

    class Hub:
        exceptions = datasets.exceptions

        def load_dataset(self, name: str, config: str | None = None) -> tuple[str, str | None]:
            if (name, config) in {("glue", "sst2"), ("owner/set", None), ("owner/set", "part")}:
                return name, config
            raise datasets.exceptions.DatasetNotFoundError(f"no {name}")

    assert fetch(Hub(), "glue/sst2") == ("glue", "sst2")
    assert fetch(Hub(), "owner/set") == ("owner/set", None)
    assert fetch(Hub(), "owner/set/part") == ("owner/set", "part")
    with pytest.raises(datasets.exceptions.DatasetNotFoundError, match="no owner/sit"):
        fetch(Hub(), "owner/sit")


def test_importing_the_room_brings_in_nothing_heavy() -> None:
    code = (
        "import sys, promptgraft.task.load, promptgraft.task.sampling;"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'numpy', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("role", ["text", "pair", "label"])
def test_the_name_of_a_column_is_not_empty(role: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"the name of the {role} column is empty; name a column, or leave it out"):
        load_task(write(tmp_path / "reviews.jsonl", reviews(8)), **{role: ""})


@pytest.mark.parametrize(
    ("labels", "positive", "noted"),
    [(("a", "b"), None, True), (("a", "b"), "a", False), (("a", "b", "c"), None, False)],
)
def test_which_f1_is_meant_is_said_where_it_could_be_either(
    labels: tuple[str, ...], positive: str | None, noted: bool
) -> None:
    rows = [{"text": f"text {number}", "label": label} for number, label in enumerate(labels * 8)]
    task = load_task(rows, metric="f1", positive=positive)
    assert ("f1: the mean of both classes' F1, since no class is named the positive one" in task.notes) == noted
