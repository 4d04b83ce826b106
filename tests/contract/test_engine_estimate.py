"""An estimate counts the jobs that would run, rests on a calibration that is kept, and grows with the work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from causal_models import causal_folder
from promptgraft import api
from promptgraft.engine import calibration
from promptgraft.engine.calibration import Calibration, CostLine, calibrated, passes
from promptgraft.engine.estimate import estimate
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.progress import cost
from promptgraft.engine.store import Store
from promptgraft.errors import UsageError
from promptgraft.method.job import Job
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.study.compare import ROWS, plan
from promptgraft.train.recipe import Recipe
from seq2seq import write_small
from toys import masked_model, tiny_model, toy_task

RECIPE = Recipe(steps=6, batch=8, length=3, evaluations=2)
KNOWN = Calibration(*(CostLine(1e-3 * n, 1e-4 * n, 1e-6 * n, 1e-8) for n in (1, 2, 3, 4)), 1e-4, 2e-2, 5e-3, 1e-2)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path / "home"))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds that are the same in every run of the tests."""
    monkeypatch.setattr("promptgraft.engine.estimate.calibrated", lambda *_: KNOWN)


def jobs(backbone: Backbone, methods: list[str], seeds: int = 2, **recipe: object) -> list[Job]:
    fixed = RECIPE.changed(**recipe)
    return [Job(toy_task(), backbone.fingerprint, method, seed, fixed) for method in methods for seed in range(seeds)]


@pytest.mark.usefixtures("known")
def test_it_counts_what_the_engine_runs(backbone: Backbone, tmp_path: Path) -> None:
    asked = plan(toy_task(), backbone.fingerprint, dict.fromkeys((0, 1)), RECIPE, None, rows=ROWS)
    engine = LocalEngine(backbone, store=Store(tmp_path / "run"))
    said = estimate(engine, asked)
    done = list(engine.run(asked, skip=True))
    assert sum(line.jobs for line in said.lines) == len(done)
    assert {line.label for line in said.lines} == {one.job.label for one in done}
    again = estimate(LocalEngine(backbone, store=Store(tmp_path / "run")), asked)
    assert again.finished == len(done)
    assert again.seconds == 0
    assert again.lines == ()


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("method", ["prompt-tuning", "model-tuning"])
def test_twice_the_steps_cost_nearly_twice(method: str, backbone: Backbone) -> None:
    few, many = (
        estimate(LocalEngine(backbone), jobs(backbone, [method], steps=steps)).seconds for steps in (1000, 2000)
    )
    assert 1.8 < many / few <= 2


@pytest.mark.usefixtures("known")
def test_runs_that_share_their_steps_cost_less_than_apart(backbone: Backbone) -> None:
    together = estimate(LocalEngine(backbone), jobs(backbone, ["prompt-tuning"], seeds=8)).seconds
    alone = estimate(LocalEngine(backbone), jobs(backbone, ["prompt-tuning"], seeds=1)).seconds
    assert alone < together < 8 * alone


