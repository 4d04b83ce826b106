"""What tune, transfer or compare would cost, before they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from promptgraft.api.jobs import (
    Chosen,
    choose_sources,
    choosing_job,
    compare_jobs,
    graft_jobs,
    takes_one,
    tune_jobs,
)
from promptgraft.api.opening import Opened, as_bank, free_text, opened, seeds_of
from promptgraft.bank.bank import Bank
from promptgraft.engine.estimate import Estimate
from promptgraft.engine.estimate import estimate as estimate_jobs
from promptgraft.engine.rank import candidates
from promptgraft.errors import UsageError, unknown
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.study.compare import rows_here
from promptgraft.task.task import Task

VERBS = ("tune", "transfer", "compare")


def estimate(
    verb: str,
    task: Task | str | Path,
    model: Backbone | str | Path,
    bank: Bank | str | Path | None = None,
    *,
    source: str = "auto",
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    shots: int | None = None,
    seeds: Sequence[int] | None = None,
    rows: Sequence[tuple[str, Mapping[str, object]]] | None = None,
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
        UsageError: another verb, or a transfer without a bank.
    """
    if verb not in VERBS:
        raise unknown("verb to estimate", verb, VERBS)
    if verb == "transfer" and bank is None:
        raise UsageError("transfer needs a bank", do="pass bank='starter' or a bank's folder")
    given = opened(task, model, recipe, shots, out=out, test_rows=test_rows, device=device)
    drawn = seeds_of(range(5 if verb == "compare" else 1) if seeds is None else seeds)
    if verb == "tune":
        return estimate_jobs(given.engine, tune_jobs(given, method or "prompt-tuning", options, drawn))
    methods = [method or "pot"] if verb == "transfer" else [name for name, _ in (rows_here() if rows is None else rows)]
    chosen, ranked = Chosen(dict.fromkeys(drawn)), 0
    if bank is not None:
        chosen, ranked = _stand_ins(given, as_bank(bank), source, drawn, methods)
    free = free_text(unlabelled, given.task)
    if verb == "compare":
        jobs = compare_jobs(given, chosen, free, rows)
    else:
        own, beside = graft_jobs(given, method or "pot", options, chosen, free, baselines=baselines)
        jobs = [*own, *beside]
    rankings = [(choosing_job(given, seed), ranked) for seed in drawn if ranked]
    return estimate_jobs(given.engine, jobs, rankings=rankings)


def _stand_ins(
    given: Opened, bank: Bank, source: str, seeds: Sequence[int], methods: Sequence[str]
) -> tuple[Chosen, int]:
    """A source for every seed, and how many would be ranked to choose it."""
    if source != "auto" or not any(map(takes_one, methods)):
        return choose_sources(given, bank, source, seeds, methods), 0
    sources, _ = candidates(bank, given.backbone, given.task)
    return Chosen(dict.fromkeys(seeds, sources[0]), tuple(sources)), len(sources)
