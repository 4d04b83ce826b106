"""Verbs expand into jobs here, and sources are chosen for their seeds; `estimate` uses the same functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptgraft.api.checking import seeds_of
from promptgraft.api.opening import Opened
from promptgraft.bank.bank import Bank
from promptgraft.engine.rank import candidates, rank_sources
from promptgraft.errors import BankError, RunError
from promptgraft.method.all import find
from promptgraft.method.job import Job, Source
from promptgraft.method.options import hyphened
from promptgraft.study.compare import plan, rows_here
from promptgraft.task.task import Example

MethodRows = Sequence[tuple[str, Mapping[str, object]]]
BESIDE: MethodRows = (("linear-probe", {}), ("prompt-tuning", {"readout": "linear"}))
"""The baselines that a transfer is compared with."""


def tune_jobs(
    context: Opened, method: str, options: Mapping[str, object] | None, seeds: Sequence[int] | int
) -> list[Job]:
    """The jobs of `tune`, one for each seed."""
    return [context.job(method, seed, options) for seed in seeds_of(seeds)]


def graft_jobs(
    context: Opened,
    method: str,
    options: Mapping[str, object] | None,
    chosen: Chosen,
    free: tuple[Example, ...],
    *,
    baselines: bool,
) -> tuple[list[Job], list[Job]]:
    """The jobs of `transfer`, and those of its baselines."""
    bank = chosen.bank if "bank" in find(method).needs else ()
    jobs = [context.job(method, seed, options, source, free, bank) for seed, source in chosen.sources.items()]
    if not baselines or context.shots == 0 or not context.task.train:
        return jobs, []
    return jobs, compare_jobs(context, Chosen(dict.fromkeys(chosen.sources)), (), BESIDE)


def compare_jobs(context: Opened, chosen: Chosen, free: tuple[Example, ...], rows: MethodRows | None) -> list[Job]:
    """The jobs of `compare`: every row's method on every seed.

    Args:
        rows: methods and their options; None: all that can be run here.
    """
    method_rows = rows_here() if rows is None else rows
    fingerprint, recipe = context.backbone.fingerprint, context.recipe
    return plan(
        context.task,
        fingerprint,
        chosen.sources,
        recipe,
        context.shots,
        unlabelled=free,
        rows=method_rows,
        bank=chosen.bank,
        validation_from=context.validation_from,
    )


@dataclass(frozen=True)
class Chosen:
    """The prompts that are taken from a bank.

    Attributes:
        sources: seed -> the source of methods that take one; None where none of them is run.
        bank: every prompt that fits, for methods that weigh all of them.
    """

    sources: Mapping[int, Source | None]
    bank: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()


def choose_sources(context: Opened, bank: Bank, source: str, seeds: Sequence[int] | int, rows: MethodRows) -> Chosen:
    """The prompts of a bank that methods start from: the named one, else all, and for each seed the best by a probe.

    The probe reads that seed's training rows; it is asked only where a method takes one source.
    """
    seeds = seeds_of(seeds)
    if source != "auto":
        named_source = _named(context, bank, source)
        return Chosen(dict.fromkeys(seeds, named_source), (named_source,))
    try:
        sources, left_out = candidates(bank, context.backbone, context.task)
    except BankError as error:
        if any("source" in find(method).needs for method, _ in rows):
            raise
        return Chosen(dict.fromkeys(seeds), notes=(f"{error}; the backbone alone is read",))
    if not any(takes_one(*row) for row in rows):
        return Chosen(dict.fromkeys(seeds), tuple(sources), left_out)
    if context.shots == 0 or not context.task.train:
        more = "use --shots 1 or more" if context.task.train else "label some rows"
        if any(options.get("effort") == "full" for _, options in rows):
            what, do = "--effort full trains on labelled rows, and there are none", f"leave it out, or {more}"
            raise RunError(what, where=context.task.name, do=do)
        raise RunError("--source auto needs labelled rows to choose by", do=f"name the source, or {more}")
    chosen: dict[int, Source | None] = {}
    notes = list(left_out)
    for seed in seeds:
        ranking = rank_sources(context.engine, choosing_job(context, seed), sources, ("probe",), ())
        chosen[seed] = ranking.best.source
        notes += ranking.instead
        judge = "the probe" if ranking.measures[0] == "probe" else ranking.measures[0]
        notes.append(f"seed {seed}: source {ranking.best.source.name} by {judge} ({ranking.verdict})")
    return Chosen(chosen, tuple(sources), tuple(notes))


def _named(context: Opened, bank: Bank, name: str) -> Source:
    """The prompt of that name among those for the backbone."""
    fingerprint = context.backbone.fingerprint
    return Source(name, bank.serving(fingerprint, context.backbone.name).load(name, fingerprint=fingerprint))


def transfer_method(context: Opened, method: str | None, source: str, options: Mapping[str, object] | None) -> str:
    """The method of a transfer: the one named; else graft, or PoT where graft is not what was asked for.

    PoT reads spans, takes the options of `pot`, and carries a source that is named without options of graft.
    """
    if method is not None:
        return find(method).name
    return usual_method(source, options) if context.task.facts.probe else "pot"


def usual_method(source: str, options: Mapping[str, object] | None) -> str:
    """The method that a transfer takes where none is named, of a task that graft can read."""
    known = {hyphened(name) for name in find("graft").options.model_fields}
    asked = {hyphened(name) for name in options or {}}
    is_pot = bool(asked - known) if asked else source != "auto"
    return "pot" if is_pot else "graft"


def takes_one(method: str, options: Mapping[str, object]) -> bool:
    """Whether a method starts from one source, or can."""
    known = find(method)
    return "source" in known.needs or "prompt" in known.options.model_fields or options.get("effort") == "full"


def choosing_job(context: Opened, seed: int) -> Job:
    """The job on whose training rows sources are ranked: of a method that holds rows out for validation."""
    return context.job("prompt-tuning", seed)
