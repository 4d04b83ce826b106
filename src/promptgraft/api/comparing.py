"""Look before choosing: which of a bank's prompts should transfer, and which method does best on a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptgraft.api.jobs import Chosen, choose_sources, compare_jobs
from promptgraft.api.opening import as_bank, free_text, log_notes, opened, seeds_of
from promptgraft.bank.bank import Bank
from promptgraft.engine.progress import Progress
from promptgraft.engine.rank import Ranking, candidates, rank_sources
from promptgraft.errors import RunError, UsageError
from promptgraft.method.job import row_label
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.report.compare import write
from promptgraft.report.table import comparison_table
from promptgraft.study.compare import Comparison, judge, repeated, rows_here
from promptgraft.task.task import Task

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Compared(Comparison):
    """What `compare` gives: the comparison, with its page and its figures as plain values."""

    def report(self, path: str | Path) -> dict[str, Path]:
        """Write report.html and results.csv into a folder; name of the file -> its path."""
        return write(self, Path(path))

    def to_dict(self) -> dict[str, object]:
        """All of it as plain values, fit for JSON; numbers are percent, None where there is none."""
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
        """A pandas DataFrame with a row a method, in the order of the report.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise UsageError("to_frame needs pandas", do="pip install pandas, or use to_dict()") from error
        return DataFrame(comparison_table(self))


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
    ranking = rank_sources(given.engine, job, sources, measures, left_out)
    log_notes([*given.task.notes, *given.engine.notes(), *(f"left out: {reason}" for reason in left_out)])
    return ranking


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
) -> Compared:
    """Every method on one task at equal steps over several seeds; chosen by validation, reported on test."""
    given = opened(
        task, model, recipe, shots, out=out, test_rows=test_rows, device=device, progress=progress, keep_weights=False
    )
    seeds = seeds_of(seeds)
    chosen = Chosen(dict.fromkeys(seeds), notes=("no bank was given: methods that need a source are left out",))
    if bank is not None:
        methods = [method for method, _ in (rows_here() if rows is None else rows)]
        chosen = choose_sources(given, as_bank(bank), source, seeds, methods)
    engine = given.engine
    jobs = compare_jobs(given, chosen, free_text(unlabelled, given.task), rows)
    order = [job.id for job in jobs]
    finished = sorted(engine.run(jobs, skip=True), key=lambda one: order.index(one.job.id))
    if not finished:
        reasons = "; ".join(engine.skipped.values())
        raise RunError(f"no method could be run ({reasons})", where=given.task.name)
    ranked, best = judge(finished)
    asked = {row_label(method, options) for method, options in (rows_here() if rows is None else rows)}
    skipped = {**engine.skipped, **{label: why for label, why in repeated(chosen.sources).items() if label in asked}}
    said = (*chosen.notes, *engine.notes(), *dict.fromkeys(note for one in finished for note in one.result.notes))
    log_notes(said)
    return Compared(given.task, given.backbone.name, shots, given.recipe, ranked, best, skipped, said)
