"""Which jobs a verb runs, and which source each seed takes; an estimate asks the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promptgraft.api.opening import Opened, seeds_of
from promptgraft.bank.bank import Bank
from promptgraft.engine.rank import candidates, rank_sources
from promptgraft.errors import RunError
from promptgraft.method.job import Job, Source
from promptgraft.study.compare import plan, rows_here
from promptgraft.task.task import Example

MethodRows = Sequence[tuple[str, Mapping[str, object]]]
BESIDE: MethodRows = (("linear-probe", {}), ("prompt-tuning", {"readout": "linear"}))
"""What a transfer is shown beside."""


def tune_jobs(given: Opened, method: str, options: Mapping[str, object] | None, seeds: Sequence[int]) -> list[Job]:
    """One a seed, from scratch."""
    return [given.job(method, seed, options) for seed in seeds_of(seeds)]


def graft_jobs(
    given: Opened,
    method: str,
    options: Mapping[str, object] | None,
    sources: Mapping[int, Source],
    free: tuple[Example, ...],
    *,
    baselines: bool,
) -> tuple[list[Job], list[Job]]:
    """Jobs of a transfer, and of what is run beside it."""
    jobs = [given.job(method, seed, options, source, free) for seed, source in sources.items()]
    if not baselines or given.shots == 0:
        return jobs, []
    return jobs, compare_jobs(given, dict.fromkeys(sources), (), BESIDE)


def compare_jobs(
    given: Opened, sources: Mapping[int, Source | None], free: tuple[Example, ...], rows: MethodRows | None
) -> list[Job]:
    """Every row's method on every seed; None: all that can be run here."""
    asked = rows_here() if rows is None else rows
    fingerprint = given.backbone.fingerprint
    return plan(given.task, fingerprint, sources, given.recipe, given.shots, unlabelled=free, rows=asked)


def choose_sources(
    given: Opened, bank: Bank, source: str, seeds: Sequence[int]
) -> tuple[dict[int, Source], tuple[str, ...]]:
    """The source of each seed: the named one, or the best by the probe on that seed's rows."""
    seeds = seeds_of(seeds)
    if source != "auto":
        return named_source(given, bank, source, seeds), ()
    sources, left_out = candidates(bank, given.backbone, given.task)
    if given.shots == 0:
        raise RunError("--source auto needs labelled rows to choose by", do="name the source, or use --shots 1 or more")
    chosen, notes = {}, list(left_out)
    for seed in seeds:
        ranking = rank_sources(given.engine, choosing_job(given, seed), sources, ("probe",), ())
        chosen[seed] = ranking.best.source
        notes += ranking.instead
        judge = "the probe" if ranking.measures[0] == "probe" else ranking.measures[0]
        notes.append(f"seed {seed}: source {ranking.best.source.name} by {judge} ({ranking.verdict})")
    return chosen, tuple(notes)


def choosing_job(given: Opened, seed: int) -> Job:
    """On whose rows sources are ranked."""
    return given.job("linear-probe", seed)


def named_source(given: Opened, bank: Bank, source: str, seeds: Sequence[int]) -> dict[int, Source]:
    """The same source for every seed."""
    return dict.fromkeys(seeds, Source(source, bank.load(source, fingerprint=given.backbone.fingerprint)))
