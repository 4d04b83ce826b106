"""The engine on one machine: shares what jobs have in common, packs the rest, gives results as they come."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext

from promptgraft.engine.identity import version_of_results
from promptgraft.engine.interval import interval
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.progress import Progress, Teller, cost
from promptgraft.engine.result import Failure, Finished, Result
from promptgraft.engine.share import Shared
from promptgraft.engine.store import Store
from promptgraft.engine.view import JobView
from promptgraft.errors import PromptgraftError, RunError
from promptgraft.method.all import check, find
from promptgraft.method.job import Job
from promptgraft.method.method import Split
from promptgraft.model.backbone import Backbone
from promptgraft.task.metrics import lopsided
from promptgraft.task.metrics import score as metric_score
from promptgraft.task.sampling import cap, few_shot, split_validation
from promptgraft.task.task import Label, Task
from promptgraft.train.loop import train
from promptgraft.train.predict import answer_one, score
from promptgraft.train.run import Failed, Fit, Run, Trained, Tuned

# Jobs that are set up, and runs that are trained, together. Of small models a step costs more than its products, so a
# run's share of it falls as runs are added (docs/performance.md, many prompts); of wider ones eight are as fast as
# more, and what the optimiser remembers is held for all of them. PACK_WIDTHS is eight runs of 6 layers, 384 wide.
LEAST_PACK, MOST_PACK = 8, 32
PACK_WIDTHS = LEAST_PACK * 6 * 384
VALIDATION_ROWS = 500
HELD_OUT = 0.1
SCORED: tuple[Split, ...] = ("validation", "test")


class LocalEngine:
    """Runs jobs over one backbone in this process.

    Args:
        store: keeps results and checkpoints, so that the same jobs go on where they were; None keeps nothing.
        progress: told where the engine is.
    """

    def __init__(self, backbone: Backbone, *, store: Store | None = None, progress: Progress | None = None) -> None:
        self.backbone = backbone
        self.told = Teller(progress)
        self.shared = Shared(backbone, part=self.told.part)
        self.store = store
        self.problems: dict[str, tuple[Job, PromptgraftError]] = {}
        self._seconds: dict[str, float] = {}
        self._versions: set[str] = set()
        self._tasks: dict[tuple[str, int | None, int, int], Task] = {}
        self._tuned: dict[str, Tuned] = {}

    def run(self, jobs: Iterable[Job], *, skip: bool = False) -> Iterator[Finished]:
        """Results of the jobs, each once, as they come; jobs they depend on are run too but not returned.

        A job that cannot be set up or finished takes no other with it: the rest are run and kept. Why it could not be
        stands in `problems`, by its id.

        Args:
            skip: leave out what could not be run; else it is an error, once all else is done.

        Raises:
            UsageError, RunError: options that a method does not take, before anything is run; a job that could not be
                run, after all else; both without `skip`. Another call that works in the run folder.
        """
        asked = unique(jobs)
        for job in asked:
            if job.backbone != self.backbone.fingerprint:
                what = f"{job.label} is a job of another backbone ({job.backbone[:12]}) than {self.backbone.name}"
                raise RunError(what, where=job.task.name, do="make the job with this backbone's fingerprint")
        self.problems.clear()
        if not skip:
            for job in asked:
                check(job)
        names = {job.id for job in asked}
        levels = by_dependence(asked)
        self.told.begin({job.id: self._cost(job) for level in levels for job in level})
        with nullcontext() if self.store is None else self.store.alone():
            for level in levels:
                for finished in self._level(level):
                    if finished.job.id in names:
                        yield finished
        if not skip:
            for job, problem in self.problems.values():
                raise self._after_the_rest(job, problem, len(asked))

    @property
    def skipped(self) -> dict[str, str]:
        """Label -> why it could not be run; with its seeds, where other seeds of the label could be or failed else."""
        found: dict[str, dict[str, list[int]]] = {}
        for job, problem in self.problems.values():
            found.setdefault(job.label, {}).setdefault(str(problem), []).append(job.seed)
        return {
            label: next(iter(reasons))
            if len(reasons) == 1
            else "; ".join(f"seed {', '.join(map(str, seeds))}: {reason}" for reason, seeds in reasons.items())
            for label, reasons in found.items()
        }

    def _after_the_rest(self, job: Job, problem: PromptgraftError, asked: int) -> PromptgraftError:
        """The error of a job that could not be run, saying what became of the others."""
        if asked == 1:
            return problem
        kept = "" if self.store is None else f", and what they gave is kept in {self.store.folder}"
        failed = len(self.problems)
        what = f"{job.label}, seed {job.seed}: {problem}"
        return type(problem)(what, do=f"{asked - failed} of {asked} jobs were run{kept}")

    def _cost(self, job: Job) -> float:
        """For progress: 0 for a job whose result is kept, or that cannot be drawn (it is refused when it is set up)."""
        if self.told.progress is None or (self.store is not None and self.store.result(job) is not None):
            return 0.0
        try:
            return cost(job, self.task(job))
        except PromptgraftError:
            return 0.0

    def view(self, job: Job) -> JobView:
        """What a method sees of a job."""
        return JobView(job, self.task(job), self.shared, self._finished, self.told.step)

    def _finished(self, job: Job) -> Tuned:
        if job.id not in self._tuned:
            raise RunError(f"needs {job.label}, which could not be run", where=job.task.name)
        return self._tuned[job.id]

    def task(self, job: Job) -> Task:
        """The job's task with its splits drawn; one object for all jobs that draw alike."""
        key = (job.task.fingerprint, job.shots, seed_of_rows(job), hash(job.unlabelled))
        if key not in self._tasks:
            self._tasks[key] = draw(job)
        return self._tasks[key]

    def notes(self) -> tuple[str, ...]:
        """What was cut, what the metric hides, and which versions the results are of, over all jobs so far."""
        cut = (
            f"{name}: {count} inputs were longer than allowed and were cut"
            for name, count in sorted(self.shared.cut.items())
        )
        hidden = dict.fromkeys(note for task in self._tasks.values() for note in lopsided(task))
        return (*cut, *hidden, *mixed(self._versions))

    def _level(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """Jobs that wait for nothing, pack by pack: kept ones first, then fits, then runs.

        Kept ones count when packs are made, so that a killed call finds its packs again (see `Checkpoints`).
        """
        for some in packs(jobs, pack_size(self.backbone)):
            open_jobs = []
            for job in some:
                kept = self.store.finished(job) if self.store is not None else None
                failure = self.store.failure(job) if self.store is not None and kept is None else None
                if kept is not None:
                    yield self._known(kept)
                elif failure is not None:
                    self._leave_out(job, RunError(failure.problem, do="it failed so in an earlier call"))
                else:
                    open_jobs.append(job)
            yield from self._pack(open_jobs)
            if self.store is not None:
                self.store.checkpoints.drop([job.id for job in some])

    def _known(self, kept: Finished) -> Finished:
        """Take in what an earlier call gave."""
        if kept.tuned is not None:
            self._tuned[kept.job.id] = kept.tuned
        self._seconds[kept.job.id] = kept.result.seconds
        self._versions.add(kept.result.version)
        self.told.finish(kept.job.id)
        return kept

    def _leave_out(self, job: Job, problem: PromptgraftError) -> None:
        """Go on without a job."""
        self.problems[job.id] = job, problem
        self.told.finish(job.id)

    def _pack(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """Set up a few jobs, finish the fits, train the runs that can share a batch."""
        groups: dict[tuple[object, ...], list[tuple[Job, JobView, Run, float]]] = {}
        for job in jobs:
            began, saved = time.perf_counter(), self.shared.saved
            self.told.now(f"{job.label}, setting up", [job.id])
            try:
                check(job)
                view = self.view(job)
                made = find(job.method).setup(job, view)
            except PromptgraftError as error:
                self._leave_out(job, error)
                continue
            seconds = time.perf_counter() - began + self.shared.saved - saved
            if isinstance(made, Fit):
                view.notes.extend(made.notes)
                yield self._finish(job, view, Trained(job.id, made.tuned, (), 0, seconds, made.parameters))
            else:
                groups.setdefault(made.pack, []).append((job, view, made, seconds))
        for members in groups.values():
            yield from self._train(members)

    def _train(self, members: Sequence[tuple[Job, JobView, Run, float]]) -> Iterator[Finished]:
        checkpoints = self.store.checkpoints if self.store is not None else None
        label = members[0][0].label if len(members) == 1 else f"{members[0][0].label} and {len(members) - 1} more"

        self.told.now(label, [job.id for job, _, _, _ in members])
        runs = [run for _, _, run, _ in members]
        trained = train(self.backbone, runs, checkpoints=checkpoints, progress=self.told.step)
        for (job, view, _, seconds), result in zip(members, trained, strict=True):
            if isinstance(result, Failed):
                self._fail(job, result)
            else:
                yield self._finish(job, view, result, seconds)

    def _fail(self, job: Job, failed: Failed) -> None:
        """Keep why a run could not be finished, and go on without it."""
        problem = RunError(failed.problem.what, where=f"{job.task.name}, {job.label}", do=failed.problem.do)
        if self.store is not None:
            version = version_of_results()
            kept = Failure(id=job.id, label=job.label, seed=job.seed, problem=str(problem), version=version)
            self.store.save_failure(job, kept)
        self._leave_out(job, problem)

    def _finish(self, job: Job, view: JobView, trained: Trained, extra: float = 0.0) -> Finished:
        """Score, keep, tell."""
        self.told.scoring(f"{job.label}, scoring")
        scores, rows, intervals = self._scores(view, trained)
        result = Result(
            id=job.id,
            task=job.task.name,
            label=job.label,
            method=job.method,
            options=dict(job.options),
            source=job.source.name if job.source else None,
            shots=job.shots,
            seed=job.seed,
            metric=job.task.metric,
            readout=type(trained.tuned.readout).name,
            pooling=trained.tuned.pooling,
            encoding=trained.tuned.encoding,
            scores=scores,
            rows=rows,
            intervals=intervals,
            seconds=round(trained.seconds + extra, 3),
            required_seconds=round(self._required_seconds(job), 3),
            parameters=trained.parameters,
            steps=trained.steps,
            best_step=trained.best_step,
            notes=tuple(view.notes),
            version=version_of_results(),
        )
        self._seconds[job.id] = result.seconds
        self._versions.add(result.version)
        finished = Finished(job, result, trained.tuned, trained.history)
        if self.store is not None:
            self.store.save(finished, make_artefact(finished, view))
        if trained.tuned.weights is None:
            self._tuned[job.id] = trained.tuned  # what other jobs may require; tuned weights are no one's teacher
        elif self.store is not None and not self.store.keep_weights:
            finished = Finished(job, result, None, trained.history)
        self.told.finish(job.id)
        return finished

    def _required_seconds(self, job: Job) -> float:
        """Of all jobs that it depends on, each once."""
        required = {other.id for level in by_dependence([job]) for other in level} - {job.id}
        return sum(self._seconds.get(name, 0.0) for name in required)

    def _scores(
        self, view: JobView, trained: Trained
    ) -> tuple[dict[str, dict[str, float]], dict[str, int], dict[str, tuple[float, float]]]:
        """Metrics on validation and test, whichever is there, with their intervals over rows."""
        scores: dict[str, dict[str, float]] = {}
        rows: dict[str, int] = {}
        intervals: dict[str, tuple[float, float]] = {}
        for split in SCORED:
            examples = view.task.splits.get(split, ())
            if not examples or examples[0].label is None:
                continue
            predictions = self.predictions(view, trained.tuned, split, shared=not trained.history)
            scores[split], rows[split] = metric_score(view.task, predictions, examples), len(examples)
            intervals[split] = interval(view.task, predictions, examples)
        return scores, rows, intervals

    def predictions(self, view: JobView, tuned: Tuned, split: Split, *, shared: bool) -> list[Label]:
        """Predictions on a split; `shared` keeps the hidden states for other jobs (frozen prompts)."""
        tokens = view.tokens(split, tuned.encoding)
        if shared and tuned.weights is None:
            answers = score(tuned, self.shared.states(tokens, tuned.prompt, tuned.read), tokens)
        else:
            answers = answer_one(self.backbone, tuned, tokens)
        return list(tuned.readout.predict(answers, tokens, view.task.splits[split], view.task))


def mixed(versions: Collection[str]) -> tuple[str, ...]:
    """A note where results are of several versions, whose figures may differ by more than noise."""
    if len(versions) < 2:
        return ()
    names = ", ".join(sorted(version or "one before versions were kept" for version in versions))
    return (f"these results are of {len(versions)} versions of promptgraft ({names}); a new --out makes all by one",)


def draw(job: Job) -> Task:
    """The splits a job works on: few-shot rows, a validation split, the unlabelled text."""
    task, seed = job.task, seed_of_rows(job)
    if job.shots is not None:
        task = few_shot(task, job.shots, seed)
    else:
        task = task if task.validation else split_validation(task, HELD_OUT, seed)
        task = cap(task, "validation", VALIDATION_ROWS, seed)
    return task.replace(splits={**task.splits, "unlabelled": job.unlabelled}) if job.unlabelled else task


def seed_of_rows(job: Job) -> int:
    """What the rows are drawn by: few of them anew for every seed, all of them alike, so that they are read once."""
    return job.seed if job.shots is not None else 0


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Each job once, in order."""
    return list({job.id: job for job in jobs}.values())


def by_dependence(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs and all they require, in levels: what a level requires stands in an earlier one."""
    depth: dict[str, int] = {}
    known: dict[str, Job] = {}

    def place(job: Job) -> int:
        if job.id not in depth:
            required = find(job.method).requires(job)
            depth[job.id] = 1 + max((place(one) for one in required), default=-1)
            known[job.id] = job
        return depth[job.id]

    for job in jobs:
        place(job)
    levels: list[list[Job]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, job in known.items():
        levels[depth[name]].append(job)
    return levels


def pack_size(backbone: Backbone) -> int:
    """Jobs of a pack, at most: fewer of a wider or deeper model, on a processor."""
    if backbone.device.type != "cpu":
        return MOST_PACK
    return max(LEAST_PACK, min(MOST_PACK, PACK_WIDTHS // (backbone.layers * backbone.hidden)))


def packs(jobs: Sequence[Job], most: int) -> Iterator[list[Job]]:
    """At most so many jobs at a time, those alike in method and options together."""
    ordered = sorted(jobs, key=lambda job: (job.task.name, job.shots or 0, job.label))
    for start in range(0, len(ordered), most):
        yield ordered[start : start + most]
