"""The engine on one machine computes once what jobs share, packs the rest, and yields results as they come."""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from promptgraft.engine.identity import version_of_results
from promptgraft.engine.keep import make_artefact, sources_of
from promptgraft.engine.progress import Progress, Teller, cost
from promptgraft.engine.result import Failure, Finished, Result
from promptgraft.engine.scoring import Judgement, at_risk, judged, with_held_out
from promptgraft.engine.share import Shared
from promptgraft.engine.store import Store
from promptgraft.engine.view import JobView
from promptgraft.errors import PromptgraftError, RunError
from promptgraft.method.all import check, find
from promptgraft.method.job import Job
from promptgraft.method.method import Split
from promptgraft.model.backbone import Backbone
from promptgraft.readout.classes import class_indices
from promptgraft.readout.probe import deal_labels
from promptgraft.task.metrics import lopsided
from promptgraft.task.sampling import VALIDATION_ROWS, cap, few_shot, split_validation, within
from promptgraft.task.task import Task
from promptgraft.train.loop import train
from promptgraft.train.predict import answer_one
from promptgraft.train.run import Failed, Fit, Run, Trained, Tuned

# Jobs that are set up, and runs that are trained, together. Of small models a step costs more than its products, so a
# run's share of it falls as runs are added (docs/performance.md, many prompts); of wider ones eight are as fast as
# more, and what the optimiser remembers is held for all of them. PACK_WIDTHS is eight runs of 6 layers, 384 wide.
LEAST_PACK, MOST_PACK = 8, 32
PACK_WIDTHS = LEAST_PACK * 6 * 384
HELD_OUT = 0.1
SCORED: tuple[Split, ...] = ("validation", "test")


