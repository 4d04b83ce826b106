"""SetFit beside the other methods: where its extra is installed, and where it is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import MissingExtraError, RunError
from promptgraft.method import setfit
from promptgraft.method.job import Job
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.load import load_backbone
from promptgraft.study.compare import rows_here
from promptgraft.task.task import Kind
from promptgraft.train.recipe import Recipe
from toys import tiny_model, toy_task

DEVICE: DeviceName = "cuda" if torch.cuda.is_available() else "cpu"  # where the library trains
here = pytest.mark.skipif(not setfit.installed(), reason="needs the extra setfit")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"), device=DEVICE)


def job(backbone: Backbone, kind: Kind = "classification", shots: int = 2) -> Job:
    return Job(toy_task(kind), backbone.fingerprint, "setfit", 0, Recipe(), shots)


def test_compare_has_its_row_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        monkeypatch.setattr(setfit, "installed", lambda there=there: there)
        assert (("setfit", {}) in rows_here()) is there


def test_without_the_extra_the_line_says_what_to_install(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setfit, "installed", lambda: False)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[setfit\]' in a clone of promptgraft"):
        list(LocalEngine(backbone).run([job(backbone)]))


def test_rows_of_one_class_are_refused(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setfit, "installed", lambda: True)
    task = toy_task()
    rows = tuple(row for row in task.train if row.label == "positive")
    alike = job(backbone).replace(task=task.replace(splits={**task.splits, "train": rows}), shots=None)
    with pytest.raises(RunError, match="setfit needs rows of two classes"):
        list(LocalEngine(backbone).run([alike]))


@here
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tunes_all_weights_and_predicts_through_our_forward(
    backbone: Backbone, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setfit, "PAIRS", 10)  # at 2 there is one step, at the rate 0
    engine = LocalEngine(backbone)
    [one] = engine.run([job(backbone)])
    assert one.tuned is not None
    assert one.tuned.weights is not None
    assert fingerprint(one.tuned.weights) != backbone.fingerprint == fingerprint(backbone.weights)
    artefact = make_artefact(one, engine.view(one.job))
    assert Predictor(artefact, backbone).evaluate(engine.task(one.job).test) == one.result.scores["test"]
    [again] = LocalEngine(backbone).run([job(backbone)])
    assert fingerprint(again.tuned.weights) == fingerprint(one.tuned.weights)  # type: ignore[union-attr, arg-type]
    assert capfd.readouterr() == ("", ""), "a library does not print"


@here
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_weights_are_trained_in_fp32_and_texts_cut_whatever_the_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of SetFit's rate is less than what bf16 can tell apart."""
    monkeypatch.setattr(setfit, "PAIRS", 10)
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"), dtype="bf16", device=DEVICE)
    long = toy_task()
    rows = tuple(dataclasses.replace(row, text=" ".join([row.text] * 9)) for row in long.train)
    asked = job(backbone).replace(
        task=long.replace(splits={**long.splits, "train": rows}), recipe=Recipe(max_length=8, arithmetic="bf16")
    )
    [done] = LocalEngine(backbone).run([asked])
    assert done.tuned is not None
    assert done.tuned.weights is not None
    assert {value.dtype for value in done.tuned.weights.values()} == {torch.float32}
    moved = [
        name
        for name, value in done.tuned.weights.items()
        if "attention" in name and not torch.equal(value, backbone.weights[name].float().cpu())
    ]
    assert moved


@here
def test_other_kinds_are_refused(backbone: Backbone) -> None:
    with pytest.raises(RunError, match="single texts"):
        list(LocalEngine(backbone).run([job(backbone, "regression")]))


@here
@pytest.mark.skipif(DEVICE == "cpu", reason="there is no GPU here")
def test_a_model_on_the_processor_is_refused_where_the_library_trains_on_the_gpu(tmp_path: Path) -> None:
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"), device="cpu")
    with pytest.raises(RunError, match="loaded on the processor"):
        list(LocalEngine(backbone).run([job(backbone)]))
