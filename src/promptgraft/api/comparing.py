"""Look before choosing: which of a bank's prompts should transfer, and which method does best on a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from promptgraft.api.jobs import choose_sources, compare_jobs
from promptgraft.api.opening import as_bank, free_text, opened, seeds_of
from promptgraft.bank.bank import Bank
from promptgraft.engine.progress import Progress
from promptgraft.engine.rank import Ranking, candidates, rank_sources
from promptgraft.errors import RunError
from promptgraft.method.job import Source, row_label
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.study.compare import Comparison, judge, repeated, rows_here
from promptgraft.task.task import Task


def rank(
    task: Task | str | Path,
    model: Backbone | str | Path,
    bank: Bank | str | Path,
    *,
    measures: Sequence[str] = ("probe",),
    shots: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Ranking:
    """Order the bank's prompts by how well each measure says they should transfer to the task.

    Args:
        measures: the first gives the order; one that needs a prompt of the target, as `task-embedding` does, trains it.
    """
    given = opened(task, model, recipe, shots, out=out, device=device, progress=progress)
    sources, left_out = candidates(as_bank(bank), given.backbone, given.task)
    job = given.job("prompt-tuning", seed, {"readout": "linear"})
    return rank_sources(given.engine, job, sources, measures, left_out)


def compare(
    task: Task | str | Path,
    model: Backbone | str | Path,
    bank: Bank | str | Path | None = None,
    *,
    source: str = "auto",
    shots: int | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    rows: Sequence[tuple[str, Mapping[str, object]]] | None = None,
    unlabelled: str | Path | Sequence[str] | None = None,
    out: str | Path | None = None,
    test_rows: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Comparison:
    """Every method on one task at equal steps over several seeds; chosen by validation, reported on test."""
    given = opened(
        task, model, recipe, shots, out=out, test_rows=test_rows, device=device, progress=progress, keep_weights=False
    )
    seeds = seeds_of(seeds)
    chosen: Mapping[int, Source | None] = dict.fromkeys(seeds)
    notes: tuple[str, ...] = ("no bank was given: methods that need a source are left out",)
    if bank is not None:
        chosen, notes = choose_sources(given, as_bank(bank), source, seeds)
    engine = given.engine
    jobs = compare_jobs(given, chosen, free_text(unlabelled, given.task), rows)
    order = [job.id for job in jobs]
    finished = sorted(engine.run(jobs, skip=True), key=lambda one: order.index(one.job.id))
    if not finished:
        reasons = "; ".join(engine.skipped.values())
        raise RunError(f"no method could be run ({reasons})", where=given.task.name)
    ranked, best = judge(finished)
    asked = {row_label(method, options) for method, options in (rows_here() if rows is None else rows)}
    skipped = {**engine.skipped, **{label: why for label, why in repeated(chosen).items() if label in asked}}
    said = (*notes, *engine.notes(), *dict.fromkeys(note for one in finished for note in one.result.notes))
    return Comparison(given.task, given.backbone.name, shots, given.recipe, ranked, best, skipped, said)
