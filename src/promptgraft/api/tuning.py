"""`tune` trains a task from scratch, `transfer` grafts a banked prompt onto it; both keep the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptgraft.api.advice import advice
from promptgraft.api.checking import check_given
from promptgraft.api.jobs import choose_sources, graft_jobs, transfer_method, tune_jobs, usual_method
from promptgraft.api.keeping import Keeper, keeper
from promptgraft.api.opening import Opened, as_bank, free_text, log_notes, opened
from promptgraft.arguments import checked
from promptgraft.bank.bank import Bank
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.progress import Progress
from promptgraft.engine.result import Finished, Result
from promptgraft.errors import within_memory
from promptgraft.method.all import check, check_needs
from promptgraft.method.job import Job, ValidationFrom
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.sheet import Sheet
from promptgraft.task.frames import TaskData
from promptgraft.task.task import Task


@dataclass(frozen=True, repr=False)
class Outcome:
    """The result of `tune` or `transfer`: the results of all seeds, and the model of the best one by validation.

    Without validation rows, as for graft by default, the model is that of the first seed.

    Attributes:
        baselines: results of the baselines.
        notes: what was inferred, cut, sampled or chosen.
        name: the artefact's name in the bank.
    """

    finished: tuple[Finished, ...]
    best: Finished
    artefact: Artefact
    predictor: Predictor
    baselines: tuple[Finished, ...] = ()
    notes: tuple[str, ...] = ()
    name: str | None = None

    def __repr__(self) -> str:
        return self._sheet().text()

    def _repr_html_(self) -> str:
        return self._sheet().html()

    @checked
    def save(self, folder: str | Path) -> None:
        """Save the chosen model; `promptgraft.load(folder)` loads it.

        Raises:
            ArtefactError: the folder holds something else, or could not be written.
        """
        artefacts.save(self.artefact, folder)

    def _sheet(self) -> Sheet:
        card, best = self.artefact.card, self.best.result
        prompt = card.prompt
        form = "no prompt" if prompt is None else f"{prompt.depth} prompt of {prompt.length} vectors"
        facts = [f"kept: {best.label}, seed {best.seed}; {form}, {card.trainable:,} trained numbers"]
        facts += [f"notes: {len(self.notes)}, in .notes"] if self.notes else []
        results = [finished.result for finished in (*self.finished, *self.baselines)]
        heading = f"Outcome on {card.task.name} with {card.backbone.name}, {card.task.metric} in percent"
        columns = ("method", "seed", "test", "validation", "seconds", "source")
        return Sheet(heading, tuple(facts), columns, [_shown(result) for result in results])


def _shown(result: Result) -> tuple[str, ...]:
    """The cells of a result; empty where there is no figure."""
    scores = [
        f"{result.scores[split]['score']:.1f}" if split in result.scores else "" for split in ("test", "validation")
    ]
    return (result.label, str(result.seed), *scores, f"{result.seconds:.1f}", result.source or "")


@checked
@within_memory()
def tune(
    task: Task | TaskData,
    model: Backbone | str | Path,
    *,
    method: str = "prompt-tuning",
    options: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    bank: Bank | str | Path | None = None,
    name: str | None = None,
    replace: bool = False,
    shots: int | None = None,
    validation_from: ValidationFrom = "extra",
    seeds: Sequence[int] | int = (0,),
    test_rows: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Outcome:
    """Tune a task from scratch and keep the result.

    Args:
        method: `prompt-tuning`, `linear-probe`, `model-tuning` or another that needs no source.
        options: of the method, such as `{"readout": "linear"}`; the command's options of a method, by name.
        out: run folder; the same call continues where it stopped. None saves nothing on disk.
        bank: a bank to also save the artefact in, under `name` (default: the task's name).
        replace: replace results of other data in the run folder and the bank.
        validation_from: `extra`: as many rows again as `shots` are for validation; `within`: methods that choose a step
            on validation take a quarter of each class of the labelled rows, the others train on all of them.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.
        recipe: values of `Recipe` that differ from the defaults.
    """
    check_given(
        model, recipe=recipe, methods=[(method, options or {})], name=name, out=out, seeds=seeds,
        shots=shots, test_rows=test_rows, validation_from=validation_from, device=device, options_in="options",
    )  # fmt: skip
    check_needs(method, shots, has_source=False)
    context = opened(
        task, model, recipe, shots, out=out, test_rows=test_rows, device=device, progress=progress,
        validation_from=validation_from,
    )  # fmt: skip
    jobs = tune_jobs(context, method, options, seeds)
    for job in jobs:
        check(job, learns=context.backbone.learns)
    return _keep(context, jobs, (), keeper(context.task, out, bank, name, replace=replace))


@checked
@within_memory()
def transfer(
    task: Task | TaskData,
    model: Backbone | str | Path,
    bank: Bank | str | Path,
    *,
    source: str = "auto",
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    shots: int | None = None,
    validation_from: ValidationFrom = "within",
    seeds: Sequence[int] | int = (0,),
    unlabelled: str | Path | Sequence[str] | None = None,
    baselines: bool = True,
    out: str | Path | None = None,
    name: str | None = None,
    keep_in: Bank | str | Path | None = None,
    replace: bool = False,
    test_rows: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Outcome:
    """Graft a bank's prompts onto a task.

    Args:
        method: `graft` (the labelled rows give every prompt of the bank a weight, nothing is trained), `pot`, `panda`,
            ...; None: `graft`, but `pot` for a named source, for the kinds span and text, and with options of `pot`.
        options: of the method, such as `{"readout": "keep", "label_map": {"good": "positive"}}`; the command's options
            of a method, by name.
        source: a prompt of the bank, or `auto`: all for `graft`; for methods that start from one, the best by a
            cross-validated probe on each seed's training rows.
        validation_from: `within`: graft and probes train on all labelled rows, and methods that choose a step on
            validation take a quarter of each class out of them; `extra`: as many rows again as `shots` are for
            validation.
        unlabelled: texts of the target without labels, for PANDA and for graft without labelled rows.
        baselines: also run the linear probe and prompt tuning from scratch on the same rows.
        keep_in: a bank to also save the artefact in, under `name` (default: the task's name).
        replace: replace results of other data in the run folder and the bank.
    """
    asked = method or usual_method(source, options)
    check_given(
        model, recipe=recipe, methods=[(asked, options or {})], bank=bank, name=name, out=out, seeds=seeds,
        shots=shots, test_rows=test_rows, validation_from=validation_from, device=device, options_in="options",
    )  # fmt: skip
    check_needs(asked, shots, has_source=True)
    context = opened(
        task, model, recipe, shots, out=out, test_rows=test_rows, device=device, progress=progress,
        validation_from=validation_from,
    )  # fmt: skip
    places = keeper(context.task, out, keep_in, name, replace=replace)
    free = free_text(unlabelled, context.task)
    method = transfer_method(context, method, source, options)
    chosen = choose_sources(context, as_bank(bank), source, seeds, [(method, options or {})])
    jobs, beside = graft_jobs(context, method, options, chosen, free, baselines=baselines)
    for job in jobs:
        check(job, learns=context.backbone.learns)
    is_measured = method == "graft" and context.task.kind == "classification" and all(map(_has_labels, jobs))
    last = advice(context.backbone.name) if is_measured else ()
    return _keep(context, jobs, beside, places, chosen.notes, last)


def _has_labels(job: Job) -> bool:
    return job.shots != 0 and bool(job.task.train)


def _keep(
    context: Opened,
    jobs: Sequence[Job],
    beside: Sequence[Job],
    places: Keeper,
    notes: Sequence[str] = (),
    last: Iterable[str] = (),
) -> Outcome:
    """Run the jobs, choose a model by validation, and keep it in the places asked for.

    Args:
        notes: what was said before anything ran.
        last: what is said at the end.
    """
    engine = context.engine
    by_id = {finished.job.id: finished for finished in engine.run([*jobs, *beside], skip=True)}
    finished = tuple(by_id[job.id] for job in jobs if job.id in by_id)
    if not finished:
        raise engine.problems[jobs[0].id][1]
    best = max(finished, key=_on_validation)
    artefact = make_artefact(best, engine.view(best.job))
    artefact = artefact.replace(card=artefact.card.replace(search=context.search))
    replaced = places.keep(artefact)
    run_notes = dict.fromkeys(note for item in finished for note in item.result.notes)
    failed = (f"{label} is left out: {reason}" for label, reason in engine.skipped.items())
    all_notes = (
        *best.job.task.notes,
        *places.notes,
        *replaced,
        *notes,
        *engine.notes(),
        *run_notes,
        *failed,
        *_unchecked(best, len(finished)),
        *last,
    )
    log_notes(all_notes)
    baselines = tuple(by_id[job.id] for job in beside if job.id in by_id)
    return Outcome(finished, best, artefact, Predictor(artefact, engine.backbone), baselines, all_notes, places.name)


def _on_validation(finished: Finished) -> float:
    """The validation score, by which a seed is chosen."""
    return finished.result.scores.get("validation", {}).get("score", 0.0)


def _unchecked(best: Finished, seeds: int) -> Iterator[str]:
    """Notes on what could not be done for want of rows."""
    scores = best.result.scores
    if "validation" not in scores:
        kept = ["the last step is kept"] if best.result.steps else []
        kept += [f"seed {best.result.seed} is kept since it is the first"] if seeds > 1 else []
        if kept:
            yield f"no validation rows: {', and '.join(kept)}"
    if "test" not in scores:
        yield "no test rows: how good it is on rows that no choice has seen cannot be said"
