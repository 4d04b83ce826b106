"""K runs trained in one packed batch are K runs trained alone; and what the engine computes, it computes once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.share import Shared
from promptgraft.engine.store import Store
from promptgraft.engine.view import JobView
from promptgraft.method.all import find, methods
from promptgraft.method.job import Job, Source
from promptgraft.method.panda import Panda
from promptgraft.method.pot import PoT
from promptgraft.method.prompt_tuning import PromptTuning
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import PACKED, load_backbone
from promptgraft.prompt.reading import Reading
from promptgraft.train.loop import train
from promptgraft.train.predict import Question, answer, answer_one
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Run, Trained
from toys import tiny_model, toy_task

FAMILIES = tuple(dict.fromkeys(PACKED.values()))
ON_EVERY_PATH = [pytest.param(family, marks=[pytest.mark.every_path] * (family == "bert")) for family in FAMILIES]
RECIPE = Recipe(steps=1, batch=8, length=3, evaluations=1, warmup=0, clip=0)


@pytest.fixture(scope="module")
def backbones(each_path: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    folder = tmp_path_factory.mktemp("models")
    return {family: load_backbone(tiny_model(folder / family, family)) for family in FAMILIES}


@pytest.fixture
def backbone(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["bert"]


@pytest.fixture(scope="module")
def source(backbones: dict[str, Backbone]) -> Source:
    engine = LocalEngine(backbones["bert"])
    job = Job(toy_task(seed=9), engine.backbone.fingerprint, "prompt-tuning", 0, RECIPE)
    [done] = engine.run([job])
    return Source("toy-source", make_artefact(done, engine.view(job)))


def prepared(backbone: Backbone, depth: str = "deep", placement: str = "after_cls") -> list[Run]:
    """Runs of other targets, kinds, readouts, seeds, lengths and parameterisations, all of which can share a batch."""
    base = RECIPE.changed(depth=depth, placement=placement)
    jobs = [
        Job(toy_task(), backbone.fingerprint, "prompt-tuning", 0, base),
        Job(
            toy_task(),
            backbone.fingerprint,
            "prompt-tuning",
            1,
            base.changed(length=5),
            None,
            None,
            {"readout": "linear"},
        ),
        Job(toy_task("pair"), backbone.fingerprint, "prompt-tuning", 2, base.changed(length=1, batch=5)),
        Job(toy_task("regression", seed=4), backbone.fingerprint, "prompt-tuning", 3, base.changed(rate=1e-3)),
        Job(toy_task("choice"), backbone.fingerprint, "prompt-tuning", 4, base.changed(parameterisation="mlp")),
    ]
    engine = LocalEngine(backbone)
    runs = [find(job.method).setup(job, engine.view(job)) for job in jobs]
    assert len({run.pack for run in runs if isinstance(run, Run)}) == 1
    return [run for run in runs if isinstance(run, Run)]


class Gradients:
    """What the loop saves after its one step: AdamW's first moment is then a tenth of the gradient."""

    def __init__(self) -> None:
        self.saved: dict[str, dict[str, Tensor]] = {}

    def is_time(self) -> bool:
        return True

    def load(self, runs: list[str]) -> dict[str, object]:
        return {}

    def save(self, runs: dict[str, tuple[dict[str, Tensor], object]]) -> None:
        for name, (tensors, _) in runs.items():
            self.saved[name] = {key: value.clone() for key, value in tensors.items() if key.endswith("exp_avg")}


@pytest.mark.parametrize("family", ON_EVERY_PATH)
@pytest.mark.parametrize(("depth", "placement"), [("deep", "after_cls"), ("shallow", "after_cls"), ("shallow", "peft")])
def test_packed_gradients_are_those_of_each_alone(
    family: str, depth: str, placement: str, backbones: dict[str, Backbone]
) -> None:
    backbone = backbones[family]
    packed, alone = Gradients(), Gradients()
    together = train(backbone, prepared(backbone, depth, placement), checkpoints=packed)  # type: ignore[arg-type]
    for number, one in enumerate(prepared(backbone, depth, placement)):
        [single] = train(backbone, [one], checkpoints=alone)  # type: ignore[arg-type]
        gradient, theirs = flat(alone.saved[one.name]), flat(packed.saved[one.name])
        assert gradient.norm() > 0
        assert (theirs - gradient).norm() <= 1e-5 * gradient.norm()
        same_loss(single, together[number])


