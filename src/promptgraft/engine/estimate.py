"""An estimate predicts what jobs will cost: their steps and passes are counted and priced by a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from promptgraft.engine.calibration import Calibration, calibrated, passes
from promptgraft.engine.local import LocalEngine, by_dependence, pack_size, packs, unique
from promptgraft.engine.near import tokens_shown
from promptgraft.engine.others import other_backbone
from promptgraft.engine.worded import AUTO, in_words
from promptgraft.errors import RunError
from promptgraft.method.all import check, find
from promptgraft.method.job import Job
from promptgraft.method.method import Split, Trains, Work, steps_of
from promptgraft.model.backbone import Backbone
from promptgraft.model.memory import held_bytes
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Task
from promptgraft.template.parts import Wording
from promptgraft.template.template import Template
from promptgraft.train.loop import kept_bytes, pieces, step_tokens


@dataclass(frozen=True)
class MethodCost:
    """What the jobs of one label should cost.

    Attributes:
        seconds: of all of them together.
    """

    label: str
    jobs: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """The predicted time and memory of a list of jobs.

    Attributes:
        lines: by label, in the order they were asked; what is only required by others is among them.
        finished: jobs whose results are kept already; they cost nothing.
        skipped: label -> why it cannot be run, or is not known.
        ranking: seconds of choosing sources.
        mebibytes: peak of the process, what it holds now included.
    """

    lines: tuple[MethodCost, ...]
    finished: int
    skipped: dict[str, str]
    ranking: float
    mebibytes: float

    @property
    def seconds(self) -> float:
        """The predicted seconds of all jobs and of choosing sources."""
        return self.ranking + sum(line.seconds for line in self.lines)


@dataclass(frozen=True)
class _Rows:
    """How many rows a split has, and how many tokens."""

    count: int
    tokens: int

    @property
    def length(self) -> float:
        return self.tokens / max(1, self.count)


def estimate(engine: LocalEngine, jobs: Sequence[Job], *, rankings: Sequence[tuple[Job, int]] = ()) -> Estimate:
    """Predict the seconds and memory of jobs, as `engine.run(jobs, skip=True)` would do them.

    Args:
        rankings: whose rows sources are ranked on, and how many sources.
    """
    peak = _Peak(held_bytes(torch.device("cpu")) / 2**20)  # before a calibration, which the job itself does not need
    calibration = calibrated(engine.backbone, engine.shared.cache)
    seconds: dict[str, float] = {}
    counts: dict[str, int] = {}
    skipped: dict[str, str] = {}
    finished = 0
    for level in by_dependence(unique(jobs)):
        for pack in packs(level, pack_size(engine.backbone)):
            open_jobs = []
            for job in pack:
                if engine.store is not None and engine.store.result(job) is not None:
                    finished += 1
                    continue
                try:
                    check(job, learns=engine.backbone.learns)
                except RunError as error:
                    skipped[job.label] = error.line
                    continue
                open_jobs.append(job)
            for job, cost in _pack(engine, calibration, open_jobs, peak):
                seconds[job.label] = seconds.get(job.label, 0.0) + cost
                counts[job.label] = counts.get(job.label, 0) + 1
    ranking = sum(_ranking(engine, calibration, job, sources) for job, sources in rankings)
    lines = tuple(MethodCost(label, counts[label], cost) for label, cost in seconds.items())
    return Estimate(lines, finished, skipped, ranking, peak.mebibytes(engine))


def _pack(engine: LocalEngine, calibration: Calibration, jobs: Sequence[Job], peak: _Peak) -> list[tuple[Job, float]]:
    """Predict the seconds of each job of a pack; jobs that train together share their steps."""
    costs = []
    works = [(job, find(job.method).work(job)) for job in jobs]
    for kind, members in groupby(sorted(works, key=lambda item: _order(item[1])), key=lambda item: item[1].trains):
        together = list(members)
        share = 0.0 if kind is None else _training(engine, calibration, kind, [job for job, _ in together], peak)
        runs = len(together)
        costs += [(job, share / runs + _alone(engine, calibration, job, work, runs)) for job, work in together]
    return costs


def _order(work: Work) -> str:
    return work.trains or ""


def _training(engine: LocalEngine, calibration: Calibration, kind: Trains, jobs: Sequence[Job], peak: _Peak) -> float:
    """Predict the seconds of the loop: steps of all runs together (weights: one by one), and looks at validation."""
    if kind == "weights" and len(jobs) > 1:
        return sum(_training(engine, calibration, kind, [job], peak) for job in jobs)
    step = calibration.step(kind)
    total = 0.0
    rows = [_rows(engine, job, "train") for job in jobs]
    sizes = [
        part.length * min(job.recipe.batch, part.count) + _unlabelled(engine, job)
        for job, part in zip(jobs, rows, strict=True)
    ]
    steps = max(steps_of(job, find(job.method).work(job), part.count) for job, part in zip(jobs, rows, strict=True))
    for piece in pieces(sizes, step_tokens(engine.backbone)):
        length, tokens = sum(part.length for part in rows) / len(rows), sum(sizes[run] for run in piece)
        total += steps * step(len(piece), tokens, length)
        peak.step(kind, tokens)
    looks = [(job.recipe.evaluations, _rows(engine, job, "validation")) for job in jobs]
    for evaluations, validation in looks:
        if validation.count:
            look = calibration.forward(1, validation.tokens, validation.length)
            total += evaluations * (look + (calibration.swap if kind == "weights" else 0.0))
    return total


def _alone(engine: LocalEngine, calibration: Calibration, job: Job, work: Work, runs: int) -> float:
    """Predict what a job costs beside the loop: scoring its model, its terms and teachers, its probes.

    Args:
        runs: that train together; their teachers are asked in one pass.
    """
    total = calibration.job + work.probes * calibration.probe
    train = _rows(engine, job, "train")
    for split in ("validation", "test"):
        rows = _rows(engine, job, split)
        if rows.count:
            total += calibration.forward(1, rows.tokens, rows.length) + (
                calibration.swap if work.trains == "weights" else 0.0
            )
    total += calibration.forward(1, round(work.passes(train.count) * train.tokens), train.length)
    step = train.length * min(job.recipe.batch, train.count)
    teacher = calibration.forward(runs, runs * step, train.length) / runs
    total += job.recipe.steps * (work.terms * calibration.term + work.teachers * teacher)
    return total if work.words is None else total + _words(engine, calibration, job, work.words)


def _words(engine: LocalEngine, calibration: Calibration, job: Job, model: str) -> float:
    """Predict the seconds in which a template's words are read of all rows.

    Args:
        model: that reads them; empty for the job's own.
    """
    backbone = other_backbone(model) if model else engine.backbone
    forward = passes(backbone, engine.shared.cache) if model else calibration.forward
    shared = engine.shared.beside(backbone) if model else engine.shared
    task, recipe = engine.task(job), job.recipe
    longer = _in_template(backbone, task, job)
    total = 0.0
    for split in ("train", "validation", "test"):
        rows = task.splits.get(split, ())
        if rows:
            tokens = shared.tokens(rows, task.kind, Reading("mean"), recipe.max_length, task.name)
            count = len(tokens.ids) + longer * tokens.sequences
            total += forward(1, count, count / tokens.count)
    return total


def _in_template(backbone: Backbone, task: Task, job: Job) -> int:
    """About how many tokens a row has more in the words of the job's template, demonstrations among them."""
    recipe = job.recipe
    verbalizer = "" if recipe.verbalizer == AUTO else recipe.verbalizer
    try:
        worded = in_words(recipe.template, verbalizer, task, job.seed)
    except RunError:  # the run itself will say why
        return 0
    own = "".join(part.text for part in Template.parse(worded.template).parts if isinstance(part, Wording))
    return tokens_shown(worded, backbone, recipe.max_length) + int(backbone.tokenize_texts([own]).lengths.sum())


