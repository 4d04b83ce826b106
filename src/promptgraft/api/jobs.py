"""Which jobs a verb runs, and which source each seed takes; an estimate asks the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptgraft.api.opening import Opened, seeds_of
from promptgraft.bank.bank import Bank
from promptgraft.engine.rank import candidates, rank_sources
from promptgraft.errors import BankError, RunError
from promptgraft.method.all import find
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
    chosen: Chosen,
    free: tuple[Example, ...],
    *,
    baselines: bool,
) -> tuple[list[Job], list[Job]]:
    """Jobs of a transfer, and of what is run beside it."""
    bank = chosen.bank if "bank" in find(method).needs else ()
    jobs = [given.job(method, seed, options, source, free, bank) for seed, source in chosen.sources.items()]
    if not baselines or given.shots == 0:
        return jobs, []
    return jobs, compare_jobs(given, Chosen(dict.fromkeys(chosen.sources)), (), BESIDE)


def compare_jobs(given: Opened, chosen: Chosen, free: tuple[Example, ...], rows: MethodRows | None) -> list[Job]:
    """Every row's method on every seed; None: all that can be run here."""
    asked = rows_here() if rows is None else rows
    fingerprint, recipe = given.backbone.fingerprint, given.recipe
    return plan(
        given.task, fingerprint, chosen.sources, recipe, given.shots, unlabelled=free, rows=asked, bank=chosen.bank
    )


@dataclass(frozen=True)
class Chosen:
    """What is taken from a bank.

    Attributes:
        sources: seed -> the source of methods that take one; None where none of them is run.
        bank: every prompt that fits, for methods that weigh all of them.
    """

    sources: Mapping[int, Source | None]
    bank: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()


def choose_sources(given: Opened, bank: Bank, source: str, seeds: Sequence[int], methods: Sequence[str]) -> Chosen:
    """The prompts of a bank that methods start from: the named one, else all, and for each seed the best by a probe.

    The probe reads that seed's training rows; it is asked only where a method takes one source.
    """
    seeds = seeds_of(seeds)
    if source != "auto":
        named = Source(source, bank.load(source, fingerprint=given.backbone.fingerprint))
        return Chosen(dict.fromkeys(seeds, named), (named,))
    try:
        sources, left_out = candidates(bank, given.backbone, given.task)
    except BankError as error:
        if any(map(takes_one, methods)):
            raise
        return Chosen(dict.fromkeys(seeds), notes=(f"{error}; the backbone alone is read",))
    if not any(map(takes_one, methods)):
        return Chosen(dict.fromkeys(seeds), tuple(sources), left_out)
    if given.shots == 0:
        raise RunError("--source auto needs labelled rows to choose by", do="name the source, or use --shots 1 or more")
    chosen: dict[int, Source | None] = {}
    notes = list(left_out)
    for seed in seeds:
        ranking = rank_sources(given.engine, choosing_job(given, seed), sources, ("probe",), ())
        chosen[seed] = ranking.best.source
        notes += ranking.instead
        judge = "the probe" if ranking.measures[0] == "probe" else ranking.measures[0]
        notes.append(f"seed {seed}: source {ranking.best.source.name} by {judge} ({ranking.verdict})")
    return Chosen(chosen, tuple(sources), tuple(notes))


def takes_one(method: str) -> bool:
    """Whether a method starts from one source, or can."""
    return "source" in find(method).needs or "prompt" in find(method).options.model_fields


def choosing_job(given: Opened, seed: int) -> Job:
    """On whose rows sources are ranked."""
    return given.job("linear-probe", seed)
