"""Graft weighs a bank by the labelled rows: what it keeps, what it gives, and where it has nothing to go by."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import promptgraft as pg
from promptgraft import api
from promptgraft.api.jobs import transfer_method
from promptgraft.api.opening import opened
from promptgraft.engine.keep import make_artefact, sources_of
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import ArtefactError, RunError
from promptgraft.method.all import find
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.init import Init, initial
from promptgraft.readout.evidence import (
    FOLDS,
    KNOWN,
    WEIGHT,
    Evidence,
    balanced,
    best_temperature,
    blend,
    candidates,
    directions,
    fitted,
    log_softmax,
    rarity,
    weigh,
)
from promptgraft.readout.label_evidence import MANY as LABELS_MANY
from promptgraft.readout.label_evidence import (
    PRIOR_LENGTH,
    fitted_labels,
    label_blend,
    label_candidates,
    label_temperature,
)
from promptgraft.readout.probe import deal_labels, rarest_label
from promptgraft.task.task import Example, Kind, Task
from promptgraft.train.predict import answer_one
from promptgraft.train.recipe import Recipe
from toys import tiny_model, toy_task

RECIPE = Recipe(steps=2, batch=4, length=2, evaluations=1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


@pytest.fixture(scope="module")
def bank(backbone: Backbone) -> tuple[Source, ...]:
    """Five prompts, deep and shallow, read at the mean and at the first token."""
    engine = LocalEngine(backbone)
    job = Job(
        toy_task(seed=9).replace(name="donor", licence="CC0-1.0"), backbone.fingerprint, "prompt-tuning", 0, RECIPE
    )
    [finished] = engine.run([job])
    made = make_artefact(finished, engine.view(job))
    stream = torch.Generator().manual_seed(0)
    forms = [("deep", "mean"), ("shallow", "mean"), ("deep", "cls"), ("shallow", "cls"), ("deep", "mean")]
    return tuple(
        Source(
            f"source {number}",
            made.replace(
                prompt=initial(Init(std=0.5), backbone, 2 + number, depth, "after_cls", stream),  # type: ignore[arg-type]
                card=made.card.replace(pooling=pooling),
            ),
        )
        for number, (depth, pooling) in enumerate(forms)
    )


def job_of(backbone: Backbone, task: Task, bank: tuple[Source, ...], **options: object) -> Job:
    return Job(task, backbone.fingerprint, "graft", 0, RECIPE, options=options, bank=bank)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "pair", "regression", "choice", "tagging"])
@pytest.mark.parametrize("members", [1, 3, 6])
def test_what_is_kept_predicts_as_what_was_fitted(
    kind: Kind, members: int, backbone: Backbone, bank: tuple[Source, ...], tmp_path: Path
) -> None:
    task = toy_task(kind)
    engine = LocalEngine(backbone)
    job = job_of(backbone, task, bank, members=members)
    [finished] = engine.run([job])
    assert finished.tuned is not None
    assert 1 <= len(finished.tuned.members) <= members
    made = make_artefact(finished, engine.view(job))
    artefacts.save(made, tmp_path / "kept")
    kept = artefacts.load(tmp_path / "kept", fingerprint=backbone.fingerprint)
    assert kept.hash == made.hash
    assert Predictor(kept, backbone).evaluate(task.test)["score"] == pytest.approx(
        finished.result.scores["test"]["score"]
    )
    assert len(kept.others) == len(finished.tuned.members) - 1
    prompts = sum(model.prompt is not None for model in finished.tuned.members)
    assert len(kept.card.lineage) == prompts
    assert {origin.licence for origin in kept.card.lineage} <= {"CC0-1.0"}


def test_the_same_rows_give_the_same_bits(backbone: Backbone, bank: tuple[Source, ...]) -> None:
    [one], [other] = (LocalEngine(backbone).run([job_of(backbone, toy_task(), order)]) for order in (bank, bank[::-1]))
    assert one.tuned is not None
    assert other.tuned is not None
    assert one.job.id == other.job.id, "a bank has no order"
    for mine, theirs in zip(one.tuned.members, other.tuned.members, strict=True):
        assert torch.equal(mine.readout.state()["weight"], theirs.readout.state()["weight"])


def test_validation_and_test_rows_have_no_part_in_it(backbone: Backbone, bank: tuple[Source, ...]) -> None:
    task = toy_task()
    turned = {"negative": "positive", "positive": "negative"}
    splits = {
        split: rows
        if split == "train"
        else tuple(dataclasses.replace(row, label=turned[str(row.label)]) for row in rows)
        for split, rows in task.splits.items()
    }
    weights = []
    for asked in (task, task.replace(splits=splits)):
        [finished] = LocalEngine(backbone).run([job_of(backbone, asked, bank)])
        assert finished.tuned is not None
        weights.append(finished.tuned.readout.state()["weight"])
    assert torch.equal(*weights)


def few(rows: list[tuple[str, str]], labels: dict[str, str]) -> Task:
    examples = tuple(Example(text=text, label=label) for text, label in rows)
    return Task("few", "classification", "accuracy", labels, {"train": examples, "test": examples})


FEW = {
    "one row a class": few(
        [("good film", "positive"), ("bad film", "negative")], {"positive": "good", "negative": "bad"}
    ),
    "one row": few([("good film", "positive")], {"positive": "good", "negative": "bad"}),
    "a class without rows": few(
        [("good film", "a"), ("great film", "a"), ("bad film", "b"), ("poor film", "b")],
        {"a": "good", "b": "bad", "c": "music"},
    ),
    "150 classes of two rows": few(
        [(f"{word} film {number}", str(number)) for number in range(150) for word in ("good", "bad")],
        {str(number): f"class {number}" for number in range(150)},
    ),
    "equal descriptions": few([("good film", "a"), ("bad film", "b")] * 3, {"a": "the same", "b": "the same"}),
    "equal texts": few([("good film", "a"), ("good film", "b")] * 3, {"a": "good", "b": "bad"}),
    "names that say nothing": few([("good film", "0"), ("bad film", "1")] * 3, {"0": "0", "1": "1"}),
}


@pytest.mark.parametrize("case", FEW)
def test_few_and_odd_rows(case: str, backbone: Backbone, bank: tuple[Source, ...]) -> None:
    [finished] = LocalEngine(backbone).run([job_of(backbone, FEW[case], bank)])
    assert 0 <= finished.result.scores["test"]["score"] <= 100
    assert finished.tuned is not None
    for model in finished.tuned.members:
        assert all(torch.isfinite(value).all() for name, value in model.readout.state().items() if name != "labels")


def test_a_class_that_no_row_has_can_be_answered_from_its_description(backbone: Backbone) -> None:
    """The prior knows it, so a text that is the description itself gets it."""
    [finished] = LocalEngine(backbone).run([job_of(backbone, FEW["a class without rows"], ())])
    assert finished.tuned is not None
    assert float(finished.tuned.readout.state()["bias"][2]) > -10, "it is not barred"


def test_without_a_bank_the_backbone_alone_is_read(backbone: Backbone) -> None:
    [finished] = LocalEngine(backbone).run([job_of(backbone, toy_task(), ())])
    assert finished.result.notes[-1].startswith("graft of the backbone alone (weight 1.00); ")


def test_spans_are_one_line(backbone: Backbone) -> None:
    with pytest.raises(RunError, match="none of a span task can be fitted so; use method pot"):
        list(LocalEngine(backbone).run([job_of(backbone, toy_task("span"), ())]))


@pytest.mark.parametrize("kind", ["classification", "pair"])
def test_with_full_effort_trained_prompts_are_judged_by_runs_that_have_not_seen_a_row(
    kind: Kind, backbone: Backbone, bank: tuple[Source, ...]
) -> None:
    engine = LocalEngine(backbone)
    job = job_of(backbone, toy_task(kind), bank, effort="full", members=8).replace(source=bank[0])
    parts = find("graft").requires(job)
    assert len({part.id for part in parts}) == 2 * (FOLDS + 1)
    [finished] = engine.run([job])
    assert "trained from scratch (weight" in finished.result.notes[-1]
    assert "trained from source 0 (weight" in finished.result.notes[-1]
    assert finished.result.required_seconds > 0
    rows = engine.task(job).train
    seen = [engine.task(part).train for part in parts[: FOLDS + 1]]
    assert seen[-1] == rows
    assert all(not engine.task(part).validation for part in parts)
    left_out = [Counter(rows) - Counter(part) for part in seen[:-1]]
    assert sum(left_out, Counter()) == Counter(rows), "each row is left out once"
    assert finished.tuned is not None
    artefact = make_artefact(finished, engine.view(job))
    assert len(artefact.others) == 7
    texts = [row.text if row.pair is None else (row.text, row.pair) for row in engine.task(job).test]
    kept = Predictor(artefact, backbone).predict(texts)
    tokens, tuned = engine.view(job).tokens("test", finished.tuned.reading), finished.tuned
    scores = answer_one(backbone, tuned, tokens)
    assert kept == list(tuned.readout.predict(scores, tokens, engine.task(job).test, engine.task(job)))


def test_a_source_that_only_trained_prompts_would_start_from_is_named_where_one_is_kept(
    backbone: Backbone, bank: tuple[Source, ...]
) -> None:
    job = job_of(backbone, toy_task(), bank[1:], effort="full").replace(source=bank[0])
    [finished] = LocalEngine(backbone).run([job_of(backbone, toy_task(), bank, members=1)])
    assert finished.tuned is not None
    frozen = dataclasses.replace(finished.tuned, prompt=bank[1].artefact.prompt)
    trained = dataclasses.replace(frozen, prompt=initial(Init(), backbone, 2, "deep", "after_cls", torch.Generator()))
    assert [source.name for source in sources_of(job, frozen)] == ["source 1"]
    both = dataclasses.replace(frozen, others=(trained,))
    assert [source.name for source in sources_of(job, both)] == ["source 0", "source 1"]


def test_full_effort_is_for_classes(backbone: Backbone, bank: tuple[Source, ...]) -> None:
    with pytest.raises(RunError, match="regression task"):
        list(LocalEngine(backbone).run([job_of(backbone, toy_task("regression"), bank, effort="full")]))


@pytest.mark.parametrize(
    ("source", "options", "method"),
    [
        ("auto", {}, "graft"),
        ("auto", {"effort": "full"}, "graft"),
        ("donor", {"effort": "full"}, "graft"),
        ("donor", {}, "pot"),
        ("auto", {"readout": "linear"}, "pot"),
        ("donor", {"effort": "full", "readout": "linear"}, "pot"),
    ],
)
def test_options_and_a_named_source_say_which_method_is_meant(
    source: str, options: dict[str, object], method: str, backbone: Backbone
) -> None:
    context = opened(toy_task(), backbone, {}, 4)
    assert transfer_method(context, None, source, options) == method


def test_the_verbs_take_a_bank(backbone: Backbone, bank: tuple[Source, ...], tmp_path: Path) -> None:
    place = api.as_bank(tmp_path / "bank", create=True)
    for source in bank[:2]:
        place.add(source.artefact, source.name.replace(" ", "-"))
    rows = [("graft", {}), ("linear-probe", {})]
    compared = api.compare(toy_task(), backbone, place, rows=rows, seeds=(0, 1))
    assert [row.label for row in compared.rows] == ["graft", "linear-probe"]
    assert set(compared.rows[0].sources) <= {"source-0", "source-1"}, "each once, though two seeds kept them"
    outcome = pg.transfer(toy_task(), backbone, place, method="graft", baselines=False)
    assert outcome.predictor.predict(["the film was good"])[0] in {"positive", "negative"}
    named = pg.transfer(toy_task(), backbone, place, method="graft", source="source-0", baselines=False)
    assert {origin.name for origin in named.artefact.card.lineage} <= {"source-0"}
    nothing = pg.transfer(toy_task(), backbone, api.as_bank(tmp_path / "empty", create=True), method="graft")
    assert any("the backbone alone is read" in note for note in nothing.notes)


def test_a_member_that_is_not_on_the_card_is_refused(
    backbone: Backbone, bank: tuple[Source, ...], tmp_path: Path
) -> None:
    engine, job = LocalEngine(backbone), job_of(backbone, toy_task(), bank)
    [finished] = engine.run([job])
    artefacts.save(make_artefact(finished, engine.view(job)), tmp_path)
    card = (tmp_path / "card.json").read_text(encoding="utf-8")
    other = artefacts.load(tmp_path).card.replace(others=())
    (tmp_path / "card.json").write_text(other.to_json(), encoding="utf-8")
    assert card != other.to_json()
    with pytest.raises(ArtefactError, match="the card knows 0 models beside its own"):
        artefacts.load(tmp_path)


def features_of(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of two classes or more, features that tell them apart, and the folds."""
    stream = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    return stream.normal(size=(rows, 12)) + 2 * np.eye(classes, 12)[y], y, np.arange(rows) // classes % FOLDS


