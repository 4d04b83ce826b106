"""`estimate` predicts what tune, transfer or compare would cost before they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from promptgraft.api.checking import OptionsIn, changed_recipe, check_given, known_arithmetic, seeds_of
from promptgraft.api.jobs import (
    Chosen,
    MethodRows,
    choose_sources,
    choosing_job,
    compare_jobs,
    graft_jobs,
    takes_one,
    transfer_method,
    tune_jobs,
    usual_method,
)
from promptgraft.api.opening import Opened, as_bank, free_text, opened
from promptgraft.arguments import checked
from promptgraft.bank.bank import Bank
from promptgraft.engine.estimate import Estimate
from promptgraft.engine.estimate import estimate as estimate_jobs
from promptgraft.engine.fits import ModelFit, fits
from promptgraft.engine.rank import candidates
from promptgraft.errors import UsageError, unknown
from promptgraft.method.job import ValidationFrom
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.study.compare import rows_here
from promptgraft.task.frames import TaskData
from promptgraft.task.task import Task
from promptgraft.train.recipe import Recipe

VERBS = ("tune", "transfer", "compare")


@checked
def estimate(
    verb: str,
    task: Task | TaskData,
    model: Backbone | str | Path,
    bank: Bank | str | Path | None = None,
    *,
    source: str = "auto",
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    shots: int | None = None,
    validation_from: ValidationFrom | None = None,
    seeds: Sequence[int] | int | None = None,
    rows: Sequence[tuple[str, Mapping[str, object]]] | None = None,
    unlabelled: str | Path | Sequence[str] | None = None,
    baselines: bool = True,
    out: str | Path | None = None,
    test_rows: int | None = None,
    device: DeviceName = "auto",
    **recipe: object,
) -> Estimate:
    """Predict the seconds and memory that `tune`, `transfer` or `compare` would take; trains nothing.

    The first estimate with a backbone on a machine measures it for some seconds (`engine.calibration`). If the function
    would choose a source, the estimate uses any prompt of the bank and adds the time of the choice.

    Args:
        verb: `tune`, `transfer` or `compare`.
        method, validation_from: default: those of the function.
        options: of the method, for `tune` and `transfer`; rows: methods with their options, for `compare`.
        out: the run folder, whose finished jobs cost nothing.
    Raises:
        UsageError: another verb, or a transfer without a bank.
    """
    if verb == "transfer" and bank is None:
        raise UsageError("transfer needs a bank", do="pass bank='starter' or a bank's folder")
    check_estimated(verb, model, bank, source, method, options, rows, recipe)
    seed_list = seeds_of(range(5 if verb == "compare" else 1) if seeds is None else seeds)
    check_given(
        out=out, seeds=seed_list, shots=shots, test_rows=test_rows, validation_from=validation_from or "extra",
        device=device,
    )  # fmt: skip
    context = opened(
        task, model, recipe, shots, out=out, test_rows=test_rows, device=device,
        validation_from=validation_from or ("within" if verb == "transfer" else "extra"),
    )  # fmt: skip
    if verb == "tune":
        return estimate_jobs(context.engine, tune_jobs(context, method or "prompt-tuning", options, seed_list))
    method = transfer_method(context, method, source, options)
    method_rows = [(method, options or {})] if verb == "transfer" else rows_here() if rows is None else rows
    chosen, ranked = Chosen(dict.fromkeys(seed_list)), 0
    if bank is not None:
        chosen, ranked = _stand_ins(context, as_bank(bank), source, seed_list, method_rows)
    free = free_text(unlabelled, context.task)
    if verb == "compare":
        jobs = compare_jobs(context, chosen, free, rows)
    else:
        grafts, beside = graft_jobs(context, method, options, chosen, free, baselines=baselines)
        jobs = [*grafts, *beside]
    rankings = [(choosing_job(context, seed), ranked) for seed in seed_list if ranked]
    return estimate_jobs(context.engine, jobs, rankings=rankings)


def check_estimated(
    verb: str,
    model: object,
    bank: object,
    source: str,
    method: str | None,
    options: Mapping[str, object] | None,
    rows: MethodRows | None,
    recipe: Mapping[str, object],
) -> None:
    """Check that every name exists that an estimate is given; see `estimate`.

    Raises:
        UsageError, ModelError, BankError: the first that does not.
    """
    if verb not in VERBS:
        raise unknown("verb to estimate", verb, VERBS)
    usual = "prompt-tuning" if verb == "tune" else usual_method(source, options)
    methods = (rows or ()) if verb == "compare" else [(method or usual, options or {})]
    options_in: OptionsIn = "rows" if verb == "compare" else "options"
    check_given(model, recipe=recipe, methods=methods, bank=None if verb == "tune" else bank, options_in=options_in)


@checked
def estimate_memory(model: str | Path, *, runs: int = 1, device: DeviceName = "auto", **recipe: object) -> ModelFit:
    """Estimate what a model would take before it is loaded, in every arithmetic; reads no weights.

    Args:
        runs: number of runs that train together.
        recipe: values of `Recipe` that differ from the defaults; `batch`, `max_length`, `length` and `most` matter.
    Raises:
        UsageError: a name or a value that a recipe does not have; no run, or an unknown device.
    """
    known_arithmetic("auto", device)
    if runs < 1:
        raise UsageError(f"{runs} runs", do="give 1 or more")
    return fits(model, recipe=changed_recipe(Recipe(), recipe), runs=runs, device=device)


def _stand_ins(context: Opened, bank: Bank, source: str, seeds: Sequence[int], rows: MethodRows) -> tuple[Chosen, int]:
    """Take a source for every seed without choosing; return them with how many would be ranked to choose."""
    if source != "auto" or not any(takes_one(*row) for row in rows):
        return choose_sources(context, bank, source, seeds, rows), 0
    sources, _ = candidates(bank, context.backbone, context.task)
    return Chosen(dict.fromkeys(seeds, sources[0]), tuple(sources)), len(sources)