@pytest.mark.usefixtures("known")
def test_a_graft_costs_what_it_reads_of_many_rows(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptgraft.method.graft.JUDGED", 30)
    monkeypatch.setattr("promptgraft.method.graft.FITTED", 60)
    tasks = [toy_task(train=rows) for rows in (60, 600)]
    grafts = [Job(task, backbone.fingerprint, "graft", 0, RECIPE) for task in tasks]
    few, many = (estimate(LocalEngine(backbone), [job]).seconds for job in grafts)
    assert many == pytest.approx(few, rel=0.05)
    few, many = (cost(job, task) for job, task in zip(grafts, tasks, strict=True))
    assert many == pytest.approx(few, rel=0.05)


@pytest.mark.usefixtures("known")
def test_no_jobs_cost_nothing(backbone: Backbone) -> None:
    said = estimate(LocalEngine(backbone), [])
    assert (said.seconds, said.lines, said.finished) == (0, (), 0)
    assert said.mebibytes > 50


@pytest.mark.usefixtures("known")
def test_what_cannot_be_run_is_said(backbone: Backbone) -> None:
    said = estimate(LocalEngine(backbone), jobs(backbone, ["pot", "linear-probe"]))
    assert "needs a source" in said.skipped["pot"]
    assert [line.label for line in said.lines] == ["linear-probe"]


def test_a_calibration_is_measured_once_a_machine(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Backbone] = []

    def measure(one: Backbone) -> Calibration:
        measured.append(one)
        return KNOWN

    monkeypatch.setattr(calibration, "measure", measure)
    cache = LocalEngine(backbone).shared.cache
    assert calibrated(backbone, cache) == calibrated(backbone, cache) == KNOWN
    assert len(measured) == 1
    assert cache.saved == 0, "a calibration is no part of what a job takes"
    monkeypatch.setattr(calibration, "machine", lambda device: "another")
    calibrated(backbone, cache)
    assert len(measured) == 2


def test_a_calibration_is_not_negative_and_survives_its_file(backbone: Backbone) -> None:
    """What is a difference of two times may be nothing: a busy machine can make either the longer one."""
    found = calibration.measure(backbone)
    assert Calibration.of(found.numbers()) == found
    assert (found.numbers() >= 0).all()
    assert torch.isfinite(found.numbers()).all()
    assert found.forward(1, 100, 10) > 0
    assert found.prompt(1, 100, 10) > 0


def test_models_without_dropout_are_measured_too(tmp_path: Path) -> None:
    """Causal and sequence-to-sequence models refuse it, and no run on them has any."""
    causal_folder(tmp_path / "causal", "llama-tied-biased")
    write_small("t5", tmp_path / "t5")
    for folder in (tmp_path / "causal", tmp_path / "t5"):
        found = calibration.measure(load_backbone(folder))
        assert found.dropout == CostLine(0, 0, 0, 0)
        assert found.prompt(1, 100, 10) > 0


@pytest.mark.usefixtures("known")
def test_the_verbs_are_estimated_by_their_names(backbone: Backbone) -> None:
    assert api.estimate("tune", toy_task(), backbone, shots=2, seeds=(0, 1)).lines[0].jobs == 2
    assert len(api.estimate("compare", toy_task(), backbone, shots=2).lines) > 3
    with pytest.raises(UsageError, match="did you mean 'tune'"):
        api.estimate("tun", toy_task(), backbone)
    with pytest.raises(UsageError, match="needs a bank"):
        api.estimate("transfer", toy_task(), backbone)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("method", ["prompt-tuning", "zero-shot"])
def test_demonstrations_chosen_for_each_row_are_counted(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two lines is a row of four words, two of the template, and two special tokens: 16 tokens a row."""
    backbone = load_backbone(masked_model(tmp_path))
    read: list[float] = []
    own = CostLine.__call__

    def noted(self: CostLine, runs: float, tokens: float, length: float) -> float:
        read.append(length)
        return own(self, runs, tokens, length)

    monkeypatch.setattr(CostLine, "__call__", noted)

    def lengths(template: str) -> list[float]:
        read.clear()
        estimate(LocalEngine(backbone), jobs(backbone, [method], 1, template=template, max_length=60))
        return list(read)

    plain, near = lengths("{text} was {mask}"), lengths("{demos:2 near}\n{text} was {mask}")
    assert [after - before for before, after in zip(plain, near, strict=True)] == [16.0] * len(plain)
    assert plain


@pytest.mark.usefixtures("known")
def test_words_that_another_model_reads_are_counted(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptgraft.engine.estimate.passes", lambda *_: CostLine(1.0, 0.0, 1e-3, 0.0))
    options, engine = {"words_model": str(masked_model(tmp_path / "speaker"))}, LocalEngine(backbone)
    seconds = {}
    for template in (
        "",
        "{text} It was {mask}.",
        "The text that follows was written by a customer: {text} It was {mask}.",
    ):
        job = jobs(backbone, ["graft"], 1, template=template)[0].replace(options=options)
        seconds[template] = estimate(engine, [job]).seconds
    alone, short, long = seconds.values()
    task = engine.task(job)
    splits = [rows for rows in task.splits.values() if rows]
    assert short - alone > len(splits) + 1e-3 * 3 * sum(map(len, splits))
    assert long - short == pytest.approx(1e-3 * 10 * sum(map(len, splits)))


def test_what_a_pass_costs_is_measured_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LocalEngine(backbone).shared.cache
    line = passes(backbone, cache)
    assert line(1, 640, 10) > 0
    monkeypatch.setattr(calibration, "_SampleWork", None)
    assert passes(backbone, cache) == line