def test_evidence_prefers_features_that_tell_classes_apart() -> None:
    told, y, fold = features_of(40, 2, 0)
    noise = np.random.default_rng(1).normal(size=told.shape)
    found = [candidates(features, y, fold, None, np.ones(len(y)), 2) for features in (noise, told, noise[::-1])]
    mixture = blend(found, y, fold, np.ones(len(y)), [0.0] * len(found), 3)
    assert mixture.prompts[0] == 1
    assert mixture.shares[0].sum() > 0.5
    assert sum(share.sum() for share in mixture.shares) == pytest.approx(1)


def test_unseen_rows_are_judged_by_what_has_not_seen_them() -> None:
    """On labels that are coin flips the mixture of the best of many prompts is right little more than half the time."""
    stream, hits = np.random.default_rng(0), []
    for _ in range(30):
        y, fold = stream.permutation(np.arange(20) % 2), np.arange(20) % FOLDS
        found = [candidates(stream.normal(size=(20, 8)), y, fold, None, np.ones(20), 2) for _ in range(8)]
        hits.append((blend(found, y, fold, np.ones(len(y)), [0.0] * len(found), 3).unseen.argmax(1) == y).mean())
    assert np.mean(hits) < 0.62, "its weights know of a row what the fits of other parts do"


def test_what_a_prompt_gained_elsewhere_decides_where_rows_do_not() -> None:
    y = np.arange(8) % 2
    alike = Evidence(np.log(np.full((1, 8, 2), 0.5)))
    mixture = blend([alike] * 3, y, y, np.ones(8), [0.0, 5.0, -5.0], 2)
    assert mixture.prompts == (1, 0)
    assert mixture.shares[0][0] / mixture.shares[1][0] == pytest.approx(np.exp(WEIGHT * KNOWN * 5))


