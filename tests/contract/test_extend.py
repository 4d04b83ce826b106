"""An artefact gets classes from descriptions and rows, keeps its old ones, and says what became of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from promptgraft import api
from promptgraft.api import Extension, extend
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import ArtefactError, RunError, TaskError, UsageError
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.memory import Memory
from promptgraft.readout.direction import Directional
from promptgraft.readout.extend import SAMPLED, LabelledRows, as_linear, best_classes, refit, remembered, with_classes
from promptgraft.readout.label_text import LabelText
from promptgraft.readout.linear import Linear
from promptgraft.task.task import Example, Kind, Task
from promptgraft.train.recipe import Recipe
from toys import FILLER, tiny_model, toy_task

RECIPE = Recipe(steps=2, batch=4, length=2, evaluations=1)
DESCRIBED = toy_task().labels["positive"]
MUSIC = tuple(Example(text=f"music and {word} music", label="music") for word in FILLER[:6])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


@pytest.fixture(scope="module")
def bank(backbone: Backbone) -> tuple[Source, ...]:
    engine = LocalEngine(backbone)
    job = Job(toy_task(seed=9).replace(name="donor"), backbone.fingerprint, "prompt-tuning", 0, RECIPE)
    [finished] = engine.run([job])
    made = make_artefact(finished, engine.view(job))
    stream = torch.Generator().manual_seed(0)
    return tuple(
        Source(
            f"source {depth}",
            made.replace(prompt=initial(Init(std=0.5), backbone, 2, depth, "after_cls", stream)),  # type: ignore[arg-type]
        )
        for depth in ("deep", "shallow")
    )


def predictor_of(
    backbone: Backbone, method: str, task: Task, bank: tuple[Source, ...] = (), **options: object
) -> Predictor:
    engine = LocalEngine(backbone)
    job = Job(task, backbone.fingerprint, method, 0, RECIPE, options=options, bank=bank)
    [finished] = engine.run([job])
    return Predictor(make_artefact(finished, engine.view(job)), backbone)


@pytest.fixture(scope="module")
def grafted(backbone: Backbone, bank: tuple[Source, ...]) -> Predictor:
    predictor = predictor_of(backbone, "graft", toy_task(), bank)
    assert len(predictor.tuned.members) > 1
    return predictor


METHODS = {
    "graft": ("graft", {}),
    "linear": ("prompt-tuning", {"readout": "linear"}),
    "label text": ("prompt-tuning", {"readout": "label-text"}),
    "probe": ("linear-probe", {}),
    "label text alone": ("zero-shot", {}),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_class_comes_from_its_description_at_once(
    name: str, backbone: Backbone, bank: tuple[Source, ...], tmp_path: Path
) -> None:
    method, options = METHODS[name]
    before = predictor_of(backbone, method, toy_task(), bank if method == "graft" else (), **options)
    result = extend(before, {"music": "a scene with music"}, out=tmp_path / "kept")
    kept = api.load(tmp_path / "kept", backbone)
    assert kept.classes == (*before.classes, "music")
    assert kept.artefact.hash == result.artefact.hash
    texts = [row.text for row in toy_task().test]
    shares = kept.predict_proba(texts)
    assert np.allclose(shares.sum(1), 1, atol=1e-6)
    old = before.predict_proba(texts)
    rest = shares[:, :-1] / shares[:, :-1].sum(1, keepdims=True)
    assert np.allclose(rest, old, atol=1e-5), "a class from a description leaves the others to each other as they were"


@pytest.mark.parametrize("kind", ["classification", "pair"])
def test_rows_teach_a_class_and_leave_the_old_ones(kind: Kind, backbone: Backbone, bank: tuple[Source, ...]) -> None:
    task = toy_task(kind)
    before = predictor_of(backbone, "graft", task, bank)
    rows = tuple(replace(row, pair="music music music") if kind == "pair" else row for row in MUSIC)
    result = extend(before, {"music": "music"}, rows[:4], test=(*task.test, *rows[4:]))
    assert result.predictor.predict(list(rows[4:])) == ["music", "music"]
    assert result.scores is not None
    [*old, new] = result.changes
    assert {change.name for change in old} == set(task.classes)
    assert sum(change.to_new for change in old) <= sum(change.rows for change in old) / 4
    assert (new.name, new.rows, new.right_before, new.right_after) == ("music", 2, None, 2)


def test_later_rows_teach_more_and_nothing_is_forgotten(grafted: Predictor) -> None:
    """Three calls one after the other: a description, its rows, rows of an old class; no row is given twice."""
    task = toy_task()
    named = extend(grafted, {"music": "a scene with music"})
    taught = extend(named.predictor, (), MUSIC)
    praised = extend(taught.predictor, (), [row for row in toy_task(seed=5).train if row.label == "positive"][:6])
    assert [artefact.card.lineage[-1].hash for artefact in (named.artefact, taught.artefact, praised.artefact)] == [
        grafted.artefact.hash, named.artefact.hash, taught.artefact.hash,
    ]  # fmt: skip
    assert praised.predictor.predict(list(MUSIC)) == ["music"] * len(MUSIC)
    scores = [one.evaluate(task.test)["score"] for one in (grafted, praised.predictor)]
    assert scores[1] >= scores[0] - 10
    memory = praised.artefact.memory
    assert memory is not None
    assert memory.counts.sum() == len(task.train) + len(MUSIC) + 6


def test_rows_that_are_remembered_count_once(grafted: Predictor) -> None:
    """A file that has grown holds the rows it was tuned on; a row with another label is a correction."""
    train, alone = toy_task().train, extend(grafted, {"music": "music"}, MUSIC)
    grown = extend(grafted, {"music": "music"}, (*train, *MUSIC))
    assert f"left out: {len(train)} rows that it was tuned on" in grown.notes
    for one, other in zip(grown.artefact.readout.values(), alone.artefact.readout.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)  # features may differ by rounding in other company
    changed = replace(train[0], label="music")
    corrected = extend(grafted, {"music": "music"}, (changed, *MUSIC))
    assert "1 row that it was tuned on: the new labels replace the remembered ones" in corrected.notes
    memory, before = corrected.artefact.memory, grafted.artefact.memory
    assert isinstance(memory, Memory)
    assert isinstance(before, Memory)
    assert memory.counts.sum() == len(train) + len(MUSIC)
    assert memory.counts[-1] == 1 + len(MUSIC)
    old = [place for place in range(2) if memory.counts[place] < before.counts[place]]
    kept = memory.sample[memory.labels == old[0]].double().mean(0)
    np.testing.assert_allclose(memory.centroids[old[0]].double(), kept, atol=5e-3)


def test_nothing_but_remembered_rows_changes_nothing(grafted: Predictor) -> None:
    result = extend(grafted, {}, toy_task().train)
    assert any("left out" in note for note in result.notes)
    for one, other in zip(result.artefact.readout.values(), grafted.artefact.readout.values(), strict=True):
        assert torch.equal(one, other)


def test_the_artefact_says_what_it_was_extended_from(grafted: Predictor) -> None:
    result = extend(grafted, {"music": "a scene with music"})
    old, new = grafted.artefact.card, result.artefact.card
    assert new.task.labels == {**old.task.labels, "music": "a scene with music"}
    assert new.lineage[:-1] == old.lineage, "members keep theirs"
    assert (new.lineage[-1].role, new.lineage[-1].hash) == ("extended", grafted.artefact.hash)
    assert new.task.fingerprint != old.task.fingerprint
    assert old.scores
    assert not new.scores
    assert any("taken out" in note for note in result.notes)
    tested = extend(grafted, {"music": "music"}, test=toy_task().test).artefact.card
    assert tested.scores["test"].rows == len(toy_task().test)


def test_what_is_remembered_shows_what_changed(grafted: Predictor) -> None:
    result = extend(grafted, {"music": "a scene with music"})
    memory = grafted.artefact.memory
    assert memory is not None
    assert sum(change.rows for change in result.changes) == len(memory.labels) == len(toy_task().train)
    assert "remembered" in result.judged_on
    for change in result.changes:
        assert change.right_before is not None
        assert change.right_before - change.changed <= change.right_after <= change.right_before + change.changed
    assert "24 remembered rows" in repr(result)


def test_the_same_call_gives_the_same_bits(grafted: Predictor) -> None:
    one, other = (extend(grafted, {"music": "music"}, MUSIC) for _ in range(2))
    assert one.artefact.hash == other.artefact.hash


def test_an_artefact_that_remembers_nothing_takes_rows_of_all_classes(backbone: Backbone) -> None:
    before = predictor_of(backbone, "prompt-tuning", toy_task(), readout="label-text")
    assert before.artefact.memory is None
    with pytest.raises(RunError, match="no rows of negative, positive"):
        extend(before, {"music": "music"}, MUSIC)
    both = extend(before, {"music": "music"}, (*MUSIC, *toy_task().train))
    named = extend(before, {"music": "music"})
    taught, told = (one.predictor.predict_proba(list(MUSIC))[:, -1].mean() for one in (both, named))
    assert taught > told, "rows count"
    assert both.artefact.memory is not None
    extend(both.predictor, {"plot": "a plot"}, [("a plot plot", "plot")])


@pytest.mark.parametrize("kind", ["regression", "choice", "tagging", "span"])
def test_a_kind_without_classes_says_so(kind: Kind, backbone: Backbone, bank: tuple[Source, ...]) -> None:
    method = "prompt-tuning" if kind == "span" else "graft"
    before = predictor_of(backbone, method, toy_task(kind), bank if method == "graft" else ())
    with pytest.raises(RunError, match=f"a {kind} task takes no further class"):
        extend(before, {"music": "music"})


def test_pairs_need_rows(backbone: Backbone, bank: tuple[Source, ...]) -> None:
    before = predictor_of(backbone, "graft", toy_task("pair"), bank)
    with pytest.raises(RunError, match="music has no row"):
        extend(before, {"music": "music"})


WRONG: dict[str, tuple[dict[str, str | None], object, type[Exception], str]] = {
    "nothing": ({}, None, UsageError, "nothing to add"),
    "no name": ({" ": "music"}, None, UsageError, "no name"),
    "there already": ({"positive": "good"}, None, UsageError, "a class already"),
    "another case": ({"Positive": "good"}, None, UsageError, "in case only"),
    "one new in two cases": ({"music": "a", "Music": "b"}, None, UsageError, "in case only"),
    "an unknown label": (
        {"music": "m"},
        [("a film", "musik")],
        TaskError,
        r"did you mean 'music'\? Or add the class with labels musik=DESCRIPTION$",
    ),
    "a label like none": (
        {},
        [("a film", "xyz")],
        TaskError,
        "known: negative, positive; or add the class with labels xyz=DESCRIPTION$",
    ),
    "a row in another case": ({}, [("a film", "Positive")], TaskError, r"did you mean 'positive'\?$"),
    "a row in capitals": ({}, [("a film", "POSITIVE")], TaskError, r"did you mean 'positive'\?$"),
    "two of one description": ({"a": "tune", "b": "Tune"}, None, UsageError, "'b' is described as 'a' is"),
    "a description that is there": ({"music": DESCRIBED}, None, UsageError, "'music' is described as 'positive' is"),
    "no rows": ({"music": "m"}, [], UsageError, "no labelled rows"),
    "no label": ({"music": "m"}, [("a film", None)], UsageError, "row 0: has no label"),
    "a text alone": ({"music": "m"}, ["a film"], UsageError, "with its label"),
    "no column of labels": ({"music": "m"}, [{"text": "a film", "kind": "music"}], UsageError, "row 0: has no label"),
}


def test_classes_of_one_description_are_told_apart_by_rows(grafted: Predictor) -> None:
    assert extend(grafted, {"music": DESCRIBED}, MUSIC).predictor.predict([MUSIC[0].text]) == ["music"]


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_added_is_one_line(case: str, grafted: Predictor) -> None:
    labels, rows, error, words = WRONG[case]
    with pytest.raises(error, match=words) as caught:
        extend(grafted, labels, rows)
    assert "\n" not in str(caught.value)


def test_a_label_that_is_there_gets_its_rows(grafted: Predictor) -> None:
    result = extend(grafted, {"positive": "praise"}, [("good good film", "positive")])
    assert not result.added
    assert result.artefact.card.task.labels == grafted.artefact.card.task.labels
    assert any("rows are added to it; its description stays" in note for note in result.notes)


@pytest.mark.parametrize("labels", ["音乐", ["音乐"], {"音乐": None}, {"音乐": ""}])
def test_a_name_without_a_description_describes_itself(labels: object, grafted: Predictor) -> None:
    result = extend(grafted, labels)  # type: ignore[arg-type]
    assert result.added == {"音乐": "音乐"}
    assert any("its name is read" in note for note in result.notes)


def test_rows_come_as_tables_and_examples_too(grafted: Predictor) -> None:
    pandas = pytest.importorskip("pandas")
    texts = [row.text for row in MUSIC]
    frame = pandas.DataFrame({"text": texts, "label": ["music"] * len(texts)})
    ways = [MUSIC, [(text, "music") for text in texts], frame, frame.to_dict("records")]
    hashes = {extend(grafted, {"music": "music"}, rows).artefact.hash for rows in ways}
    assert len(hashes) == 1


@pytest.mark.parametrize("spelling", [("False", "True"), ("false", "true")])
def test_truth_values_meet_however_they_are_written(
    spelling: tuple[str, str], backbone: Backbone, tmp_path: Path
) -> None:
    toy = toy_task()

    def named(names: dict[str, object]) -> dict[str, tuple[Example, ...]]:
        return {
            split: tuple(replace(row, label=names[str(row.label)]) for row in rows)  # type: ignore[arg-type]
            for split, rows in toy.splits.items()
        }

    names: dict[str, object] = dict(zip(toy.classes, spelling, strict=True))
    task = toy.replace(labels={str(names[label]): text for label, text in toy.labels.items()}, splits=named(names))
    before = predictor_of(backbone, "linear-probe", task)
    values = [(row.text, row.label == spelling[1]) for row in task.test]
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{text},{value}\n" for text, value in values))
    records = [{"text": text, "label": value} for text, value in values]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    ways: list[object] = [tmp_path / "rows.csv", tmp_path / "rows.jsonl", records, pd.DataFrame(records), values]
    assert len({extend(before, (), rows).artefact.hash for rows in ways}) == 1
    assert not extend(before, {True: "yes"}, values).added  # type: ignore[dict-item]
    other = dict(zip(toy.classes, ("FALSE", "TRUE"), strict=True))
    assert before.evaluate(named(dict(other))["test"]) == before.evaluate(task.test)


def test_columns_of_another_name_are_named(grafted: Predictor, tmp_path: Path) -> None:
    table = [{"words": row.text, "topic": row.label, "text": "not this"} for row in MUSIC]
    named = extend(grafted, {"music": "m"}, table, columns={"text": "words", "label": "topic"})
    assert named.artefact.hash == extend(grafted, {"music": "m"}, MUSIC).artefact.hash
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    read = extend(grafted, {"music": "m"}, path, columns={"text": "words", "label": "topic"})
    assert read.artefact.hash == named.artefact.hash
    with pytest.raises(UsageError, match="unknown role of a column 'txt'; did you mean 'text'"):
        extend(grafted, {"music": "m"}, table, columns={"txt": "words"})


def test_an_artefact_that_is_there_is_not_written_over(grafted: Predictor, tmp_path: Path) -> None:
    extend(grafted, {"music": "music"}, out=tmp_path / "new")
    with pytest.raises(ArtefactError, match="holds an artefact already"):
        extend(grafted, {"plot": "a plot"}, out=tmp_path / "new")
    extend(grafted, {"plot": "a plot"}, out=tmp_path / "new", replace=True)
    assert artefacts.load(tmp_path / "new").card.task.labels.keys() == {"negative", "positive", "plot"}


def test_an_artefact_of_16_bits_stays_one(grafted: Predictor, backbone: Backbone, tmp_path: Path) -> None:
    artefacts.save(artefacts.halved(grafted.artefact), tmp_path / "half")
    result = extend(tmp_path / "half", {"music": "music"}, MUSIC, model=backbone, out=tmp_path / "more")
    kept = artefacts.load(tmp_path / "more")
    assert kept.half
    assert kept.hash == result.artefact.hash
    extend(kept, {"plot": "a plot"}, model=backbone)


def test_label_text_is_a_map_of_directions(backbone: Backbone) -> None:
    before = predictor_of(backbone, "prompt-tuning", toy_task(), readout="label-text")
    readout = before.tuned.readout
    assert isinstance(readout, LabelText)
    features, tokens = torch.randn(5, backbone.hidden), before._tokens(toy_task().test[:5])
    linear = as_linear(readout)
    assert isinstance(linear, Directional)
    with torch.no_grad():
        assert torch.allclose(linear.scores(features, tokens), readout.scores(features, tokens), atol=1e-4)


def normal(stream: np.random.Generator, classes: int, kind: type[Linear]) -> Linear:
    weight, bias = torch.from_numpy(stream.normal(size=(classes, 6))).float(), torch.zeros(classes)
    return kind(tuple(map(str, range(classes))), weight.requires_grad_(), bias.requires_grad_())


@pytest.mark.parametrize("kind", [Linear, Directional])
def test_rows_that_fit_already_move_nothing_much(kind: type[Linear]) -> None:
    stream = np.random.default_rng(0)
    readouts = [normal(stream, 3, kind) for _ in range(2)]
    features = stream.normal(size=(200, 12)) * 40
    y = best_classes(readouts, features)
    rows = LabelledRows(features, y)
    memory = remembered(None, LabelledRows(features[:0], y[:0]), 3)
    moved = refit(readouts, memory, rows)
    assert (best_classes(moved, features) == y).mean() > 0.97


def test_a_class_without_rows_stays_as_it_was() -> None:
    stream = np.random.default_rng(0)
    readouts = [normal(stream, 3, Directional)]
    rows = LabelledRows(stream.normal(size=(8, 6)), np.arange(8) % 2)
    [moved] = refit(readouts, remembered(None, LabelledRows(rows.features[:0], rows.y[:0]), 3), rows)
    assert torch.equal(moved.weight[2], readouts[0].weight[2])
    assert not torch.equal(moved.weight[:2], readouts[0].weight[:2])


def test_a_new_class_points_where_its_description_does() -> None:
    stream = np.random.default_rng(0)
    [readout] = [normal(stream, 3, Directional)]
    described = stream.normal(size=(4, 6))
    more = with_classes(readout, ["new"], described)
    assert torch.equal(more.weight[:3], readout.weight)
    away = described[3] - described.mean(0)
    weight = more.weight[3].detach().numpy()
    assert weight @ away / np.linalg.norm(weight) / np.linalg.norm(away) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(weight) == pytest.approx(readout.weight.norm(dim=1).mean().item(), rel=1e-5)
    alike = with_classes(readout, ["new"], np.ones((4, 6)))
    assert alike.weight[3].abs().max() == 0, "descriptions that are all the same say nothing"


def test_memories_add_up() -> None:
    stream = np.random.default_rng(0)
    features, y = stream.normal(size=(600, 4)), np.arange(600) % 3
    parts = [LabelledRows(features[:100], y[:100]), LabelledRows(features[100:], y[100:])]
    memory = remembered(remembered(None, parts[0], 3), parts[1], 4)
    assert memory.counts.tolist() == [200, 200, 200, 0]
    means = np.stack([features[y == label].mean(0) for label in range(3)])
    assert np.allclose(memory.centroids[:3].numpy(), means, atol=2e-3)
    assert len(memory.labels) == len(memory.sample) == SAMPLED


DAMAGE = {
    "a class too many": {"labels": torch.tensor([0, 7], dtype=torch.int32)},
    "a count below zero": {"counts": torch.tensor([1, -1], dtype=torch.int32)},
    "other classes": {"counts": torch.ones(3, dtype=torch.int32)},
    "another width": {"sample": torch.zeros(2, 5)},
    "other numbers": {"labels": torch.zeros(2)},
    "no matrix": {"centroids": torch.zeros(2)},
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_memory_is_one_line(case: str) -> None:
    whole = {
        "centroids": torch.zeros(2, 4), "counts": torch.ones(2, dtype=torch.int32), "sample": torch.zeros(2, 4),
        "labels": torch.zeros(2, dtype=torch.int32),
    }  # fmt: skip
    Memory.load(whole, 2, "here")
    with pytest.raises(ArtefactError, match="here: "):
        Memory.load(whole | DAMAGE[case], 2, "here")
    with pytest.raises(ArtefactError, match="its memory has the tensors"):
        Memory.load({"sample": whole["sample"]}, 2, "here")


def test_an_extension_is_shown_in_a_notebook(grafted: Predictor) -> None:
    result = extend(grafted, {"music": "<b>"})
    assert isinstance(result, Extension)
    assert "<b>" not in result._repr_html_().replace("<b>Extension of", "")


def test_a_graft_without_labels_gets_classes_and_rows(backbone: Backbone, bank: tuple[Source, ...]) -> None:
    task = toy_task()
    bare = task.replace(splits={"test": task.test})
    before = predictor_of(backbone, "graft", bare, bank)
    extend(before, {"music": "music"})
    with pytest.raises(RunError, match="keeps nothing"):
        extend(before, {"music": "music"}, MUSIC)
    taught = extend(before, {"music": "music"}, (*MUSIC, *task.train))
    assert taught.predictor.evaluate(task.test)["score"] > 60
