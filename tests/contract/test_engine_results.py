"""What keys, stores and chooses results: the same question gets one answer, and one bad run takes no other with it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import promptgraft as pg
from promptgraft import api
from promptgraft.api.jobs import choosing_job
from promptgraft.api.opening import opened, recipe_for
from promptgraft.cli.compare import chosen_rows
from promptgraft.engine import share
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.rank import rank_sources
from promptgraft.engine.result import Finished
from promptgraft.engine.store import Store
from promptgraft.errors import RunError, UsageError
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt.reading import Reading
from promptgraft.report.rows import missing
from promptgraft.report.table import plain
from promptgraft.report.verdict import intervals, noise, verdict
from promptgraft.study.compare import ROWS, is_placebo, judge
from promptgraft.study.judge import Mean, mean
from promptgraft.task.figures import FIGURES
from promptgraft.task.sampling import few_shot
from promptgraft.task.task import BY_LANGUAGE, Example, Task
from promptgraft.train.recipe import Recipe
from report_samples import LEVEL, made_comparison
from toys import tiny_model, toy_task

RECIPE = Recipe(steps=6, batch=4, length=2, evaluations=2)
EXPLODING = RECIPE.changed(rate=1e38, readout_rate=1e38, clip=0, warmup=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(folder)


@pytest.fixture(scope="module")
def source(backbone: Backbone) -> Source:
    engine = LocalEngine(backbone)
    job = make_job(backbone, recipe=RECIPE.changed(steps=20))
    [finished] = engine.run([job])
    return Source("source", make_artefact(finished, engine.view(job)))


def make_job(backbone: Backbone, method: str = "prompt-tuning", seed: int = 0, **changes: object) -> Job:
    return Job(toy_task(), backbone.fingerprint, method, seed, RECIPE).replace(**changes)


def test_no_validation_row_has_a_part_in_the_choice_of_a_source(backbone: Backbone, source: Source) -> None:
    task = toy_task()
    turned = {"negative": "positive", "positive": "negative"}
    other = tuple(Example(text=row.text, label=turned[str(row.label)]) for row in task.validation)
    flipped = task.replace(splits={**task.splits, "validation": other})
    engine = LocalEngine(backbone)
    scores = [
        rank_sources(engine, make_job(backbone, "linear-probe", task=asked), [source], ("probe",), ()).rows[0].scores
        for asked in (task, flipped)
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]["probe"].rows) == len(task.train)


WITHIN = {"validation_from": "within"}


def test_where_validation_rows_come_from_is_part_of_a_job_where_it_is_not_the_default(backbone: Backbone) -> None:
    plain, named = make_job(backbone, shots=4), make_job(backbone, shots=4, validation_from="extra")
    assert "validation_from" not in plain.describe()
    assert plain.id == named.id != make_job(backbone, shots=4, **WITHIN).id


@pytest.mark.parametrize("shots", [None, 4])
def test_within_the_labelled_rows_only_what_needs_validation_holds_some_out(
    shots: int | None, backbone: Backbone, source: Source
) -> None:
    engine = LocalEngine(backbone)
    count = 36 if shots is None else 8
    for method in ("linear-probe", "graft", "zero-shot", "prompt-tuning", "frozen-source", "pot", "model-tuning"):
        job = make_job(backbone, method, shots=shots, source=source, bank=(source,), **WITHIN)
        [finished] = engine.run([job])
        task, result = engine.task(job), finished.result
        held = len(task.validation)
        assert len(task.train) + held == result.labelled == count
        needed = method in ("prompt-tuning", "pot", "model-tuning")
        assert held == ((12 if shots is None else 2) if needed else 0)
        assert ("validation" in result.scores) is needed
        assert result.validation_from == "within"
        note = f"{method}: {held or 'none'} of {count} labelled rows held out for validation"
        assert (note in result.notes) is (method != "zero-shot"), "zero-shot reads no label"


def test_a_source_is_chosen_on_the_rows_that_its_method_trains_on(backbone: Backbone, source: Source) -> None:
    context = opened(toy_task(), backbone, {}, 4, validation_from="within")
    pot = context.job("pot", 3, source=source)
    assert context.engine.task(choosing_job(context, 3)) is context.engine.task(pot)
    with pytest.raises(UsageError, match="unknown place for validation rows 'withn'; did you mean 'within'"):
        api.compare(toy_task(), backbone, validation_from="withn")  # type: ignore[arg-type]


def test_transfer_takes_validation_out_of_the_labelled_rows_and_compare_adds_it(
    backbone: Backbone, source: Source, tmp_path: Path
) -> None:
    pg.open_bank(tmp_path / "bank", create=True).add(source.artefact, "donor")
    outcome = pg.transfer(toy_task(), backbone, tmp_path / "bank", shots=4, steps=2)
    results = {finished.result.label: finished.result for finished in (*outcome.finished, *outcome.baselines)}
    assert {result.labelled for result in results.values()} == {8}
    assert "graft: none of 8 labelled rows held out for validation" in outcome.notes
    assert not any("last step" in note for note in outcome.notes), "graft has no steps"
    rows = [("linear-probe", {}), ("prompt-tuning", {"readout": "linear"})]
    for place, labelled, validated in (("extra", 16, 2), ("within", 8, 1)):
        compared = api.compare(
            toy_task(),
            backbone,
            rows=rows,
            seeds=(0,),
            shots=4,
            steps=2,
            validation_from=place,  # type: ignore[arg-type]
        )
        assert {row.results[0].labelled for row in compared.rows} == {labelled}
        assert sum(row.validation is not None for row in compared.rows) == validated


def test_states_are_known_by_the_device_they_were_computed_on(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(share, "machine", lambda device=None: str(asked.append(device)))
    LocalEngine(backbone).shared.describe(["a good film"], "mean")
    assert asked == [backbone.device]


@pytest.mark.parametrize("metric", sorted(FIGURES))
def test_a_task_is_known_by_its_language_where_its_metric_is(metric: str) -> None:
    kinds = {"em_f1": "span", "span_f1": "tagging", "pearson_spearman": "regression"}
    kinds |= dict.fromkeys(("micro_f1", "macro_f1"), "multilabel")
    task = toy_task(kinds.get(metric, "classification")).replace(metric=metric)  # type: ignore[arg-type]
    one, other = task.replace(language="en"), task.replace(language="zh")
    assert (one.fingerprint != other.fingerprint) == (metric in BY_LANGUAGE)


@pytest.mark.parametrize("kind", ["classification", "pair", "regression", "choice", "tagging", "span"])
def test_a_recipe_is_for_as_many_rows_as_are_drawn(backbone: Backbone, kind: str) -> None:
    task = toy_task(kind, train=700, validation=700)  # type: ignore[arg-type]
    for shots in (3, 16, 40):
        drawn = few_shot(task, shots, 0)
        whole = task.replace(splits={**task.splits, "train": drawn.train})
        assert recipe_for(backbone, task, shots, {}) == recipe_for(backbone, whole, None, {})


def test_a_job_of_another_backbone_is_refused(backbone: Backbone) -> None:
    with pytest.raises(RunError, match="is a job of another backbone"):
        list(LocalEngine(backbone).run([make_job(backbone).replace(backbone="f" * 64)]))


@pytest.mark.parametrize("weight", ["0", "0.0", "0e0", "-0"])
def test_a_run_without_its_term_is_a_placebo_however_that_is_written(weight: str) -> None:
    (row,) = made_comparison((0,), [("panda", {"mode": "released", "weight": weight})]).rows
    assert is_placebo(row.results[0])
    assert missing(row) == "no teacher: the same run without the term"


def test_only_the_methods_that_are_named_are_compared() -> None:
    assert chosen_rows(None) is None
    assert chosen_rows("pot") == [row for row in ROWS if row[0] == "pot"]
    assert chosen_rows("setfit, linear-probe") == [("setfit", {}), ("linear-probe", {})]
    for text in ("", " , "):
        with pytest.raises(UsageError, match=r"names no method; known: .*linear-probe"):
            chosen_rows(text)


def test_no_rows_are_no_jobs(backbone: Backbone) -> None:
    with pytest.raises(RunError, match="no method could be run"):
        api.compare(toy_task(), backbone, rows=[], seeds=(0,))


def test_training_a_carried_run_loses_nothing_on_validation(backbone: Backbone, source: Source) -> None:
    worse = RECIPE.changed(steps=20, rate=50.0, readout_rate=50.0, clip=0)
    job = make_job(backbone, "pot", source=source, options={"readout": "keep"}, recipe=worse)
    [finished] = LocalEngine(backbone).run([job])
    assert finished.history[0].keys() == {"step", "validation", "validation_loss"}
    assert finished.result.scores["validation"]["score"] >= finished.history[0]["validation"]
    assert finished.result.steps == 20


def test_a_start_that_nothing_beats_is_kept(backbone: Backbone, source: Source) -> None:
    ruined = RECIPE.changed(steps=10, rate=1e4, readout_rate=1e4, clip=0, warmup=0.0)
    job = make_job(backbone, "pot", source=source, options={"readout": "keep"}, recipe=ruined)
    [finished] = LocalEngine(backbone).run([job])
    best = max(row["validation"] for row in finished.history if "validation" in row)
    assert finished.result.scores["validation"]["score"] == pytest.approx(best)
    assert finished.result.best_step == 0
    assert finished.tuned is not None
    assert finished.tuned.prompt is not None
    assert source.artefact.prompt is not None
    assert torch.equal(finished.tuned.prompt.values, source.artefact.prompt.values)


def test_a_run_from_scratch_starts_at_step_1(backbone: Backbone) -> None:
    [finished] = LocalEngine(backbone).run([make_job(backbone)])
    assert finished.history[0]["step"] == 1


def with_one_that_explodes(backbone: Backbone) -> list[Job]:
    good = [make_job(backbone, seed=seed) for seed in range(3)]
    return [*good, make_job(backbone, seed=7, recipe=EXPLODING)]


@pytest.mark.parametrize("kept", [False, True], ids=["in memory", "in a folder"])
def test_a_loss_that_is_not_finite_takes_no_other_run_with_it(kept: bool, backbone: Backbone, tmp_path: Path) -> None:
    jobs = with_one_that_explodes(backbone)
    engine = LocalEngine(backbone, store=Store(tmp_path) if kept else None)
    finished = {result.job.id: result for result in engine.run(jobs, skip=True)}
    assert set(finished) == {job.id for job in jobs[:3]}
    assert list(engine.problems) == [jobs[3].id]
    assert engine.skipped.keys() == {"prompt-tuning"}
    assert "the loss is nan at step" in engine.skipped["prompt-tuning"] or "inf" in engine.skipped["prompt-tuning"]
    for job in jobs[:3]:
        [alone] = LocalEngine(backbone).run([job])
        assert alone.tuned is not None
        assert alone.tuned.prompt is not None
        together = finished[job.id].tuned
        assert together is not None
        assert together.prompt is not None
        assert torch.allclose(together.prompt.values, alone.tuned.prompt.values, atol=1e-4)


def test_a_failure_is_kept_and_shown_and_not_computed_again(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = with_one_that_explodes(backbone)
    first = LocalEngine(backbone, store=Store(tmp_path))
    list(first.run(jobs, skip=True))
    again = LocalEngine(backbone, store=Store(tmp_path))
    monkeypatch.setattr("promptgraft.engine.local.train", lambda *_, **__: pytest.fail("trained again"))
    assert len(list(again.run(jobs, skip=True))) == 3
    assert again.skipped["prompt-tuning"].startswith(first.skipped["prompt-tuning"])
    monkeypatch.undo()
    monkeypatch.setattr("promptgraft.engine.store.version_of_results", lambda: "another")
    assert Store(tmp_path).failure(jobs[3]) is None, "another version tries again"


def test_without_skip_the_rest_is_run_before_the_error(backbone: Backbone, tmp_path: Path) -> None:
    jobs = with_one_that_explodes(backbone)
    seen: list[Finished] = []
    with pytest.raises(RunError, match=r"seed 7.*the loss is (nan|inf).*3 of 4 jobs were run") as caught:
        seen.extend(LocalEngine(backbone, store=Store(tmp_path)).run(jobs))
    assert "\n" not in str(caught.value)
    assert len(seen) <= 3
    assert all(Store(tmp_path).finished(job) is not None for job in jobs[:3])


def test_tune_keeps_the_seeds_that_went_well(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    real = LocalEngine.view

    def view(self: LocalEngine, job: Job) -> object:
        if job.seed == 1:
            raise RunError("seed 1 is out of order")
        return real(self, job)

    monkeypatch.setattr(LocalEngine, "view", view)
    outcome = pg.tune(toy_task(), backbone, seeds=(0, 1, 2), **RECIPE.model_dump(exclude={"arithmetic"}))
    assert [finished.job.seed for finished in outcome.finished] == [0, 2]
    assert any("seed 1 is out of order" in note for note in outcome.notes)
    with pytest.raises(RunError, match="seed 1 is out of order"):
        pg.tune(toy_task(), backbone, seeds=(1,))


def test_what_a_job_needs_finished_is_counted(backbone: Backbone, source: Source, tmp_path: Path) -> None:
    released = make_job(backbone, "panda", source=source, options={"mode": "released"})
    pot = make_job(backbone, "pot", source=source, options={"readout": "new"})
    for turn in ("computed", "kept"):
        engine = LocalEngine(backbone, store=Store(tmp_path / "run"))
        results = {finished.job.id: finished.result for finished in engine.run([released, pot])}
        assert results[pot.id].required_seconds == 0
        assert results[released.id].required_seconds == pytest.approx(results[pot.id].seconds, abs=2e-3), turn
    rows, _ = judge(list(LocalEngine(backbone, store=Store(tmp_path / "run")).run([released])))
    assert rows[0].seconds == results[released.id].seconds + results[released.id].required_seconds


def test_work_that_is_found_done_counts_as_when_it_was_done(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptgraft.engine.cache.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("promptgraft.engine.cache.READ_BYTES", 1e18)
    task = toy_task()
    for turn in range(2):
        engine = LocalEngine(backbone)
        tokens = engine.shared.tokens(task.train, task.kind, Reading("mean"), 128, task.name)
        engine.shared.states(tokens, None, "mean")
        before = engine.shared.saved
        assert (before > 0) == (turn == 1), "the second engine finds the first one's file"
        engine.shared.states(tokens, None, "mean")
        assert engine.shared.saved > before, "and itself the states in memory"


def test_results_of_several_versions_are_not_mixed_without_a_word(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [make_job(backbone, "linear-probe", seed) for seed in range(2)]
    monkeypatch.setattr("promptgraft.engine.local.version_of_results", lambda: "0.0+old")
    old = LocalEngine(backbone, store=Store(tmp_path))
    [first] = old.run(jobs[:1])
    assert first.result.version == "0.0+old"
    assert not old.notes()
    monkeypatch.undo()
    engine = LocalEngine(backbone, store=Store(tmp_path))
    list(engine.run(jobs))
    (note,) = engine.notes()
    assert "2 versions of promptgraft (0.0+old, " in note


def without(task: Task, *splits: str) -> Task:
    return task.replace(splits={name: () if name in splits else rows for name, rows in task.splits.items()})


@pytest.mark.parametrize("splits", [("test",), ("validation", "test")], ids=["no test", "neither"])
def test_without_test_rows_there_is_what_there_is(splits: tuple[str, ...], backbone: Backbone, tmp_path: Path) -> None:
    task = without(toy_task(train=4), *splits)
    rows = [("linear-probe", {}), ("prompt-tuning", {"readout": "linear"})]
    compared = api.compare(task, backbone, rows=rows, seeds=(0, 1), steps=2)
    assert [row.test for row in compared.rows] == [None, None]
    assert "linear-probe" in plain(compared)
    if "validation" not in splits:
        assert any("no test rows" in sentence for sentence in verdict(compared))
    from promptgraft.report.compare import write

    assert all(path.stat().st_size for path in write(compared, tmp_path, "promptgraft compare").values())
    outcome = pg.tune(task, backbone, seeds=(0, 1), steps=2)
    assert any(note.startswith("no test rows") for note in outcome.notes)


WRITER = """
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.store import Store
from promptgraft.model.load import load_backbone
from promptgraft.method.job import Job
from promptgraft.train.recipe import Recipe
from toys import toy_task
backbone = load_backbone(sys.argv[1])
job = Job(toy_task(), backbone.fingerprint, "prompt-tuning", 0, Recipe(steps=1, batch=4, length=2, evaluations=1))
engine = LocalEngine(backbone)
[finished] = engine.run([job])
artefact = make_artefact(finished, engine.view(job))
for _ in range(20):
    Store(Path(sys.argv[2])).save(finished, artefact)
