"""These verbs help to choose: `rank` orders a bank's prompts for a task, `compare` runs every method on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from promptgraft.api.checking import check_given, seeds_of
from promptgraft.api.jobs import Chosen, choose_sources, compare_jobs
from promptgraft.api.opening import Opened, as_bank, bank_for, free_text, log_notes, opened
from promptgraft.arguments import checked
from promptgraft.bank.bank import Bank
from promptgraft.engine.progress import Progress
from promptgraft.engine.rank import Ranking, candidates, rank_sources, weighed
from promptgraft.errors import RunError, UsageError, within_memory
from promptgraft.method.job import ValidationFrom, row_label
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.report.compare import write
from promptgraft.report.table import comparison_table
from promptgraft.study.compare import Comparison, judge, repeated, rows_here
from promptgraft.task.frames import TaskData
from promptgraft.task.task import Task

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Compared(Comparison):
    """The result of `compare`, with its page and its figures as plain values."""

    @checked
    def report(self, path: str | Path) -> dict[str, Path]:
        """Write report.html and results.csv into a folder; return the path of each file by its name."""
        return write(self, Path(path))

    def to_dict(self) -> dict[str, object]:
        """The comparison as plain values, fit for JSON; figures are in percent, None where there is none."""
        return {
            "task": self.task.name,
            "backbone": self.backbone,
            "metric": self.task.metric,
            "shots": self.shots,
            "recipe": self.recipe.model_dump(),
            "rows": comparison_table(self),
            "best": self.best,
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
        }

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame with a row for each method, in the order of the report.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise UsageError("to_frame needs pandas", do="pip install pandas, or use to_dict()") from error
        return DataFrame(comparison_table(self))


NO_BANK = "no banked prompts: methods that start from a source are left out, and graft reads the backbone alone"


@checked
@within_memory()
def rank(
    task: Task | TaskData,
    model: Backbone | str | Path,
    bank: Bank | str | Path,
    *,
    measures: str | Sequence[str] = ("probe",),
    shots: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Ranking:
    """Order the bank's prompts by how well each measure says they should transfer to the task.

    Args:
        measures: the first gives the order; a measure that needs a prompt of the target (`task-embedding`) trains one.

    `Ranking.graft` says which prompts `transfer` would use; these are more than the first one.
    """
    measures = [measures] if isinstance(measures, str) else measures
    check_given(model, recipe=recipe, measures=measures, bank=bank, out=out, seeds=(seed,), shots=shots, device=device)
    context = opened(task, model, recipe, shots, out=out, device=device, progress=progress)
    _need_labels(context, "rank orders prompts")
    sources, left_out = candidates(as_bank(bank), context.backbone, context.task)
    job = context.job("prompt-tuning", seed, {"readout": "linear"})
    ranking = rank_sources(context.engine, job, sources, measures, left_out)
    ranking = replace(ranking, graft=weighed(context.engine, job, sources))
    notes = tuple(dict.fromkeys((*context.task.notes, *context.engine.notes())))
    log_notes([*notes, *(f"left out: {reason}" for reason in left_out)])
    return replace(ranking, notes=notes)


def _need_labels(context: Opened, what: str) -> None:
    """Raises a RunError for a task without a labelled row, which says what can be done without."""
    if not context.task.train:
        do = "label some rows, or use transfer, which reads label descriptions where there are none"
        raise RunError(f"{what} by labelled rows, and there are none", where=context.task.name, do=do)


@checked
@within_memory()
def compare(
    task: Task | TaskData,
    model: Backbone | str | Path,
    bank: Bank | str | Path | None = "auto",
    *,
    source: str = "auto",
    shots: int | None = None,
    validation_from: ValidationFrom = "extra",
    seeds: Sequence[int] | int = (0, 1, 2, 3, 4),
    rows: Sequence[tuple[str, Mapping[str, object]]] | None = None,
    unlabelled: str | Path | Sequence[str] | None = None,
    out: str | Path | None = None,
    test_rows: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    **recipe: object,
) -> Compared:
    """Run every method on one task for the same number of steps over several seeds.

    The best is chosen by validation and reported on test.

    Args:
        rows: the methods to compare, each with its options: `[("pot", {"readout": "linear"}), ...]`; None: every method
            that can be run.
        bank: the bank whose prompts are transferred; `auto`: the starter bank if it serves the model; None: none.
        validation_from: `extra`: as many rows again as `shots` are for validation, on which every method is scored;
            `within`: methods that choose a step take validation rows from the labelled rows; the others train on all
            labelled rows and have no validation score.
    """
    check_given(
        model, recipe=recipe, methods=rows or (), bank=bank, out=out, seeds=seeds, shots=shots, test_rows=test_rows,
        validation_from=validation_from, device=device, options_in="rows",
    )  # fmt: skip
    context = opened(
        task, model, recipe, shots, out=out, test_rows=test_rows, device=device, progress=progress, keep_weights=False,
        validation_from=validation_from,
    )  # fmt: skip
    _need_labels(context, "compare judges methods")
    seeds = seeds_of(seeds)
    chosen = Chosen(dict.fromkeys(seeds), notes=(NO_BANK,))
    banked = bank_for(bank, context.backbone)
    if banked is not None:
        chosen = choose_sources(context, banked, source, seeds, rows_here() if rows is None else rows)
    engine = context.engine
    jobs = compare_jobs(context, chosen, free_text(unlabelled, context.task), rows)
    order = [job.id for job in jobs]
    finished = sorted(engine.run(jobs, skip=True), key=lambda item: order.index(item.job.id))
    if not finished:
        reasons = "; ".join(engine.skipped.values())
        raise RunError(f"no method could be run ({reasons})", where=context.task.name)
    ranked, best = judge(finished)
    labels = {row_label(method, options) for method, options in (rows_here() if rows is None else rows)}
    skipped = {**engine.skipped, **{label: why for label, why in repeated(chosen.sources).items() if label in labels}}
    all_notes = (
        *chosen.notes,
        *engine.notes(),
        *dict.fromkeys(note for item in finished for note in item.result.notes),
    )
    log_notes(all_notes)
    return Compared(context.task, context.backbone.name, shots, context.recipe, ranked, best, skipped, all_notes)