class LocalEngine:
    """Runs jobs over one backbone in this process.

    Args:
        store: keeps results and checkpoints, so that the same jobs go on where they were; None keeps nothing.
        progress: called whenever the engine has moved on.
    """

    def __init__(self, backbone: Backbone, *, store: Store | None = None, progress: Progress | None = None) -> None:
        self.backbone = backbone
        self.teller = Teller(progress)
        self.shared = Shared(backbone, part=self.teller.part)
        self.store = store
        self.problems: dict[str, tuple[Job, PromptgraftError]] = {}
        self._seconds: dict[str, float] = {}
        self._versions: set[str] = set()
        self._tasks: dict[Hashable, Task] = {}
        self._parts: dict[Hashable, Task] = {}
        self._tuned: dict[str, Tuned] = {}

    def run(self, jobs: Iterable[Job], *, skip: bool = False) -> Iterator[Finished]:
        """Yield the result of each job once, as it comes; jobs they depend on are run too but not returned.

        A job that cannot be set up or finished takes no other with it: the rest are run and kept. Why it could not be
        stands in `problems`, by its id.

        Args:
            skip: leave out what could not be run; else it is an error, once all else is done.

        Raises:
            UsageError, RunError: options that a method does not take, before anything is run; a job that could not be
                run, after all else; both without `skip`. Another call that works in the run folder.
        """
        requested = unique(jobs)
        for job in requested:
            if job.backbone != self.backbone.fingerprint:
                message = f"{job.label} is a job of another backbone ({job.backbone[:12]}) than {self.backbone.name}"
                raise RunError(message, where=job.task.name, do="make the job with this backbone's fingerprint")
        self.problems.clear()
        if not skip:
            for job in requested:
                check(job, learns=self.backbone.learns)
        names = {job.id for job in requested}
        levels = by_dependence(requested)
        self.teller.begin({job.id: self._cost(job) for level in levels for job in level})
        with nullcontext() if self.store is None else self.store.alone():
            for level in levels:
                for finished in self._level(level):
                    if finished.job.id in names:
                        yield finished
        if not skip:
            for job, problem in self.problems.values():
                raise self._final_error(job, problem, len(requested))

    @property
    def skipped(self) -> dict[str, str]:
        """Label -> why it could not be run; with the seeds, where they failed for different reasons."""
        seeds_by_reason: dict[str, dict[str, list[int]]] = {}
        for job, problem in self.problems.values():
            seeds_by_reason.setdefault(job.label, {}).setdefault(problem.line, []).append(job.seed)
        return {
            label: next(iter(reasons))
            if len(reasons) == 1
            else "; ".join(f"seed {', '.join(map(str, seeds))}: {reason}" for reason, seeds in reasons.items())
            for label, reasons in seeds_by_reason.items()
        }

    def _final_error(self, job: Job, problem: PromptgraftError, count: int) -> PromptgraftError:
        """The error to raise for a job that could not be run, which also says what became of the others."""
        if count == 1:
            return problem
        ending = "" if self.store is None else f", and what they gave is kept in {self.store.folder}"
        failed = len(self.problems)
        message = f"{job.label}, seed {job.seed}: {problem.line}"
        return type(problem)(message, do=f"{count - failed} of {count} jobs were run{ending}")

    def _cost(self, job: Job) -> float:
        """What a job should cost, for progress; 0 where its result is kept, or where its rows cannot be drawn."""
        if self.teller.progress is None or (self.store is not None and self.store.result(job) is not None):
            return 0.0
        try:
            return cost(job, self.task(job))
        except PromptgraftError:
            return 0.0

    def view(self, job: Job) -> JobView:
        """The view that a job's method works with."""
        return JobView(job, self.task(job), self.shared, self._finished, self.teller.step)

    def _finished(self, job: Job) -> Tuned:
        if job.id not in self._tuned:
            raise RunError(f"needs {job.label}, which could not be run", where=job.task.name)
        return self._tuned[job.id]

    def task(self, job: Job) -> Task:
        """The job's task with its splits drawn; jobs that draw the same rows get the same object."""
        task = (job.task.fingerprint, job.task.name, job.task.language)
        key = (task, job.shots, seed_of_rows(job), hash(job.unlabelled), _held_out(job))
        if job.part is not None:
            return self._parts.setdefault((key, job.part, job.seed), draw(job))
        if key not in self._tasks:
            self._tasks[key] = draw(job)
        return self._tasks[key]

    def notes(self) -> tuple[str, ...]:
        """Notes on all jobs so far: what was cut or unknown, what the metric hides, which versions they are of."""
        hidden = dict.fromkeys(note for task in self._tasks.values() for note in (*lopsided(task), *self._short(task)))
        return (*self.shared.notes(), *hidden, *mixed(self._versions))

    def _short(self, task: Task) -> tuple[str, ...]:
        """Notes on classes that had fewer rows than were to be drawn."""
        return tuple(f"{task.name}, {note}" for note in task.notes if ": fewer than " in note)

    def _level(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """Run the jobs of one level in packs: results kept by earlier calls first, then fits, then runs.

        Jobs with kept results count when packs are made, so that a killed call finds its packs again (see
        `Checkpoints`).
        """
        for pack in packs(jobs, pack_size(self.backbone)):
            open_jobs = []
            for job in pack:
                finished = self.store.finished(job) if self.store is not None else None
                failure = self.store.failure(job) if self.store is not None and finished is None else None
                if finished is not None:
                    yield self._take_up(finished)
                elif failure is not None:
                    self._leave_out(job, RunError(failure.problem, do="it failed so in an earlier call"))
                else:
                    open_jobs.append(job)
            yield from self._pack(open_jobs)
            if self.store is not None:
                self.store.checkpoints.drop([job.id for job in pack])

    def _take_up(self, finished: Finished) -> Finished:
        """Keep what other jobs may require of a result, and report it."""
        if finished.tuned is not None and finished.tuned.weights is None:  # tuned weights are no one's teacher
            self._tuned[finished.job.id] = finished.tuned
        self._seconds[finished.job.id] = finished.result.seconds
        self._versions.add(finished.result.version)
        self.teller.finish(finished.job.id)
        return finished

    def _leave_out(self, job: Job, problem: PromptgraftError) -> None:
        """Note why a job is left out, and go on without it."""
        self.problems[job.id] = job, problem
        self.teller.finish(job.id)

    def _pack(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """Set up the jobs of a pack, finish the fits, train the runs that can share a batch."""
        groups: dict[tuple[object, ...], list[tuple[Job, JobView, Run, float]]] = {}
        for job in jobs:
            began, saved = time.perf_counter(), self.shared.saved
            self.teller.now(f"{job.label}, setting up", [job.id])
            try:
                check(job, learns=self.backbone.learns)
                view = self.view(job)
                view.notes.extend(note_on_rows(job, view.task))
                run_or_fit = find(job.method).setup(job, view)
            except PromptgraftError as error:
                self._leave_out(job, error)
                continue
            seconds = time.perf_counter() - began + self.shared.saved - saved
            if isinstance(run_or_fit, Fit):
                view.notes.extend(run_or_fit.notes)
                yield self._finish(view, Trained(job.id, run_or_fit.tuned, (), 0, seconds, run_or_fit.parameters))
            else:
                groups.setdefault(run_or_fit.pack, []).append((job, view, run_or_fit, seconds))
        for members in groups.values():
            yield from self._train(members)

    def _train(self, members: Sequence[tuple[Job, JobView, Run, float]]) -> Iterator[Finished]:
        checkpoints = self.store.checkpoints if self.store is not None else None
        label = members[0][0].label if len(members) == 1 else f"{members[0][0].label} and {len(members) - 1} more"

        self.teller.now(label, [job.id for job, _, _, _ in members])
        runs = [run for _, _, run, _ in members]
        trained = train(self.backbone, runs, checkpoints=checkpoints, progress=self.teller.step)
        for (job, view, _, seconds), result in zip(members, trained, strict=True):
            if isinstance(result, Failed):
                self._fail(job, result)
            else:
                yield self._finish(view, replace(result, seconds=result.seconds + seconds))

    def _fail(self, job: Job, failed: Failed) -> None:
        """Store why a run could not be finished, and go on without it."""
        problem = RunError(failed.problem.what, where=f"{job.task.name}, {job.label}", do=failed.problem.do)
        if self.store is not None:
            version = version_of_results()
            failure = Failure(id=job.id, label=job.label, seed=job.seed, problem=problem.line, version=version)
            self.store.save_failure(job, failure)
        self._leave_out(job, problem)

    def _finish(self, view: JobView, trained: Trained) -> Finished:
        """Score a trained job, store its result, and report it."""
        self.teller.scoring(f"{view.job.label}, scoring")
        judgement = self._judged(view, trained)
        trained = replace(trained, tuned=with_held_out(trained.tuned, judgement.get("validation")))
        finished = Finished(view.job, self._result(view, trained, judgement), trained.tuned, trained.history)
        if self.store is not None:
            self.store.save(finished, make_artefact(finished, view))
            if trained.tuned.weights is not None and not self.store.keep_weights:
                finished = replace(finished, tuned=None)
        return self._take_up(finished)

    def _result(self, view: JobView, trained: Trained, judgement: dict[Split, Judgement]) -> Result:
        """The result of a trained job: what it is of, what was chosen, how good it is, and what it cost."""
        job, tuned = view.job, trained.tuned
        return Result(
            id=job.id,
            task=job.task.name,
            label=job.label,
            method=job.method,
            options=dict(job.options),
            source=", ".join(source.name for source in sources_of(job, tuned)) or None,
            shots=job.shots,
            validation_from=job.validation_from,
            labelled=len(view.task.train) + len(view.task.validation),
            seed=job.seed,
            metric=job.task.metric,
            readout=type(tuned.readout).name,
            pooling=tuned.reading.pooling,
            encoding=tuned.reading.encoding,
            template=tuned.reading.template,
            scores={split: own.scores for split, own in judgement.items()},
            rows={split: own.rows for split, own in judgement.items()},
            intervals={split: own.interval for split, own in judgement.items()},
            reliability={split: own.reliability for split, own in judgement.items() if own.reliability is not None},
            selective=at_risk(tuned.held_out, judgement.get("test")),
            seconds=round(trained.seconds, 3),
            required_seconds=round(self._required_seconds(job), 3),
            parameters=trained.parameters,
            steps=trained.steps,
            best_step=trained.best_step,
            notes=tuple(view.notes),
            version=version_of_results(),
        )

    def _required_seconds(self, job: Job) -> float:
        """Seconds of all jobs that a job depends on, each counted once."""
        required = {required_job.id for level in by_dependence([job]) for required_job in level} - {job.id}
        return sum(self._seconds.get(name, 0.0) for name in required)

    def _judged(self, view: JobView, trained: Trained) -> dict[Split, Judgement]:
        """The judgement on validation and test, where they have labels."""
        return {
            split: self._judge(view, trained.tuned, split, shared=not trained.history)
            for split in SCORED
            if view.task.splits.get(split) and view.task.splits[split][0].label is not None
        }

    def _judge(self, view: JobView, tuned: Tuned, split: Split, *, shared: bool) -> Judgement:
        """Score a split; `shared` keeps the hidden states for other jobs (frozen prompts)."""
        if tuned.readout.writes:
            examples = view.task.splits[split]
            return judged(view.task, None, view.texts(tuned, examples), examples)
        tokens, examples = view.tokens(split, tuned.reading), view.task.splits[split]
        if shared and tuned.weights is None:
            answers = view.scores(tuned, examples)
        else:
            answers = answer_one(self.backbone, tuned, tokens)
        return judged(view.task, answers, tuned.readout.predict(answers, tokens, examples, view.task), examples)


def mixed(versions: Collection[str]) -> tuple[str, ...]:
    """A note if the results come from several versions, whose figures may differ by more than noise."""
    if len(versions) < 2:
        return ()
    names = ", ".join(sorted(version or "one before versions were kept" for version in versions))
    return (f"these results are of {len(versions)} versions of promptgraft ({names}); a new --out makes all by one",)


def draw(job: Job) -> Task:
    """Draw the splits a job works on: few-shot rows, a validation split, the unlabelled text."""
    task, seed = job.task, seed_of_rows(job)
    if job.validation_from == "within":
        task = within(task, job.shots, seed, validated=is_validated(job))
    elif job.shots is not None:
        task = few_shot(task, job.shots, seed)
    else:
        task = task if task.validation else split_validation(task, HELD_OUT, seed)
        task = cap(task, "validation", VALIDATION_ROWS, seed)
    if job.part is not None:
        return leave_out(task, job.part, job.seed)
    return task.replace(splits={**task.splits, "unlabelled": job.unlabelled}) if job.unlabelled else task


def leave_out(task: Task, part: int, seed: int) -> Task:
    """The task with its training rows only, one part of a cross-validation left out."""
    fold = deal_labels(np.array(class_indices((row.label for row in task.train), task)), seed)
    kept = (example for example, number in zip(task.train, fold, strict=True) if number != part)
    return task.replace(splits={"train": tuple(kept)})


def is_validated(job: Job) -> bool:
    """Whether the job's method chooses its step on rows that it does not train on."""
    return job.part is None and "validation" in find(job.method).needs


def _held_out(job: Job) -> tuple[str, bool]:
    """What decides, beside shots and seed, which of the labelled rows are for validation."""
    return job.validation_from, job.validation_from == "extra" or is_validated(job)


def note_on_rows(job: Job, task: Task) -> tuple[str, ...]:
    """A note on how many labelled rows are trained on, where validation rows are taken out of them.

    Args:
        task: the job's, its splits drawn.
    """
    work = find(job.method).work(job)
    is_fitted = work.trains is not None or work.probes > 0
    if job.validation_from == "extra" or not is_fitted or not task.train:
        return ()
    held, count = len(task.validation), len(task.train) + len(task.validation)
    return (f"{job.method}: {held or 'none'} of {count:,} labelled rows held out for validation",)


def seed_of_rows(job: Job) -> int:
    """The seed that rows are drawn by: few-shot rows by the job's own, else by 0, so that all seeds share them."""
    return job.seed if job.shots is not None else 0


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Each job once, in order."""
    return list({job.id: job for job in jobs}.values())


def by_dependence(jobs: Sequence[Job]) -> list[list[Job]]:
    """Sort jobs and all they require into levels: what a job requires is in an earlier level."""
    depth: dict[str, int] = {}
    jobs_by_id: dict[str, Job] = {}

    def depth_of(job: Job) -> int:
        if job.id not in depth:
            required = find(job.method).requires(job)
            depth[job.id] = 1 + max((depth_of(required_job) for required_job in required), default=-1)
            jobs_by_id[job.id] = job
        return depth[job.id]

    for job in jobs:
        depth_of(job)
    levels: list[list[Job]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, job in jobs_by_id.items():
        levels[depth[name]].append(job)
    return levels


def pack_size(backbone: Backbone) -> int:
    """The largest number of jobs in a pack: on a processor, fewer for a wider or deeper model."""
    if backbone.device.type != "cpu":
        return MOST_PACK
    return max(LEAST_PACK, min(MOST_PACK, PACK_WIDTHS // (backbone.layers * backbone.hidden)))


def packs(jobs: Sequence[Job], most: int) -> Iterator[list[Job]]:
    """Cut jobs into packs of at most `most`, with jobs of the same method and options side by side."""
    ordered = sorted(jobs, key=lambda job: (job.task.name, job.shots or 0, job.label))
    for start in range(0, len(ordered), most):
        yield ordered[start : start + most]