"""


def test_writers_of_one_job_wait_for_each_other(folder: Path, tmp_path: Path, root: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(folder), str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=root / "tests", stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    (kept,) = (tmp_path / "jobs").iterdir()
    assert {path.name for path in kept.iterdir()} == {"artefact", "history.csv", "job.json", "result.json"}


def test_a_run_folder_is_one_calls_alone(backbone: Backbone, tmp_path: Path) -> None:
    first = LocalEngine(backbone, store=Store(tmp_path)).run(
        [make_job(backbone, "linear-probe", seed) for seed in (0, 1)]
    )
    next(first)
    command = (
        "import sys; from pathlib import Path; from promptgraft.engine.store import Store\n"
        "with Store(Path(sys.argv[1])).alone(): pass"
    )
    call = [sys.executable, "-c", command, str(tmp_path)]
    refused = subprocess.run(call, capture_output=True, text=True, check=False)
    assert "another call works in this run folder; wait until it has ended" in refused.stderr
    list(first)
    subprocess.run(call, check=True)


def test_seeds_are_checked(backbone: Backbone) -> None:
    for seeds, message in [((), "no seed was given"), ((-1,), "seed -1"), ((2**40,), "seed 1099511627776")]:
        with pytest.raises(UsageError, match=message):
            pg.tune(toy_task(), backbone, seeds=seeds)
        with pytest.raises(UsageError, match=message):
            api.compare(toy_task(), backbone, seeds=seeds)


def test_a_row_that_does_not_fit_beside_its_prompt_is_refused_before_training(backbone: Backbone) -> None:
    long = " ".join(["good"] * 200)
    task = toy_task()
    task = task.replace(splits={**task.splits, "test": (*task.test, Example(text=long, label="positive"))})
    for changes in ({"depth": "shallow"}, {"placement": "peft"}):
        job = make_job(backbone, task=task, recipe=RECIPE.changed(max_length=backbone.max_length, **changes))
        with pytest.raises(RunError, match=rf"use max_length {backbone.max_length - RECIPE.length}"):
            list(LocalEngine(backbone).run([job]))
    deep = make_job(backbone, task=task, recipe=RECIPE.changed(max_length=backbone.max_length))
    assert list(LocalEngine(backbone).run([deep]))


@pytest.mark.parametrize("kind", ["classification", "multilabel", "pair", "choice", "tagging", "span", "regression"])
def test_a_teacher_is_asked_about_unlabelled_rows_of_any_width(kind: str, backbone: Backbone) -> None:
    task = toy_task(kind)  # type: ignore[arg-type]
    donor = make_job(backbone, task=toy_task(kind, seed=3))  # type: ignore[arg-type]
    engine = LocalEngine(backbone)
    [given] = engine.run([donor])
    source = Source("donor", make_artefact(given, engine.view(donor)))
    widened = [dataclasses.replace(row, label=None) for row in task.test]
    if kind == "choice":
        widened.append(Example(text="the film was", choices=("good", "bad", "poor", "awful", "fine", "great")))
    if kind == "span":
        widened.append(Example(text="was a film", pair=" ".join(["good film"] * 20)))
    job = make_job(backbone, "panda", task=task, source=source, unlabelled=tuple(widened))
    if kind == "span":
        job = job.replace(options={"teacher": "self"})  # the others are probes, which no span has
    [finished] = LocalEngine(backbone).run([job])
    assert "score" in finished.result.scores["test"]


def test_numbers_as_labels_stand_for_each_other_only_where_that_is_said(backbone: Backbone) -> None:
    def numbered(seed: int) -> Task:
        task = toy_task(seed=seed)
        names = {"negative": "0", "positive": "1"}
        splits = {
            split: tuple(Example(text=row.text, label=names[str(row.label)]) for row in rows)
            for split, rows in task.splits.items()
        }
        return task.replace(name=f"numbered {seed}", labels={"0": "0", "1": "1"}, splits=splits)

    engine = LocalEngine(backbone)
    donor = make_job(backbone, task=numbered(3), options={"readout": "linear"})
    [given] = engine.run([donor])
    source = Source("donor", make_artefact(given, engine.view(donor)))
    job = make_job(backbone, "pot", task=numbered(0), source=source, options={"readout": "keep"})
    with pytest.raises(RunError, match=r"no source label for 0, 1 .*map every label to a source label"):
        list(LocalEngine(backbone).run([job]))
    mapped = job.replace(options={"readout": "keep", "label-map": "0=0,1=1"})
    assert list(LocalEngine(backbone).run([mapped]))


def test_an_interval_of_a_share_is_a_share(backbone: Backbone) -> None:
    for row in made_comparison((0, 1), ROWS[:2], noise=2.0, levels=dict.fromkeys(LEVEL, 90.0)).rows:
        assert row.test is not None
        assert row.test.low is not None
        assert row.test.high is not None
        assert 0 <= row.test.low <= row.test.value <= row.test.high <= 100
    assert "2 seeds know little of their own spread" in intervals(made_comparison((0, 1)))
    assert "know little" not in intervals(made_comparison())


@pytest.mark.parametrize(("rare", "metric", "noted"), [(1, "accuracy", True), (6, "accuracy", False), (1, "f1", False)])
def test_a_score_that_one_class_explains_is_said_to(rare: int, metric: str, noted: bool, backbone: Backbone) -> None:
    task = toy_task(train=200, test=200)
    splits = {}
    for split, rows in task.splits.items():
        good = [row for row in rows if row.label == "positive"][:12]
        splits[split] = (*good, *[row for row in rows if row.label == "negative"][:rare])
    lopsided = task.replace(splits=splits, metric=metric)
    outcome = pg.tune(lopsided, backbone, method="linear-probe")
    share = 100 * 12 / (12 + rare)
    wanted = f"toy-classification: {share:.1f} % of the test rows are 'positive', which is what always answering it"
    assert any(note.startswith(wanted) and "macro_recall" in note for note in outcome.notes) == noted


def test_validation_scores_of_two_kinds_are_said_to_be() -> None:
    sentence = "is the best of 10 looks or fewer"
    assert sentence in intervals(made_comparison())
    assert sentence not in intervals(made_comparison(rows=[("prompt-tuning", {"readout": "linear"})]))


def test_what_python_users_write_is_taken_or_refused_in_one_line(backbone: Backbone, source: Source) -> None:
    outcome = pg.tune(toy_task(), backbone, method="linear-probe", seeds=2)
    assert [finished.job.seed for finished in outcome.finished] == [0, 1]
    job = make_job(backbone, "linear-probe")
    assert rank_sources(LocalEngine(backbone), job, [source], "probe", ()).measures == ("probe",)
    with pytest.raises(UsageError, match=r"no measure was named; known: label-text, probe, task-embedding"):
        rank_sources(LocalEngine(backbone), job, [source], (), ())
    with pytest.raises(UsageError, match=r"measure 'probe' with seed -1; give 0 or more"):
        rank_sources(LocalEngine(backbone), job, [source], ("probe:seed=-1",), ())


def test_another_runs_artefact_is_not_replaced_without_a_word(backbone: Backbone, tmp_path: Path) -> None:
    first = pg.tune(toy_task(), backbone, method="linear-probe", out=tmp_path)
    again = pg.tune(toy_task(), backbone, method="linear-probe", out=tmp_path)
    other = pg.tune(toy_task(), backbone, method="linear-probe", out=tmp_path, shots=4)
    assert not any("is replaced" in note for note in (*first.notes, *again.notes))
    assert any("artefact is replaced: it was linear-probe on all rows" in note for note in other.notes)


def test_fewer_rows_than_were_asked_for_is_said(backbone: Backbone) -> None:
    outcome = pg.tune(toy_task(), backbone, method="linear-probe", shots=500)
    assert any(note.startswith("toy-classification, train: fewer than 500 rows: ") for note in outcome.notes)


def test_equal_scores_of_seeds_have_no_interval() -> None:
    assert (mean([80.0, 80.0]).low, mean([80.0, 80.0]).high) == (None, None)
    assert noise(Mean(5.0, 1.0, 9.0, 2)) == "2 seeds cannot say whether that is more than noise"
    assert noise(Mean(5.0, 1.0, 9.0, 3)) == "clear of noise"


@pytest.mark.parametrize(
    ("seeds", "said"), [((0, 1), "By two seeds no difference is called"), ((0, 1, 2), "leaves out 0")]
)
def test_what_is_clear_of_noise_is_said_as_it_is_judged(seeds: tuple[int, ...], said: str) -> None:
    text = intervals(made_comparison(seeds))
    assert said in text
    assert ("leaves out 0" in text) == (len(seeds) > 2)


@pytest.mark.parametrize(("name", "near"), [("shot", "shots"), ("methods", "method"), ("step", "steps")])
def test_an_argument_that_is_none_is_met_with_the_nearest(name: str, near: str, backbone: Backbone) -> None:
    with pytest.raises(UsageError, match=rf"unknown argument '{name}'; did you mean '{near}'\?"):
        pg.tune(toy_task(), backbone, **{name: 4})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verb", "given", "line"),
    [
        (
            pg.tune,
            {"readout": "linear"},
            r"'readout' is an option of prompt-tuning, .*; give options={'readout': ...}$",
        ),
        (
            pg.tune,
            {"label_map": {"a": "b"}},
            r"'label_map' is an option of panda, pot, zero-shot, .*; "
            r"give options={'label_map': ...}, with one of these methods$",
        ),
        (
            pg.compare,
            {"readout": "linear"},
            r"'readout' is an option of .*; give rows=\[\('pot', {'readout': ...}\)\]$",
        ),
    ],
)
def test_an_argument_that_is_an_option_of_a_method_says_where_to_give_it(
    verb: Callable[..., Any], given: dict[str, object], line: str, backbone: Backbone
) -> None:
    with pytest.raises(UsageError, match=line):
        verb(toy_task(), backbone, **given)


@pytest.mark.parametrize(("source", "method"), [("one", "pot"), ("auto", "pot, prompt-tuning, zero-shot")])
def test_the_options_of_a_transfer_are_those_of_the_method_that_it_takes(
    source: str, method: str, backbone: Backbone
) -> None:
    for verb in (pg.transfer, partial(pg.estimate, "transfer")):
        with pytest.raises(UsageError, match=rf"^'readout' is an option of {method}, not an argument; give options="):
            verb(toy_task(), backbone, "starter", source=source, readout="linear")


def test_an_argument_of_another_verb_is_not_its_own_nearest(backbone: Backbone) -> None:
    with pytest.raises(UsageError, match=r"unknown argument 'source'; (?!did you mean 'source')"):
        pg.tune(toy_task(), backbone, source="one")
