"""The verbs of the command line for Python: tune, rank, transfer, compare, estimate, load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from promptgraft.bank.bank import Bank, open_bank
from promptgraft.engine.estimate import Estimate
from promptgraft.engine.estimate import estimate as estimate_jobs
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import Event, LocalEngine
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.rank import Ranking, candidates, rank_sources
from promptgraft.engine.result import Finished
from promptgraft.engine.store import Store
from promptgraft.errors import ArtefactError, RunError, UsageError, unknown
from promptgraft.method.job import Job, Source, row_label
from promptgraft.method.method import check
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.model.load import DType, load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.card import BackboneCard, TaskCard
from promptgraft.prompt.peft import export_peft, import_peft
from promptgraft.study.compare import Comparison, judge, plan, repeated, rows_here
from promptgraft.task.load import load_task, read_texts
from promptgraft.task.sampling import cap
from promptgraft.task.task import Example, Task
from promptgraft.train.recipe import Recipe, default_recipe

Progress = Callable[[Event], None]
ARTEFACT = "artefact"
ARITHMETICS: tuple[DType, ...] = ("auto", "fp32", "bf16")
DEVICES: tuple[DeviceName, ...] = ("auto", "cpu", "cuda")
ESTIMATED = ("tune", "transfer", "compare")


@dataclass(frozen=True)
class Outcome:
    """What `tune` and `transfer` give: every seed's result, and the model validation chooses.

    Attributes:
        baselines: results of the honest alternatives that were run beside them.
        notes: what was inferred, cut, sampled or chosen.
    """

    finished: tuple[Finished, ...]
    best: Finished
    artefact: Artefact
    predictor: Predictor
    baselines: tuple[Finished, ...] = ()
    notes: tuple[str, ...] = ()


def open_task(task: Task | str | Path, *, test_rows: int | None = None, seed: int = 13, **columns: Any) -> Task:
    """A task as it is, or loaded; `test_rows` caps its test split."""
    loaded = task if isinstance(task, Task) else load_task(task, seed=seed, **columns)
    return loaded if test_rows is None else cap(loaded, "test", test_rows, seed)


def open_model(model: Backbone | str | Path, arithmetic: object = "auto", device: DeviceName = "auto") -> Backbone:
    """A backbone as it is, or loaded by name or folder.

    Args:
        arithmetic: `fp32`, `bf16`, or `auto`: the one that is fastest here.
        device: `cpu`, `cuda`, or `auto`: the GPU where there is one.
    Raises:
        UsageError: another arithmetic or device, or one that a loaded backbone does not have.
    """
    wanted = next((name for name in ARITHMETICS if name == arithmetic), None)
    if wanted is None:
        raise unknown("arithmetic", str(arithmetic), ARITHMETICS)
    if device not in DEVICES:
        raise unknown("device", str(device), DEVICES)
    if isinstance(model, str | Path):
        return load_backbone(model, dtype=wanted, device=device)
    if wanted not in ("auto", model.arithmetic):
        raise UsageError(f"{model.name} was loaded in {model.arithmetic}, not {wanted}", do="load it anew")
    if device not in ("auto", model.device.type):
        raise UsageError(f"{model.name} was loaded on {model.device.type}, not {device}", do="load it anew")
    return model


def as_bank(bank: Bank | str | Path, *, create: bool = False) -> Bank:
    """A bank as it is, or opened by its folder's path or its name (`starter`)."""
    return bank if isinstance(bank, Bank) else open_bank(bank, create=create)


def recipe_for(backbone: Backbone, task: Task, shots: int | None, given: Mapping[str, object]) -> Recipe:
    """The default recipe for the size of the job, with the given values put in.

    Raises:
        UsageError: a name or a value that a recipe does not have.
    """
    for name in given:
        if name not in Recipe.model_fields:
            raise unknown("part of the recipe", name, Recipe.model_fields)
    rows = len(task.train) if shots is None else shots * max(2, len(task.classes))
    try:
        return default_recipe(backbone, rows, task.kind).changed(**{**given, "arithmetic": backbone.arithmetic})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{first['loc'][0]} {first['input']}: {first['msg']}", do="see promptgraft tune --help"
        ) from None