def flat(saved: dict[str, Tensor]) -> Tensor:
    """The gradient of all that a run trains."""
    return torch.cat([value.flatten() for _, value in sorted(saved.items())])


def same_loss(one: Trained, other: Trained) -> None:
    assert one.history[0]["loss"] == pytest.approx(other.history[0]["loss"], rel=1e-5)


@pytest.mark.parametrize("family", ON_EVERY_PATH)
def test_a_batch_is_its_rows_one_by_one(family: str, backbones: dict[str, Backbone]) -> None:
    backbone = backbones[family]
    engine = LocalEngine(backbone)
    job = Job(toy_task(), backbone.fingerprint, "prompt-tuning", 0, RECIPE.changed(steps=4))
    [done] = engine.run([job])
    assert done.tuned is not None
    tokens = engine.view(job).tokens("test", Reading("mean"))
    with torch.no_grad():
        batch = answer_one(backbone, done.tuned, tokens)
        single = [answer_one(backbone, done.tuned, tokens.select(torch.tensor([row]))) for row in range(tokens.count)]
    torch.testing.assert_close(batch, torch.cat(single), rtol=1e-5, atol=1e-5)


def test_runs_of_other_kinds_do_not_share_a_batch(backbone: Backbone) -> None:
    engine = LocalEngine(backbone)
    jobs = [
        Job(toy_task(), backbone.fingerprint, "prompt-tuning", 0, RECIPE),
        Job(toy_task(), backbone.fingerprint, "prompt-tuning", 0, RECIPE.changed(depth="shallow")),
        Job(toy_task("tagging"), backbone.fingerprint, "prompt-tuning", 0, RECIPE),
        Job(toy_task(), backbone.fingerprint, "model-tuning", 0, RECIPE),
        Job(toy_task(), backbone.fingerprint, "model-tuning", 1, RECIPE),
    ]
    runs = [find(job.method).setup(job, engine.view(job)) for job in jobs]
    assert len({run.pack for run in runs if isinstance(run, Run)}) == len(jobs)