def label_rows(rows: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of rows that point where the descriptions of their labels do, their labels and the descriptions."""
    stream = np.random.default_rng(0)
    described = stream.normal(size=(3, 16))
    y = (stream.random((rows, 3)) < 0.4).astype(int)
    features = y @ described + stream.normal(size=(rows, 16)) + 3.0
    return features, y, described, deal_labels(rarest_label(y), 0)


def test_descriptions_tell_labels_that_no_row_has() -> None:
    features, y, described, fold = label_rows()
    held = y.copy()
    held[:, 2] = 0
    every = np.ones((1, len(y)), dtype=bool)
    weights, biases = fitted_labels(features, held, every, described)
    odds = directions(features) @ weights[-1, 0].T + biases[-1, 0]
    assert odds[y[:, 2] == 1, 2].mean() > odds[y[:, 2] == 0, 2].mean() + 0.5
    probes, _ = fitted_labels(features, held, every, None)
    assert np.abs(probes[:, 0, 2]).max() < 1e-6, "rows alone say nothing of it"
    assert len(label_candidates(features, y, fold, described).weights) > len(probes)


def test_rows_that_are_all_one_leave_what_descriptions_say() -> None:
    """Their mean differs from them by rounding, which is no direction that a label could lie in."""
    stream = np.random.default_rng(0)
    features, described = np.stack([stream.normal(size=384)] * 3), stream.normal(size=(2, 384))
    weights, biases = fitted_labels(features, np.eye(3, 2, dtype=np.int64), np.ones((1, 3), dtype=bool), described)
    assert np.linalg.norm(weights, axis=-1).max() <= PRIOR_LENGTH + 1e-6
    assert np.abs(biases).max() < 20


@pytest.mark.parametrize("labels", [LABELS_MANY, LABELS_MANY + 1])
def test_many_labels_are_read_by_rows_and_by_descriptions(labels: int) -> None:
    """Where labels are many, strengths are left out, and never a kind of readout."""
    stream = np.random.default_rng(4)
    y = (stream.random((80, labels)) < 0.2).astype(int)
    described = stream.normal(size=(labels, 32))
    features = y @ described + stream.normal(size=(80, 32))
    every = np.ones((1, len(y)), dtype=bool)
    probes, _ = fitted_labels(features, y, every, None)
    both, _ = fitted_labels(features, y, every, described)
    assert len(both) > len(probes) > 0


def test_a_label_that_no_row_has_is_unlikely_and_not_impossible() -> None:
    features, y, described, fold = label_rows()
    y[:, 2] = 0
    found = label_candidates(features, y, fold, described)
    odds = directions(features) @ found.weights.swapaxes(1, 2) + found.biases[:, None]
    share = 1 / (1 + np.exp(-odds[:, :, 2]))
    assert (share < 0.3).all()
    assert (share.mean(1) > 1e-4).all()


def test_rows_left_out_are_judged_by_fits_that_have_not_seen_them() -> None:
    features, y, described, fold = label_rows()
    found = label_candidates(features, y, fold, described)
    without = fold != 1
    weights, biases = fitted_labels(features, y, without[None], described)
    odds = directions(features[~without]) @ weights[:, 0].swapaxes(1, 2) + biases[:, 0, None]
    np.testing.assert_allclose(found.unseen[:, ~without], odds, atol=1e-6)


def test_labels_that_are_coin_flips_promise_nothing() -> None:
    stream = np.random.default_rng(3)
    y = (stream.random((60, 2)) < 0.5).astype(int)
    fold = deal_labels(rarest_label(y), 0)
    found = [label_candidates(stream.normal(size=(60, 24)), y, fold, None) for _ in range(4)]
    mixture = label_blend(found, y, fold, 3)
    assert ((mixture.unseen > 0) == (y > 0)).mean() < 0.65
    assert mixture.temperature > 1, "what is fitted to chance is too sure"


def test_a_temperature_of_labels_mends_odds_that_are_too_sure_and_too_modest() -> None:
    stream = np.random.default_rng(0)
    odds = stream.normal(scale=2.0, size=(400, 3))
    y = (stream.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(int)
    for factor in (0.5, 1.0, 2.0):
        assert label_temperature(factor * odds, y) == pytest.approx(factor, rel=0.25)


def test_descriptions_alone_give_labels(backbone: Backbone, bank: tuple[Source, ...]) -> None:
    task = toy_task("multilabel")
    job = job_of(backbone, task, bank).replace(shots=0)
    [finished] = LocalEngine(backbone).run([job])
    assert finished.tuned is not None
    assert finished.result.scores["test"]["score"] > 0
    assert any("no labelled rows are used: " in note for note in finished.result.notes)


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_names_that_are_read_for_want_of_descriptions_are_said(
    kind: Kind, backbone: Backbone, bank: tuple[Source, ...]
) -> None:
    task = toy_task(kind)
    bare = task.replace(labels={name: name for name in task.classes})
    noted = bare.replace(notes=("no description of 'negative', 'positive': read is the name",))
    for given, count in ((task, 0), (bare, 1), (noted, 0)):
        [finished] = LocalEngine(backbone).run([job_of(backbone, given, bank).replace(shots=0)])
        notes = [note for note in finished.result.notes if "read is the name" in note]
        assert len(notes) == count


def test_without_labels_several_a_row_are_what_label_text_says(backbone: Backbone, bank: tuple[Source, ...]) -> None:
    task = toy_task("multilabel")
    free = tuple(Example(row.text) for row in task.train)
    job = job_of(backbone, task, bank).replace(shots=0, unlabelled=free)
    grafted, alone = LocalEngine(backbone).run([job, job.replace(method="zero-shot", options={}, bank=())])
    assert grafted.result.scores == alone.result.scores
    assert grafted.result.source is None
    assert any("unlabelled text is not read" in note for note in grafted.result.notes)


def test_weights_follow_the_evidence() -> None:
    shares = weigh([np.array([-50.0, -60.0]), np.array([-40.0]), np.array([-90.0])], 2)
    assert list(shares) == [0, 1] or list(shares) == [1, 0]
    assert sum(share.sum() for share in shares.values()) == pytest.approx(1)
    assert 2 not in shares


def test_a_temperature_mends_scores_that_are_too_sure_and_too_modest() -> None:
    stream = np.random.default_rng(0)
    scores = stream.normal(size=(400, 3))
    y = np.array([stream.choice(3, p=np.exp(row)) for row in log_softmax(scores)])
    for factor in (0.5, 1.0, 2.0):
        assert best_temperature(log_softmax(factor * scores), y) == pytest.approx(factor, rel=0.25)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression", "tagging"])
def test_many_rows_are_judged_on_a_sample_and_that_is_said(
    kind: Kind, backbone: Backbone, bank: tuple[Source, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptgraft.method.graft.JUDGED", 20)
    monkeypatch.setattr("promptgraft.method.members.JUDGED", 20)
    monkeypatch.setattr("promptgraft.method.graft.FITTED", 60)
    task = toy_task(kind, train=200)
    [finished] = LocalEngine(backbone).run([job_of(backbone, task, bank)])
    judged = 20 if kind in ("classification", "multilabel") else 60
    assert f"prompts were judged on {judged} of 200 training rows and fitted to 60" in finished.result.notes
    assert finished.result.scores["test"]["score"] > 0


def test_rows_of_rare_classes_count_more() -> None:
    everything = np.array([0] * 90 + [1] * 10)
    sample = np.array([0] * 10 + [1] * 10)
    for y in (everything, sample):
        for power, odds in ((0.0, 9.0), (0.5, 3.0), (1.0, 1.0)):
            weight = rarity(y, everything, power)
            assert weight.mean() == pytest.approx(1)
            assert weight[y == 0].sum() / weight[y == 1].sum() == pytest.approx(odds)
    assert rarity(sample, sample, 0.5).tolist() == [1.0] * 20


def test_a_weight_is_as_good_as_a_row_twice() -> None:
    stream = np.random.default_rng(0)
    features, y = stream.normal(size=(12, 4)), np.arange(12) % 3
    every, twice = np.ones((1, 12), dtype=bool), np.r_[np.arange(12), np.flatnonzero(y == 1)]
    weights, _ = fitted(features, y, every, None, 1.0 + (y == 1), 3)
    repeated, _ = fitted(features[twice], y[twice], np.ones((1, len(twice)), dtype=bool), None, np.ones(len(twice)), 3)
    np.testing.assert_allclose(weights, repeated, atol=1e-6)


def test_a_sample_has_as_many_rows_of_each_class_as_can_be() -> None:
    y = np.array([0] * 90 + [1] * 5 + [2] * 40)
    rows = balanced(y, 30, 0)
    assert np.bincount(y[rows]).tolist() == [13, 5, 12] or np.bincount(y[rows]).tolist() == [12, 5, 13]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert balanced(y, 135, 0).tolist() == list(range(135))
    assert len(balanced(np.arange(50), 10, 0)) == 10