def _ranking(engine: LocalEngine, calibration: Calibration, job: Job, sources: int) -> float:
    """Predict the seconds of a ranking: a pass over the labelled rows and a cross-validated probe for every source."""
    rows = [_rows(engine, job, "train"), _rows(engine, job, "validation")]
    passes = sum(calibration.forward(1, part.tokens, part.length) for part in rows)
    return sources * (passes + calibration.probe)


def _rows(engine: LocalEngine, job: Job, split: Split) -> _Rows:
    """Rows and tokens that a job reads of a split, those of nearest demonstrations among them."""
    task = engine.task(job)
    rows = task.splits.get(split, ())
    if not rows:
        return _Rows(0, 0)
    tokens = engine.shared.tokens(rows, task.kind, Reading("mean"), job.recipe.max_length, task.name)
    return _Rows(tokens.count, len(tokens.ids) + tokens.sequences * _shown(engine, job, task))


def _shown(engine: LocalEngine, job: Job, task: Task) -> int:
    """How many tokens of demonstrations chosen for a row a job reads with each; 0 where it reads no template."""
    recipe = job.recipe
    if not recipe.template or "readout" not in find(job.method).options.model_fields:
        return 0
    verbalizer = "" if recipe.verbalizer == AUTO else recipe.verbalizer
    try:
        return tokens_shown(in_words(recipe.template, verbalizer, task, job.seed), engine.backbone, recipe.max_length)
    except RunError:  # the run itself will say why
        return 0


def _unlabelled(engine: LocalEngine, job: Job) -> float:
    """How many tokens of unlabelled text a step reads."""
    rows = _rows(engine, job, "unlabelled")
    return rows.length * min(job.recipe.batch, rows.count)


class _Peak:
    """The largest training step so far, which decides the peak of memory."""

    def __init__(self, resident: float) -> None:
        self.resident = resident
        self.tokens = 0.0
        self.trains_weights = False

    def step(self, kind: Trains, tokens: float) -> None:
        """Count a training step of so many tokens."""
        self.tokens = max(self.tokens, tokens)
        self.trains_weights |= kind == "weights"

    def mebibytes(self, engine: LocalEngine) -> float:
        """What the process holds, activations of the largest step, and copies of weights that are trained.

        A layer keeps about twelve widths a token. Of weights that learn there are the trained copy, its gradient, that
        gradient clipped, two moments and the best state, in fp32, and three packed ones in the backbone's arithmetic.
        Of the whole model there are the one that is looked at on validation, in fp32 and in the backbone's
        arithmetic, and the one that is given back; of the table of words one more.
        """
        backbone = engine.backbone
        width = 2 if backbone.arithmetic == "bf16" else 4
        activations = self.tokens * kept_bytes(backbone)
        numbers = sum(value.numel() for value in backbone.weights.values())
        table = backbone.weights[backbone.words].numel()
        weights = (24 + 3 * width) * (numbers - table) + (8 + width) * numbers + 4 * table
        return self.resident + (activations + (weights if self.trains_weights else 0)) / 2**20
