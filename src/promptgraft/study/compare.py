"""A comparison runs every method on one target at equal steps and several seeds.

The best is chosen by validation and reported on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from promptgraft.engine.result import Finished, Result
from promptgraft.errors import UsageError
from promptgraft.method import setfit
from promptgraft.method.all import find
from promptgraft.method.job import Job, Source, ValidationFrom, row_label
from promptgraft.sheet import Sheet
from promptgraft.study.judge import Mean, mean, paired
from promptgraft.task.metrics import METRICS
from promptgraft.task.task import Example, Task
from promptgraft.train.recipe import Recipe

BASELINE = "prompt-tuning:linear"

ROWS: tuple[tuple[str, dict[str, str]], ...] = (
    ("linear-probe", {}),
    ("graft", {}),
    ("zero-shot", {"prompt": "none"}),
    ("prompt-tuning", {"readout": "linear"}),
    ("prompt-tuning", {"readout": "label-text"}),
    ("model-tuning", {}),
    ("frozen-source", {}),
    ("zero-shot", {"prompt": "source"}),
    ("pot", {"readout": "new"}),
    ("pot", {"readout": "keep"}),
    ("pot", {"readout": "label-text"}),
    ("panda", {"mode": "released"}),
    ("panda", {"mode": "paper"}),
    ("panda", {"mode": "gated"}),
    *(("panda", {"mode": "paper", "teacher": name}) for name in ("self", "shuffled-in-class", "shuffled", "random")),
    ("panda", {"mode": "released", "weight": "0"}),
    ("panda", {"mode": "gated", "teacher": "shuffled"}),
)
"""Methods and their placebos, in the order of the report."""


def rows_here() -> tuple[tuple[str, dict[str, str]], ...]:
    """The rows of a full comparison here: ROWS, and SetFit if its extra is installed."""
    return (*ROWS, ("setfit", {})) if setfit.installed() else ROWS


def rows_of(method: str) -> tuple[tuple[str, dict[str, str]], ...]:
    """The rows of a method; one with its defaults if ROWS has none, as for methods of other packages."""
    return tuple(row for row in ROWS if row[0] == method) or ((method, {}),)


def plan(
    task: Task,
    backbone: str,
    sources: Mapping[int, Source | None],
    recipe: Recipe,
    shots: int | None,
    *,
    unlabelled: tuple[Example, ...] = (),
    rows: Sequence[tuple[str, Mapping[str, object]]] = ROWS,
    bank: tuple[Source, ...] = (),
    validation_from: ValidationFrom = "extra",
) -> list[Job]:
    """Expand a comparison into jobs.

    Args:
        sources: seed -> the source chosen on that seed's rows; None leaves out what needs one.
    """
    jobs = []
    for method, options in rows:
        for seed, source in sources.items():
            needs = "source" in find(method).needs or options.get("prompt") == "source"
            wants = needs or options.get("effort") == "full"
            if needs and (source is None or _repeats(method, options, source)):
                continue
            banked = bank if "bank" in find(method).needs else ()
            reads = (method == "panda" and options.get("mode") != "released") or (banked and shots == 0)
            free = unlabelled if reads else ()
            job_source = source if wants else None
            jobs.append(
                Job(task, backbone, method, seed, recipe, shots, job_source, options, free, banked, validation_from)
            )
    return jobs


def repeated(sources: Mapping[int, Source | None]) -> dict[str, str]:
    """The rows that `plan` leaves out because another row is the same run, and why."""
    keep = {"readout": "keep"}
    if not any(source is not None and _repeats("pot", keep, source) for source in sources.values()):
        return {}
    return {row_label("pot", keep): "the source's own readout is label text, which makes it the run pot:label-text"}


def _repeats(method: str, options: Mapping[str, object], source: Source) -> bool:
    """Whether a row that keeps the source's own readout is the same run as the row of label text."""
    keeps = method == "pot" and options.get("readout") == "keep"
    return keeps and source.artefact.card.readout in ("label-text", "multilabel-text")


@dataclass(frozen=True)
class Row:
    """One method of a comparison over its seeds.

    Attributes:
        test: mean over seeds; None where the task has no test rows.
        gain: paired difference to prompt tuning from scratch with a linear readout, on test.
        seconds: mean over seeds, jobs that a method needs finished included.
    """

    label: str
    test: Mean | None
    validation: Mean | None
    gain: Mean | None
    seconds: float
    parameters: int
    sources: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def ece(self) -> Mean | None:
        """Expected calibration error on test, in percent; None where the task has no classes, or no test rows."""
        values = [result.reliability["test"].ece.value for result in self.results if "test" in result.reliability]
        return mean(values, (0.0, 100.0)) if values else None