def tune(
    task: Task | str | Path,
    model: Backbone | str | Path,
    *,
    method: str = "prompt-tuning",
    options: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    bank: Bank | str | Path | None = None,
    name: str | None = None,
    shots: int | None = None,
    seeds: Sequence[int] = (0,),
    test_rows: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Outcome:
    """Tune a task from scratch and keep the result.

    Args:
        method: `prompt-tuning`, `linear-probe`, `model-tuning` or another that needs no source.
        out: run folder; the same call goes on where it was. None keeps nothing on disk.
        bank: where to keep the artefact as well, under `name` (default: the task's name).
        device: `cpu`, `cuda`, or `auto`: the GPU where there is one.
        recipe: values of `Recipe` that differ from the defaults.
    """
    backbone = open_model(model, recipe.get("arithmetic", "auto"), device)
    loaded = open_task(task, test_rows=test_rows)
    fixed = recipe_for(backbone, loaded, shots, recipe)
    jobs = [Job(loaded, backbone.fingerprint, method, seed, fixed, shots, None, dict(options or {})) for seed in seeds]
    return _keep(_engine(backbone, out, progress), jobs, (), out, bank, name)


def rank(
    task: Task | str | Path,
    model: Backbone | str | Path,
    bank: Bank | str | Path,
    *,
    measures: Sequence[str] = ("probe", "task-embedding"),
    shots: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Ranking:
    """Order the bank's prompts by how well each measure says they should transfer to the task."""
    backbone, loaded = open_model(model, recipe.get("arithmetic", "auto"), device), open_task(task)
    engine = _engine(backbone, out, progress)
    sources, left_out = candidates(as_bank(bank), backbone, loaded)
    fixed = recipe_for(backbone, loaded, shots, recipe)
    job = Job(loaded, backbone.fingerprint, "prompt-tuning", seed, fixed, shots, None, {"readout": "linear"})
    return rank_sources(engine, job, sources, measures, left_out)


def transfer(
    task: Task | str | Path,
    model: Backbone | str | Path,
    bank: Bank | str | Path,
    *,
    source: str = "auto",
    method: str = "pot",
    options: Mapping[str, str] | None = None,
    shots: int | None = None,
    seeds: Sequence[int] = (0,),
    unlabelled: str | Path | Sequence[str] | None = None,
    baselines: bool = True,
    out: str | Path | None = None,
    name: str | None = None,
    keep_in: Bank | str | Path | None = None,
    test_rows: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Outcome:
    """Graft a banked prompt onto a task.

    Args:
        source: name in the bank, or `auto`: the best by a cross-validated probe on each seed's own rows.
        unlabelled: target text without labels, for methods that distil.
        baselines: also run the linear probe and prompt tuning from scratch on the same rows.
    """
    backbone = open_model(model, recipe.get("arithmetic", "auto"), device)
    loaded = open_task(task, test_rows=test_rows)
    engine = _engine(backbone, out, progress)
    fixed = recipe_for(backbone, loaded, shots, recipe)
    free = free_text(unlabelled, loaded)
    chosen, notes = _sources(engine, as_bank(bank), loaded, source, fixed, shots, seeds)
    jobs, beside = _graft_jobs(backbone, loaded, method, options, fixed, shots, chosen, free, baselines=baselines)
    return _keep(engine, jobs, beside, out, keep_in, name, notes)


def compare(
    task: Task | str | Path,
    model: Backbone | str | Path,
    bank: Bank | str | Path | None = None,
    *,
    source: str = "auto",
    shots: int | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    rows: Sequence[tuple[str, dict[str, str]]] | None = None,
    unlabelled: str | Path | Sequence[str] | None = None,
    out: str | Path | None = None,
    test_rows: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Comparison:
    """Every method on one task at equal steps over several seeds; chosen by validation, reported on test."""
    backbone = open_model(model, recipe.get("arithmetic", "auto"), device)
    loaded = open_task(task, test_rows=test_rows)
    engine = _engine(backbone, out, progress, keep_weights=False)
    fixed = recipe_for(backbone, loaded, shots, recipe)
    chosen: Mapping[int, Source | None] = dict.fromkeys(seeds)
    notes: tuple[str, ...] = ("no bank was given: methods that need a source are left out",)
    if bank is not None:
        chosen, notes = _sources(engine, as_bank(bank), loaded, source, fixed, shots, seeds)
    free = free_text(unlabelled, loaded)
    jobs = plan(loaded, backbone.fingerprint, chosen, fixed, shots, unlabelled=free, rows=rows or rows_here())
    order = [job.id for job in jobs]
    finished = sorted(engine.run(jobs, skip=True), key=lambda one: order.index(one.job.id))
    if not finished:
        reasons = "; ".join(engine.skipped.values())
        raise RunError(f"no method could be run ({reasons})", where=loaded.name)
    ranked, best = judge(finished)
    asked = {row_label(method, options) for method, options in rows or rows_here()}
    skipped = {**engine.skipped, **{label: why for label, why in repeated(chosen).items() if label in asked}}
    said = (*notes, *engine.notes(), *dict.fromkeys(note for one in finished for note in one.result.notes))
    return Comparison(loaded, backbone.name, shots, fixed, ranked, best, skipped, said)


def load(path: str | Path, model: Backbone | str | Path | None = None, *, device: DeviceName = "auto") -> Predictor:
    """A tuned artefact (its folder, or a run folder that holds one), ready to predict.

    Args:
        model: the backbone; default: the one the card names.
    """
    artefact = artefacts.load(artefact_folder(path))
    named = model if model is not None else artefact.card.backbone.name
    return Predictor(artefact, open_model(named, device=device))


def artefact_folder(path: str | Path) -> Path:
    """The folder of the artefact at a path: the path itself, or the one in a run folder.

    Raises:
        ArtefactError: there is none.
    """
    path = Path(path)
    for place in (path, path / ARTEFACT):
        if (place / artefacts.CARD).exists():
            return place
    raise ArtefactError("no artefact here", where=path, do="give a run folder of tune or transfer, or a bank's entry")


def export_to_peft(
    bank: Bank | str | Path,
    name: str,
    folder: str | Path,
    *,
    model: Backbone | str | Path | None = None,
    exact: bool = True,
) -> tuple[str, ...]:
    """Write a banked prompt as a PEFT adapter folder (PROMPT_TUNING or PREFIX_TUNING).

    Args:
        model: its backbone; default: the one the card names.
        exact: refuse where PEFT would not give the same predictions.
    Returns: why predictions will differ, empty where they will not.
    """
    artefact = as_bank(bank).load(name)
    backbone = open_model(model if model is not None else artefact.card.backbone.name)
    base = artefact.card.backbone.hub or artefact.card.backbone.name
    return export_peft(artefact, folder, base_model=base, layers=backbone.layers, heads=backbone.heads, exact=exact)


def import_from_peft(
    bank: Bank | str | Path,
    folder: str | Path,
    model: Backbone | str | Path,
    *,
    task: Task | str | Path | None = None,
    name: str | None = None,
    replace: bool = False,
) -> str:
    """Take a PEFT adapter folder into a bank; returns its name there.

    Args:
        model: the backbone the adapter belongs to; PEFT does not record which weights it was tuned on.
        task: what it was tuned for; without it labels are 0, 1, ...
    """
    card = None if task is None else TaskCard.of(open_task(task))
    artefact = import_peft(folder, BackboneCard.of(open_model(model)), card)
    return as_bank(bank, create=True).add(artefact, name or Path(folder).name, replace=replace)


def free_text(given: str | Path | Sequence[str] | None, task: Task) -> tuple[Example, ...]:
    """Unlabelled target text from a file or a list."""
    if given is None:
        return ()
    if isinstance(given, str | Path):
        return tuple(Example(one.text, one.pair, one.choices, one.tokens) for one in read_texts(given, task))
    return tuple(Example(text=text) for text in given)


def _graft_jobs(
    backbone: Backbone,
    task: Task,
    method: str,
    options: Mapping[str, str] | None,
    recipe: Recipe,
    shots: int | None,
    chosen: Mapping[int, Source],
    free: tuple[Example, ...],
    *,
    baselines: bool,
) -> tuple[list[Job], list[Job]]:
    """Jobs of a transfer, and of what is run beside it."""
    kind = dict(options or {})
    jobs = [
        Job(task, backbone.fingerprint, method, seed, recipe, shots, source, kind, free)
        for seed, source in chosen.items()
    ]
    if not baselines or shots == 0:
        return jobs, []
    rows: tuple[tuple[str, dict[str, str]], ...] = (("linear-probe", {}), ("prompt-tuning", {"readout": "linear"}))
    return jobs, plan(task, backbone.fingerprint, dict.fromkeys(chosen), recipe, shots, rows=rows)


def estimate(
    verb: str,
    task: Task | str | Path,
    model: Backbone | str | Path,
    bank: Bank | str | Path | None = None,
    *,
    source: str = "auto",
    method: str | None = None,
    options: Mapping[str, str] | None = None,
    shots: int | None = None,
    seeds: Sequence[int] | None = None,
    rows: Sequence[tuple[str, dict[str, str]]] | None = None,
    unlabelled: str | Path | Sequence[str] | None = None,
    baselines: bool = True,
    out: str | Path | None = None,
    test_rows: int | None = None,
    device: DeviceName = "auto",
    **recipe: object,
) -> Estimate:
    """Seconds and memory that `tune`, `transfer` or `compare` with these arguments would take; trains nothing.

    The first estimate with a backbone on a machine measures it for some seconds (`engine.calibration`). A source that
    the verb would choose is stood in for by another of the bank, and the choice is counted.

    Args:
        method: default: the verb's.
        out: the run folder, whose finished jobs cost nothing.
    Raises:
        UsageError: another verb.
    """
    if verb not in ESTIMATED:
        raise unknown("verb to estimate", verb, ESTIMATED)
    backbone = open_model(model, recipe.get("arithmetic", "auto"), device)
    loaded = open_task(task, test_rows=test_rows)
    engine = _engine(backbone, out, None, keep_weights=verb != "compare")
    fixed = recipe_for(backbone, loaded, shots, recipe)
    drawn = seeds if seeds is not None else range(5 if verb == "compare" else 1)
    chosen: Mapping[int, Source] = {}
    ranked = 0
    if verb != "tune" and bank is not None:
        chosen, ranked = _stand_ins(backbone, as_bank(bank), loaded, source, drawn)
    rankings = [
        (Job(loaded, backbone.fingerprint, "linear-probe", seed, fixed, shots), ranked) for seed in chosen if ranked
    ]
    free = free_text(unlabelled, loaded)
    if verb == "compare":
        given: Mapping[int, Source | None] = chosen or dict.fromkeys(drawn)
        asked = rows or rows_here()
        jobs = plan(loaded, backbone.fingerprint, given, fixed, shots, unlabelled=free, rows=asked)
    elif verb == "transfer":
        if not chosen:
            raise UsageError("transfer needs a bank", do="pass bank='starter' or a bank's folder")
        own, beside = _graft_jobs(
            backbone, loaded, method or "pot", options, fixed, shots, chosen, free, baselines=baselines
        )
        jobs = [*own, *beside]
    else:
        name, kind = method or "prompt-tuning", dict(options or {})
        jobs = [Job(loaded, backbone.fingerprint, name, seed, fixed, shots, None, kind) for seed in drawn]
    return estimate_jobs(engine, jobs, rankings=rankings)


def _stand_ins(
    backbone: Backbone, bank: Bank, task: Task, source: str, seeds: Sequence[int]
) -> tuple[dict[int, Source], int]:
    """A source for every seed, and how many would be ranked to choose it."""
    if source != "auto":
        return dict.fromkeys(seeds, Source(source, bank.load(source, fingerprint=backbone.fingerprint))), 0
    sources, _ = candidates(bank, backbone, task)
    return dict.fromkeys(seeds, sources[0]), len(sources)


def _engine(
    backbone: Backbone, out: str | Path | None, progress: Progress | None, *, keep_weights: bool = True
) -> LocalEngine:
    store = None if out is None else Store(Path(out), keep_weights=keep_weights)
    return LocalEngine(backbone, store=store, progress=progress)


def _sources(
    engine: LocalEngine,
    bank: Bank,
    task: Task,
    source: str,
    recipe: Recipe,
    shots: int | None,
    seeds: Sequence[int],
) -> tuple[dict[int, Source], tuple[str, ...]]:
    """The source of each seed: the named one, or the best by the probe on that seed's rows."""
    if source != "auto":
        named = Source(source, bank.load(source, fingerprint=engine.backbone.fingerprint))
        return dict.fromkeys(seeds, named), ()
    sources, left_out = candidates(bank, engine.backbone, task)
    if shots == 0:
        raise RunError("--source auto needs labelled rows to choose by", do="name the source, or use --shots 1 or more")
    chosen, notes = {}, list(left_out)
    for seed in seeds:
        job = Job(task, engine.backbone.fingerprint, "linear-probe", seed, recipe, shots)
        ranking = rank_sources(engine, job, sources, ("probe",), ())
        chosen[seed] = ranking.best.source
        notes.append(f"seed {seed}: source {ranking.best.source.name} by the probe ({ranking.verdict})")
    return chosen, tuple(notes)


def _keep(
    engine: LocalEngine,
    jobs: Sequence[Job],
    beside: Sequence[Job],
    out: str | Path | None,
    bank: Bank | str | Path | None,
    name: str | None,
    notes: Sequence[str] = (),
) -> Outcome:
    """Run, choose by validation, and keep the chosen model where it was asked for."""
    for job in jobs:
        check(job)
    by_id = {finished.job.id: finished for finished in engine.run([*jobs, *beside])}
    finished = tuple(by_id[job.id] for job in jobs)
    best = max(finished, key=lambda one: one.result.scores.get("validation", {}).get("score", 0.0))
    artefact = make_artefact(best, engine.view(best.job))
    if out is not None:
        artefacts.save(artefact, Path(out) / ARTEFACT)
    if bank is not None:
        keeper = as_bank(bank, create=True)
        keeper.add(artefact, name=name or best.job.task.name, replace=True)
    own = dict.fromkeys(note for one in finished for note in one.result.notes)
    said = (*best.job.task.notes, *notes, *engine.notes(), *own)
    others = tuple(by_id[job.id] for job in beside)
    return Outcome(finished, best, artefact, Predictor(artefact, engine.backbone), others, said)
