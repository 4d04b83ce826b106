"""Rows to label next: unsure ones, unlike each other; what is left out is said; Label Studio can label them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import promptgraft as pg
from promptgraft.api import suggest
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.suggest import margin, order
from promptgraft.errors import RunError, UsageError
from promptgraft.method.job import Job
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.task.task import Example, Kind, Task
from promptgraft.train.recipe import Recipe
from toys import tiny_model, toy_task

RECIPE = Recipe(steps=2, batch=4, length=2, evaluations=1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


def predictor_of(backbone: Backbone, task: Task, method: str = "graft", **options: object) -> Predictor:
    engine = LocalEngine(backbone)
    job = Job(task, backbone.fingerprint, method, 0, RECIPE, options=options)
    [finished] = engine.run([job])
    return Predictor(make_artefact(finished, engine.view(job)), backbone)


@pytest.fixture(scope="module")
def predictor(backbone: Backbone) -> Predictor:
    return predictor_of(backbone, toy_task())


def pool(kind: Kind = "classification", seed: int = 3) -> list[Example]:
    rows = {(row.text, row.pair): replace(row, label=None) for row in toy_task(kind, seed=seed, train=60).train}
    known = {(row.text, row.pair) for row in toy_task(kind).train}
    return [row for key, row in rows.items() if key not in known]


@pytest.mark.parametrize("kind", ["classification", "pair", "multilabel"])
@pytest.mark.parametrize(("method", "options"), [("graft", {}), ("prompt-tuning", {"readout": "auto"})])
def test_rows_come_in_an_order_that_is_always_the_same(
    kind: Kind, method: str, options: dict[str, object], backbone: Backbone
) -> None:
    rows = pool(kind)
    predictor = predictor_of(backbone, toy_task(kind), method, **options)
    count = min(5, len(rows))
    one, other = (suggest(predictor, rows, count) for _ in range(2))
    assert one.places == other.places
    assert len(set(one.places)) == count
    assert one.rows == tuple(rows[place] for place in one.places)
    answers = predictor.answers([rows[place] for place in one.places])
    assert list(one.predictions) == answers.predictions
    assert answers.probabilities is not None
    sure = answers.probabilities.max(1)
    if kind == "multilabel":
        has = np.array([[name in names for name in predictor.classes] for names in one.predictions])
        sure = np.where(has, answers.probabilities, 1 - answers.probabilities).prod(1)
    assert np.allclose(one.probabilities, sure, atol=1e-5)


@pytest.mark.parametrize("kind", ["regression", "choice", "tagging", "span"])
def test_a_kind_without_class_probabilities_says_so(kind: Kind, backbone: Backbone) -> None:
    predictor = predictor_of(backbone, toy_task(kind), "prompt-tuning")
    with pytest.raises(RunError, match=f"a {kind} task's have none"):
        suggest(predictor, [replace(row, label=None) for row in toy_task(kind).test])


def test_what_is_left_out_is_said(predictor: Predictor) -> None:
    rows = pool()[:4]
    tuned_on = [replace(row, label=None) for row in toy_task().train[:2]]
    labelled = Example(text="a film with music", label="positive")
    silent = [Example(text=""), Example(text=" \n")]
    found = suggest(predictor, [labelled, rows[0], *rows, *tuned_on, *silent], 10)
    assert sorted(found.places) == [1, 3, 4, 5]
    notes = " ".join(found.notes)
    assert "left out: 2 rows without text" in notes
    assert "left out: 1 row with a label" in notes
    assert "left out: 1 row that came before" in notes
    assert "left out: 2 rows that it was tuned on" in notes
    assert "all there are: 4 rows, fewer than the 10 asked for" in notes


def test_a_table_keeps_its_columns(predictor: Predictor) -> None:
    pandas = pytest.importorskip("pandas")
    rows = pool()[:6]
    frame = pandas.DataFrame({"id": range(6), "text": [row.text for row in rows], "label": [None, "x", *[None] * 4]})
    found = suggest(predictor, frame, 3)
    assert all(row["text"] == rows[row["id"]].text for row in found.rows)
    assert 1 not in found.places
    assert "3 rows to label next" in repr(found)
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize(
    ("rows", "count", "error", "words"),
    [
        ([], 3, RunError, "no row is left"),
        ([Example(text="a film", label="x")], 3, RunError, "no row is left"),
        (["a film"], 0, UsageError, "ask for one row or more"),
        ([("a", "b", "c")], 2, UsageError, "row 0"),
        ([replace(toy_task().train[0], label=None)], 2, RunError, "one that it was tuned on"),
    ],
)
def test_what_cannot_be_chosen_from_is_one_line(
    rows: list[object], count: int, error: type[Exception], words: str, predictor: Predictor
) -> None:
    with pytest.raises(error, match=words):
        suggest(predictor, rows, count)


def test_label_studio_takes_the_rows_and_gives_them_back(predictor: Predictor, tmp_path: Path) -> None:
    """Tasks as written are read as unlabelled rows; annotated there, as a task."""
    rows = pool()[:12]
    found = suggest(predictor, rows, 12)
    tasks = found.label_studio()
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    assert len(suggest(predictor, file, 12).places) == 12

    view = ElementTree.fromstring(found.label_studio_interface())
    result = tasks[0]["predictions"][0]["result"][0]
    choices = view.find("Choices")
    assert choices is not None
    assert (choices.get("name"), choices.get("toName")) == (result["from_name"], result["to_name"])
    assert {choice.get("value") for choice in choices} == set(predictor.classes)
    for number, task in enumerate(tasks):
        label = predictor.classes[number % 2]
        value = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
        task["annotations"] = [{"id": number, "was_cancelled": False, "result": [value]}]
    file.write_text(json.dumps(tasks), encoding="utf-8")
    task = pg.load_task(file)
    read = {row.text: row.label for split in task.splits.values() for row in split}
    assert read == {row.text: predictor.classes[number % 2] for number, row in enumerate(found.rows)}
    with pytest.raises(RunError, match="no row is left"):
        suggest(predictor, file)


def test_label_studio_takes_rows_of_several_labels(backbone: Backbone, tmp_path: Path) -> None:
    predictor = predictor_of(backbone, toy_task("multilabel"))
    found = suggest(predictor, pool("multilabel")[:8], 8)
    tasks = found.label_studio()
    chosen = [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks]
    assert chosen == [list(names) for names in found.predictions]
    assert 'choice="multiple"' in found.label_studio_interface()
    for task in tasks:
        value = {
            "from_name": "label",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": ["negative", "positive"]},
        }
        task["annotations"] = [{"id": 1, "was_cancelled": False, "result": [value]}]
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    task = pg.load_task(file)
    assert task.kind == "multilabel"
    assert {row.label for split in task.splits.values() for row in split} == {("negative", "positive")}


def test_columns_of_another_name_are_named(predictor: Predictor, tmp_path: Path) -> None:
    texts = ["a good film", "a poor plot", "the music was slow"]
    path = tmp_path / "rows.csv"
    path.write_text("text,words\n" + "".join(f"not this,{text}\n" for text in texts))
    assert [row.text for row in suggest(predictor, path, 3, columns={"text": "words"}).examples] == [
        row.text for row in suggest(predictor, texts, 3).examples
    ]


def test_the_margin_is_between_the_first_two_classes() -> None:
    assert margin(np.array([[0.5, 0.2, 0.3], [1.0, 0.0, 0.0]])).tolist() == pytest.approx([0.2, 1.0])
    assert margin(np.array([[1.0]])).tolist() == [1.0]


def around(stream: np.random.Generator, *centres: tuple[float, float], rows: int) -> np.ndarray:
    return np.concatenate([np.array(centre) + 0.05 * stream.normal(size=(rows, 2)) for centre in centres])


def test_rows_that_say_the_same_are_asked_for_once() -> None:
    features = around(np.random.default_rng(0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0), rows=10)
    unsure = np.ones(30)
    assert {place // 10 for place in order(unsure, features, 3, 0).tolist()} == {0, 1, 2}


def test_what_it_is_sure_of_is_not_asked_for() -> None:
    features = around(np.random.default_rng(0), (0.0, 1.0), (1.0, 0.0), rows=10)
    doubt = np.repeat([0.0, 1.0], 10)
    assert all(place >= 10 for place in order(doubt, features, 3, 0).tolist())
    assert sorted(order(doubt, features, 20, 0).tolist()) == list(range(20)), "but all are given where all are wanted"


def test_rows_that_are_all_alike_are_given_all_the_same() -> None:
    doubt, features = np.full(4, 0.5), np.ones((4, 2))
    assert len(set(order(doubt, features, 3, 0).tolist())) == 3