@dataclass(frozen=True, repr=False)
class Comparison:
    """The rows of a comparison and the choice by validation.

    Attributes:
        best: label of the row with the best mean validation score, placebos aside; the smaller model wins a tie.
        skipped: label -> why it could not be run.
    """

    task: Task
    backbone: str
    shots: int | None
    recipe: Recipe
    rows: tuple[Row, ...]
    best: str
    skipped: Mapping[str, str]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return self._sheet().text()

    def _repr_html_(self) -> str:
        return self._sheet().html()

    def _sheet(self) -> Sheet:
        facts = [f"chosen by validation: {self.best or 'none, since nothing was validated'}"]
        facts += [f"{len(self.skipped)} were skipped, in .skipped"] if self.skipped else []
        facts += [f"notes: {len(self.notes)}, in .notes"] if self.notes else []
        shots = "all rows" if self.shots is None else f"{self.shots} shots"
        heading = f"Comparison on {self.task.name} with {self.backbone}, {shots}, {self.task.metric} in percent"
        columns = ("method", "test", "gain", "validation", "seconds")
        return Sheet(heading, tuple(facts), columns, [_shown(row) for row in self.rows])


def _shown(row: Row) -> tuple[str, ...]:
    """The cells of a row; empty where there is no figure."""
    means = (row.test, row.gain, row.validation)
    return (row.label, *("" if mean is None else str(mean) for mean in means), f"{row.seconds:.1f}")


def judge(finished: Sequence[Finished], baseline: str = BASELINE) -> tuple[tuple[Row, ...], str]:
    """Group results into rows; return them with the label validation chooses, empty where nothing was validated."""
    groups: dict[str, list[Result]] = {}
    for item in finished:
        groups.setdefault(item.result.label, []).append(item.result)
    base = scores(groups.get(baseline, []), "test")
    rows = tuple(_row(label, results, base, label == baseline) for label, results in groups.items())
    judged = [row for row in rows if row.validation is not None and not is_placebo(row.results[0])]
    best = max(judged, key=lambda row: (row.validation.value, -row.parameters), default=None)  # type: ignore[union-attr]
    return rows, best.label if best is not None else ""


def is_placebo(result: Result) -> bool:
    """Whether a run only shows what a method owes to its source."""
    return bool(missing(result))


def missing(result: Result) -> str:
    """What a placebo lacks, in words; empty for every other run, also if its method is not installed here."""
    with suppress(UsageError):
        return find(result.method).options.read(result.method, result.options).placebo()
    return ""


def _row(label: str, results: Sequence[Result], base: Mapping[int, float], is_base: bool) -> Row:
    test, validation = scores(results, "test"), scores(results, "validation")
    bounds = METRICS[results[0].metric].bounds
    return Row(
        label=label,
        test=mean(list(test.values()), bounds) if test else None,
        validation=mean(list(validation.values()), bounds) if validation else None,
        gain=None if is_base else paired(test, base, bounds),
        seconds=sum(result.seconds + result.required_seconds for result in results) / len(results),
        parameters=max(result.parameters for result in results),
        sources=tuple(dict.fromkeys(name for result in results for name in (result.source or "").split(", ") if name)),
        results=tuple(results),
    )


def scores(results: Sequence[Result], split: str) -> dict[int, float]:
    """Seed -> the task's metric on a split, of the results that have one."""
    return {result.seed: result.scores[split]["score"] for result in results if split in result.scores}


CSV_COLUMNS = (
    "target", "shots", "seed", "method", "score", "metric", "validation",
    "ece", "ece_low", "ece_high", "ece_perfect", "log_loss", "log_loss_low", "log_loss_high",
    "brier", "brier_low", "brier_high", "coverage", "error_at_risk", "source", "readout", "pooling", "encoding",
    "seconds", "required_seconds", "parameters", "steps", "best_step", "test_rows", "job", "version",
    "validation_from", "labelled",
)  # fmt: skip


def csv_row(result: Result) -> dict[str, object]:
    """A result as a row of results.csv."""
    return {
        "target": result.task,
        "shots": "all" if result.shots is None else result.shots,
        "seed": result.seed,
        "method": result.label,
        "score": _rounded(result, "test"),
        "metric": result.metric,
        "validation": _rounded(result, "validation"),
        **_reliability(result),
        "source": result.source or "",
        "readout": result.readout,
        "pooling": result.pooling,
        "encoding": result.encoding,
        "seconds": result.seconds,
        "required_seconds": result.required_seconds,
        "parameters": result.parameters,
        "steps": result.steps,
        "best_step": result.best_step,
        "test_rows": result.rows.get("test", 0),
        "job": result.id,
        "version": result.version,
        "validation_from": result.validation_from,
        "labelled": "" if result.labelled is None else result.labelled,
    }


def _rounded(result: Result, split: str) -> float | str:
    """The metric on a split; an empty cell where the split was not scored."""
    return round(result.scores[split]["score"], 3) if split in result.scores else ""


def _reliability(result: Result) -> dict[str, object]:
    """The figures of a result's probabilities on test, by column; empty cells where it has none."""
    columns = CSV_COLUMNS[CSV_COLUMNS.index("ece") : CSV_COLUMNS.index("source")]
    if "test" not in result.reliability:
        return dict.fromkeys(columns, "")
    own = result.reliability["test"]
    figures: dict[str, float | None] = {}
    for name, figure in (("ece", own.ece), ("log_loss", own.log_loss), ("brier", own.brier)):
        figures |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    figures["ece_perfect"] = own.perfect
    if "test" in result.selective:
        answered = result.selective["test"]
        figures |= {"coverage": answered.coverage, "error_at_risk": answered.error}
    return {name: "" if (value := figures.get(name)) is None else round(value, 4) for name in columns}
