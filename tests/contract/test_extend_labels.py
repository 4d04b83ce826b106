"""An artefact of several labels a row gets labels from descriptions and rows, and its old ones stay as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from promptgraft import api
from promptgraft.api import extend
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.store import tuned_of
from promptgraft.errors import ArtefactError, RunError, TaskError, UsageError
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.memory import UNKNOWN, LabelMemory
from promptgraft.readout.extend_labels import SeveralRows, refit_labels, remembered_labels, with_labels
from promptgraft.readout.multilabel import MultilabelDirection
from promptgraft.readout.threshold import UNJUDGED, best_threshold
from promptgraft.task.task import Example, Task
from promptgraft.train.recipe import Recipe
from toys import FILLER, tiny_model, toy_task

RECIPE = Recipe(steps=2, batch=4, length=2, evaluations=1)
TASK = toy_task("multilabel")
MUSIC = tuple(Example(text=f"music and {word} music", label=("music",)) for word in FILLER[:6])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


def predictor_of(backbone: Backbone, method: str, task: Task, bank: tuple[Source, ...] = ()) -> Predictor:
    engine = LocalEngine(backbone)
    job = Job(task, backbone.fingerprint, method, 0, RECIPE, bank=bank)
    [finished] = engine.run([job])
    return Predictor(make_artefact(finished, engine.view(job)), backbone)


@pytest.fixture(scope="module")
def grafted(backbone: Backbone) -> Predictor:
    """A graft of two members."""
    donor = predictor_of(backbone, "prompt-tuning", toy_task(seed=9).replace(name="donor")).artefact
    prompt = initial(Init(std=0.5), backbone, 2, "deep", "after_cls", torch.Generator().manual_seed(0))
    predictor = predictor_of(backbone, "graft", TASK, (Source("donor", donor.replace(prompt=prompt)),))
    assert len(predictor.tuned.members) == 2
    return predictor


@pytest.mark.parametrize("method", ["graft", "zero-shot"])
def test_a_label_from_its_description_leaves_the_others(
    method: str, backbone: Backbone, grafted: Predictor, tmp_path: Path
) -> None:
    before = grafted if method == "graft" else predictor_of(backbone, method, TASK.replace(splits={"test": TASK.test}))
    result = extend(before, {"music": "a scene with music"}, out=tmp_path / "kept")
    kept = api.load(tmp_path / "kept", backbone)
    assert kept.classes == (*before.classes, "music")
    assert kept.artefact.hash == result.artefact.hash
    texts = [row.text for row in TASK.test]
    shares = kept.predict_proba(texts)
    assert np.allclose(shares[:, :-1], before.predict_proba(texts), atol=1e-5)
    odds = np.log(shares[:, -1]) - np.log1p(-shares[:, -1])
    assert np.isfinite(odds).all()
    assert odds.std() > 0, "the description tells texts apart"


def test_what_is_remembered_shows_what_became_of_old_labels(grafted: Predictor) -> None:
    result = extend(grafted, {"music": "a scene with music"})
    memory = grafted.artefact.memory
    assert isinstance(memory, LabelMemory)
    assert "24 remembered rows" in result.judged_on
    assert [change.rows for change in result.changes] == [int(count) for count in memory.labels.sum(0)]
    for change in result.changes:
        assert change.right_before is not None
        assert abs(change.right_after - change.right_before) <= change.changed <= change.rows
    grown = result.artefact.memory
    assert isinstance(grown, LabelMemory)
    assert (grown.labels[:, -1] == UNKNOWN).all()


def test_rows_teach_a_label_and_leave_the_old_ones(grafted: Predictor) -> None:
    result = extend(grafted, {"music": "music"}, MUSIC[:4], test=(*TASK.test, *MUSIC[4:]))
    assert any("rows without it would tell" in note for note in result.notes)
    assert all("music" in names for names in result.predictor.predict(list(MUSIC[4:])))
    new, others = (result.predictor.predict_proba(list(rows))[:, -1].mean() for rows in (MUSIC[4:], TASK.test))
    assert new > others + 0.2
    assert result.scores is not None
    for change in result.changes[:-1]:
        assert change.right_before is not None
        assert change.right_after >= change.right_before - change.rows / 2
    assert result.changes[-1].right_after == len(MUSIC[4:])


def test_rows_come_in_several_calls_and_as_files_and_tables(grafted: Predictor, tmp_path: Path) -> None:
    named = extend(grafted, {"music": "a scene with music"})
    rows = [(row.text, ["music"]) for row in MUSIC] + [("a good plain film", ["negative", "positive"])]
    taught = extend(named.predictor, (), rows)
    assert all("music" in names for names in taught.predictor.predict(list(MUSIC)))
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": names}) + "\n" for text, names in rows))
    flags = [{"text": text} | {name: int(name in names) for name in named.predictor.classes} for text, names in rows]
    table = tmp_path / "flags.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in flags))
    for given in (path, table):
        assert extend(named.predictor, (), given).artefact.hash == taught.artefact.hash


def test_an_artefact_without_a_memory_says_what_to_do(backbone: Backbone, grafted: Predictor) -> None:
    older = Predictor(grafted.artefact.replace(memory=None), backbone)
    tuned = predictor_of(backbone, "prompt-tuning", TASK)
    for before in (older, tuned):
        with pytest.raises(RunError, match=r"keeps nothing of the rows it was tuned on.*transfer"):
            extend(before, {"music": "music"})


def test_what_is_remembered_says_where_labels_begin(grafted: Predictor, tmp_path: Path) -> None:
    """The threshold of a graft is that of the odds it keeps, from a kept result too."""
    memory = grafted.artefact.memory
    assert isinstance(memory, LabelMemory)
    assert memory.odds is not None
    least = float(grafted.artefact.readout["least"]) > 0
    found = best_threshold(memory.odds.double().numpy(), memory.labels.numpy(), least=least)
    assert threshold_of(grafted) == pytest.approx(found, abs=1e-5)
    artefacts.save(grafted.artefact, tmp_path)
    again = tuned_of(artefacts.load(tmp_path)).unseen
    assert again is not None
    assert torch.equal(again, memory.odds)


def test_rows_set_the_threshold_anew(grafted: Predictor) -> None:
    rows = (*MUSIC[:4], *TASK.test)
    result = extend(grafted, {"music": "music"}, rows)
    memory = result.artefact.memory
    assert isinstance(memory, LabelMemory)
    assert memory.odds is not None
    assert len(memory.odds) == len(TASK.train) + len(rows)
    found = best_threshold(memory.odds.double().numpy(), memory.labels.numpy())
    assert threshold_of(result.predictor) == pytest.approx(found, abs=1e-5)
    [said] = [note for note in result.notes if "labels are given from" in note]
    share = torch.tensor(found).sigmoid()
    assert f"a probability of {share:.2f} on (before: " in said
    assert f"set by 24 remembered and {len(rows)} given rows; micro F1 of the old labels on rows left out: " in said


def test_rows_that_are_remembered_count_once(grafted: Predictor) -> None:
    grown = extend(grafted, (), (*TASK.train, *TASK.test))
    alone = extend(grafted, (), TASK.test)
    assert f"left out: {len(TASK.train)} rows that it was tuned on" in grown.notes
    for one, other in zip(grown.artefact.readout.values(), alone.artefact.readout.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)  # features may differ by rounding in other company
    same = extend(grafted, (), TASK.train)
    assert threshold_of(same.predictor) == threshold_of(grafted)
    named = extend(grafted, {"music": "music"}, (*TASK.train, *MUSIC))
    assert f"{len(TASK.train)} rows that it was tuned on: the new labels replace the remembered ones" in named.notes
    memory = named.artefact.memory
    assert isinstance(memory, LabelMemory)
    assert len(memory.labels) == len(TASK.train) + len(MUSIC)
    assert (memory.labels != UNKNOWN).all(), "what the rows say of the new label is known now"


def test_a_description_leaves_the_threshold(grafted: Predictor) -> None:
    result = extend(grafted, {"music": "music"})
    assert threshold_of(result.predictor) == threshold_of(grafted)
    assert not any("labels are given from" in note for note in result.notes)


def test_a_label_that_no_row_lacks_has_no_say_in_the_threshold(grafted: Predictor) -> None:
    """Each threshold gives it to some or all of its rows, so that the lowest would seem the best."""
    result = extend(grafted, {"music": "music"}, MUSIC)
    memory = result.artefact.memory
    assert isinstance(memory, LabelMemory)
    assert memory.odds is not None
    odds, gold = memory.odds.double().numpy(), memory.labels.numpy().copy()
    gold[:, -1] = UNKNOWN
    least = float(result.artefact.readout["least"]) > 0
    assert threshold_of(result.predictor) == pytest.approx(best_threshold(odds, gold, least=least), abs=1e-5)


def test_rows_of_a_new_label_alone_leave_a_threshold_that_no_row_set(backbone: Backbone) -> None:
    """Label text guesses its threshold; what no row says of old labels does not move it."""
    before = predictor_of(backbone, "graft", TASK.replace(splits={"test": TASK.test}))
    taught = extend(before, {"music": "music"}, MUSIC[:3])
    again = extend(taught.predictor, (), MUSIC[3:])
    for result in (taught, again):
        assert threshold_of(result.predictor) == threshold_of(before) == pytest.approx(UNJUDGED)
        [said] = [note for note in result.notes if "labels are given from" in note]
        assert "a probability of 0.25 on as before, since no rows are remembered that it was set by" in said
        assert "rows with and rows without each of negative, positive" in said
    told = extend(again.predictor, (), TASK.train)
    assert threshold_of(told.predictor) != threshold_of(before)
    assert any(f"set by {len(MUSIC)} remembered and {len(TASK.train)} given rows" in note for note in told.notes)
    one = extend(before, {"music": "music"}, MUSIC[:1])
    assert np.isfinite(one.predictor.predict_proba(["a film"])).all()


def test_a_memory_of_an_older_version_knows_no_odds(grafted: Predictor, backbone: Backbone, tmp_path: Path) -> None:
    memory = grafted.artefact.memory
    assert isinstance(memory, LabelMemory)
    artefacts.save(grafted.artefact.replace(memory=replace(memory, odds=None)), tmp_path / "older")
    taught = extend(tmp_path / "older", {"music": "music"}, MUSIC, model=backbone)
    assert threshold_of(taught.predictor) == threshold_of(grafted)
    assert any("on as before" in note for note in taught.notes)
    told = extend(tmp_path / "older", {"music": "music"}, (*MUSIC, *TASK.train), model=backbone)
    assert any(f"set by 0 remembered and {len(MUSIC) + len(TASK.train)} given rows" in note for note in told.notes)


def threshold_of(predictor: Predictor) -> float:
    return float(predictor.artefact.readout["threshold"])


def test_label_text_gets_labels_and_rows(backbone: Backbone) -> None:
    before = predictor_of(backbone, "graft", TASK.replace(splits={"test": TASK.test}))
    named = extend(before, {"music": "music"})
    taught = extend(named.predictor, (), [*MUSIC, *TASK.train])
    told, learned = (one.evaluate(TASK.test)["label_ranking"] for one in (before, taught.predictor))
    assert learned >= told
    assert any(names == () for names in taught.predictor.predict(list(TASK.test))), "rows may have no label"


WRONG: dict[str, tuple[dict[str, str | None], object, type[Exception], str]] = {
    "there already": ({TASK.classes[0]: "good"}, None, UsageError, "a class already"),
    "an unknown label": ({"music": "m"}, [("a film", ["musik"])], TaskError, "did you mean 'music'"),
    "no labels": ({"music": "m"}, [("a film", None)], UsageError, "row 0: has no labels"),
    "nothing": ({}, None, UsageError, "nothing to add"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_added_is_one_line(case: str, grafted: Predictor) -> None:
    labels, rows, error, words = WRONG[case]
    with pytest.raises(error, match=words) as caught:
        extend(grafted, labels, rows)
    assert "\n" not in str(caught.value)


def test_halves_stay_halves(grafted: Predictor, backbone: Backbone, tmp_path: Path) -> None:
    artefacts.save(artefacts.halved(grafted.artefact), tmp_path / "half")
    extend(tmp_path / "half", {"music": "music"}, MUSIC, model=backbone, out=tmp_path / "more")
    assert artefacts.load(tmp_path / "more").half


def readout(stream: np.random.Generator) -> MultilabelDirection:
    weight, bias = torch.from_numpy(stream.normal(size=(3, 6))).float(), torch.zeros(3)
    return MultilabelDirection(("a", "b", "c"), weight, bias, torch.tensor(0.0), torch.tensor(0.0))


def test_a_new_label_is_as_likely_at_the_centre_as_others_are() -> None:
    stream = np.random.default_rng(0)
    before, centre = readout(stream), stream.normal(size=6)
    more = with_labels(before, ["new"], stream.normal(size=(4, 6)), centre)
    odds = more.weight.double().detach().numpy() @ centre + more.bias.double().detach().numpy()
    assert odds[3] == pytest.approx(odds[:3].mean(), abs=1e-4)
    assert torch.equal(more.weight[:3], before.weight)


def test_rows_that_say_what_was_said_already_move_nothing() -> None:
    """Remembered rows are held to what was said of them, whatever their labels were."""
    stream = np.random.default_rng(0)
    before, features = readout(stream), stream.normal(size=(50, 6))
    memory = remembered_labels(LabelMemory.empty(6, 3), SeveralRows(features, stream.integers(0, 2, (50, 3))), None)
    [moved] = refit_labels([before], memory, SeveralRows(features[:0], np.zeros((0, 3), dtype=np.int64)))
    assert torch.allclose(moved.weight, before.weight, atol=1e-4)


DAMAGE = {
    "a label too many": {"labels": torch.zeros(2, 3, dtype=torch.int8)},
    "neither yes nor no": {"labels": torch.full((2, 2), 5, dtype=torch.int8)},
    "other numbers": {"labels": torch.zeros(2, 2)},
    "no matrix": {"sample": torch.zeros(2)},
    "odds of other labels": {"odds": torch.zeros(2, 3)},
    "odds that are no numbers": {"odds": torch.full((2, 2), torch.nan)},
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_memory_is_one_line(case: str) -> None:
    whole = {"sample": torch.zeros(2, 4), "labels": torch.zeros(2, 2, dtype=torch.int8)}
    LabelMemory.load(whole, 2, "here")
    with pytest.raises(ArtefactError, match="here: "):
        LabelMemory.load(whole | DAMAGE[case], 2, "here")


def test_a_second_text_is_read(backbone: Backbone) -> None:
    rows = {name: tuple(replace(row, pair="a film") for row in own) for name, own in TASK.splits.items()}
    before = predictor_of(backbone, "graft", TASK.replace(splits=rows))
    assert extend(before, {"music": "music"}).predictor.classes[-1] == "music"