def test_each_job_comes_once(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [Job(toy_task(), backbone.fingerprint, "prompt-tuning", seed % 2, RECIPE) for seed in range(4)]
    store, set_up = Store(tmp_path), Counter[str]()
    watch(monkeypatch, set_up)
    first = list(LocalEngine(backbone, store=store).run(jobs))
    assert [one.job.id for one in first] == [jobs[0].id, jobs[1].id]
    assert sorted(set_up.values()) == [1, 1]
    second = list(LocalEngine(backbone, store=store).run(jobs))
    assert sorted(set_up.values()) == [1, 1], "a kept result was computed again"
    assert [one.result for one in second] == [one.result for one in first]


def watch(monkeypatch: pytest.MonkeyPatch, seen: Counter[str]) -> None:
    """Count the set-ups of each job."""
    for kind in {type(method) for method in methods().values()} | {PromptTuning, PoT, Panda}:
        real = kind.setup

        def counted(self: object, job: Job, view: JobView, real: object = real) -> object:
            seen[job.id] += 1
            return real(self, job, view)  # type: ignore[operator]

        monkeypatch.setattr(kind, "setup", counted)


def test_what_jobs_require_is_computed_once(
    backbone: Backbone, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two placebos of PANDA need the same PoT model; prompt tuning from scratch is asked for and required."""
    options = [{"mode": "released"}, {"mode": "released", "teacher": "shuffled"}, {"mode": "paper"}]
    jobs = [Job(toy_task(), backbone.fingerprint, "panda", 0, RECIPE, None, source, one) for one in options]
    scratch = Job(toy_task(), backbone.fingerprint, "prompt-tuning", 0, RECIPE, None, None, {"readout": "linear"})
    seen = Counter[str]()
    watch(monkeypatch, seen)
    finished = list(LocalEngine(backbone).run([*jobs, scratch]))
    assert {one.job.id for one in finished} == {job.id for job in [*jobs, scratch]}
    assert set(seen.values()) == {1}
    assert len(seen) == 5  # the four that were asked for, and the PoT model


def test_frozen_states_are_computed_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[object]()
    real = Shared._keep

    def counted(self: Shared, key: object, alive: object, make):  # type: ignore[no-untyped-def]
        def once() -> Tensor:
            calls[key] += 1
            return make()

        return real(self, key, alive, once)  # type: ignore[arg-type]

    monkeypatch.setattr(Shared, "_keep", counted)
    jobs = [Job(toy_task(), backbone.fingerprint, "linear-probe", seed, RECIPE) for seed in range(3)]
    assert len(list(LocalEngine(backbone).run(jobs))) == 3
    assert calls
    assert set(calls.values()) == {1}


def test_a_result_does_not_depend_on_what_was_run_before(backbone: Backbone) -> None:
    """The whole training split, no validation split: its draw must be the job's own, whichever job came first."""
    task = toy_task(train=40, validation=0)
    jobs = [Job(task, backbone.fingerprint, "prompt-tuning", seed, RECIPE.changed(steps=3)) for seed in range(2)]
    after = list(LocalEngine(backbone).run(jobs))[1]
    [alone] = LocalEngine(backbone).run(jobs[1:])
    assert after.result.scores == alone.result.scores
    engine = LocalEngine(backbone)
    list(engine.run(jobs[:1]))
    assert engine.task(jobs[1]).fingerprint == LocalEngine(backbone).task(jobs[1]).fingerprint


def test_a_second_fit_forgets_the_first(backbone: Backbone) -> None:
    job = Job(toy_task(), backbone.fingerprint, "prompt-tuning", 0, RECIPE.changed(steps=3))
    engine = LocalEngine(backbone)
    digests = []
    for _ in range(2):
        [done] = engine.run([job])
        digests.append(make_artefact(done, engine.view(job)).digest)
    assert digests[0] == digests[1]


def test_a_released_teacher_stays_as_it_was(backbone: Backbone, source: Source) -> None:
    """The PoT model that PANDA distils: the same bits before and after, and no gradient."""
    job = Job(toy_task(), backbone.fingerprint, "panda", 0, RECIPE.changed(steps=5), None, source, {"mode": "released"})
    engine = LocalEngine(backbone)
    [pot] = [one for one in find("panda").requires(job) if one.method == "pot"]
    list(engine.run([pot]))
    teacher = engine.view(job).finished(pot)
    assert teacher.prompt is not None
    before = [teacher.prompt.values.clone(), *(value.clone() for value in teacher.readout.state().values())]
    run = find("panda").setup(job, engine.view(job))
    assert isinstance(run, Run)
    train(backbone, [run])
    after = [teacher.prompt.values, *teacher.readout.state().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(value.grad is None for value in teacher.readout.parameters().values())


def test_a_paper_teacher_is_in_evaluation_mode(backbone: Backbone, source: Source) -> None:
    """Its scores are those of a plain forward of the source prompt, without dropout, for every row."""
    job = Job(toy_task(), backbone.fingerprint, "panda", 0, RECIPE, None, source, {"similarity": "one"})
    engine = LocalEngine(backbone)
    run = find("panda").setup(job, engine.view(job))
    assert isinstance(run, Run)
    assert run.dropout == 0
    recorded = run.terms[0].teacher.scores  # type: ignore[attr-defined]
    assert not recorded.requires_grad
    [probe] = engine.run([job.replace(method="frozen-source", options={})])
    assert probe.tuned is not None
    with torch.no_grad():
        plain = answer_one(backbone, probe.tuned, engine.view(job).tokens("train", Reading("mean")))
    torch.testing.assert_close(recorded, plain, rtol=1e-5, atol=1e-5)


def test_models_that_read_differently_can_be_asked_together(backbone: Backbone) -> None:
    task = toy_task()
    engine = LocalEngine(backbone)
    recipes = [
        RECIPE.changed(depth=depth, pooling=pooling) for depth in ("deep", "shallow") for pooling in ("cls", "mean")
    ]
    jobs = [Job(task, backbone.fingerprint, "prompt-tuning", 0, recipe) for recipe in recipes]
    jobs += [
        Job(task, backbone.fingerprint, method, 0, recipe)
        for method in ("linear-probe", "model-tuning")
        for recipe in recipes[:2]
    ]
    models = [finished.tuned for finished in engine.run(jobs)]
    tokens = backbone.tokenize(task.test, task.kind, Reading("mean"), max_length=32)
    questions = [Question(model, tokens) for model in models if model is not None]
    assert len(questions) == len(jobs)
    for together, question in zip(answer(backbone, questions), questions, strict=True):
        assert torch.allclose(together, answer_one(backbone, question.tuned, tokens), atol=1e-5)
