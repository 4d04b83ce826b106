"""The store keeps results on disk, one folder for each job; a job whose result exists is not computed again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import filelock
from pydantic import BaseModel
from torch import Tensor

from promptgraft.engine.identity import version_of_results
from promptgraft.engine.others import backbone_of
from promptgraft.engine.result import Failure, Finished, Result
from promptgraft.errors import ArtefactError, RunError
from promptgraft.method.job import Job
from promptgraft.model.backbone import Backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.atomic import NO_ROOM, tidy, write_bytes
from promptgraft.prompt.memory import LabelMemory
from promptgraft.readout.restore import check_fits, restore, restore_member
from promptgraft.train.checkpoint import Checkpoints
from promptgraft.train.run import HeldOut, Tuned
from promptgraft.untrusted import why

RESULT, FAILURE, LOCK = "result.json", "failure.json", ".lock"
PATIENCE = 60.0
"""Seconds to wait for another call that writes a result: that takes a moment."""
ARTEFACT = "artefact"
"""The folder of a job's model, and of the model a run folder gives."""


@dataclass(frozen=True)
class Store:
    """A run folder: `jobs/ID/{job.json, history.csv, artefact/, result.json}` and `checkpoint/`.

    `result.json` is written last, so a job folder with one is complete; `failure.json` stands in its place where the
    run could not be finished. One call at a time works in a run folder.

    Attributes:
        every: least seconds between two checkpoints.
        keep_weights: whether models with weights of their own are kept, at the size of the backbone each.
    """

    folder: Path
    every: float = 5.0
    keep_weights: bool = True

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoint", self.every)

    def place(self, job: Job) -> Path:
        return self.folder / "jobs" / job.id

    def save(self, finished: Finished, artefact: Artefact) -> None:
        """Keep a result with its model and history.

        Raises:
            RunError, ArtefactError: it could not be written; what was there stays as it was.
        """
        with self._writing(finished.job) as folder:
            if finished.history:
                write_bytes(folder / "history.csv", history_csv(finished.history).encode())
            if artefact.weights is None or self.keep_weights:
                artefacts.save(artefact, folder / ARTEFACT)
            write_bytes(folder / RESULT, finished.result.model_dump_json(indent=2).encode())
            (folder / FAILURE).unlink(missing_ok=True)

    def save_failure(self, job: Job, failure: Failure) -> None:
        """Keep why a job's run could not be finished.

        Raises:
            RunError: it could not be written.
        """
        with self._writing(job) as folder:
            write_bytes(folder / FAILURE, failure.model_dump_json(indent=2).encode())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the run folder, so that no other call works in it meanwhile.

        Raises:
            RunError: another one works in it now, or the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._lock()
            lock.acquire(timeout=0)
        except filelock.Timeout:
            do = "wait until it has ended, or name another folder with --out"
            raise RunError("another call works in this run folder", where=self.folder, do=do) from None
        except OSError as error:
            what = f"the run folder cannot be written to ({why(error)})"
            raise RunError(what, where=self.folder, do="name another with --out") from error
        try:
            yield
        finally:
            lock.release()

    def _lock(self) -> filelock.BaseFileLock:
        """The run folder's lock; a thread that holds it may take it again."""
        return filelock.FileLock(self.folder / LOCK, is_singleton=True)

    @contextmanager
    def _writing(self, job: Job) -> Iterator[Path]:
        """Lock the job's folder for writing, and give it."""
        folder = self.place(job)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._lock().acquire(timeout=PATIENCE):
                tidy(folder)
                write_bytes(folder / "job.json", json.dumps(job.describe(), indent=2).encode())
                yield folder
        except filelock.Timeout:
            raise RunError(f"another call has been writing here for {PATIENCE:.0f} s", where=self.folder) from None
        except OSError as error:
            do = "make room on the disk; the same call goes on where it was" if error.errno in NO_ROOM else None
            raise RunError(f"the result could not be written ({why(error)})", where=folder, do=do) from error

    def result(self, job: Job) -> Result | None:
        """The result of a job that was finished earlier, if there is one."""
        return _stored(self.place(job) / RESULT, Result)

    def failure(self, job: Job) -> Failure | None:
        """The stored failure of the job, if it comes from this very version."""
        failure = _stored(self.place(job) / FAILURE, Failure)
        return failure if failure is not None and failure.version == version_of_results() else None

    def finished(self, job: Job) -> Finished | None:
        """The result of a job with its model; None also where the model should be there and is damaged."""
        result, place = self.result(job), self.place(job) / ARTEFACT
        if result is None:
            return None
        if not self.keep_weights and not place.exists():
            return Finished(job, result, None)
        try:
            tuned = tuned_of(artefacts.load(place, fingerprint=job.backbone))
        except ArtefactError:
            return None
        return Finished(job, result, tuned)


Kept = TypeVar("Kept", bound=BaseModel)


def _stored(path: Path, kind: type[Kept]) -> Kept | None:
    """Read a stored value from a file; None where the file is missing or damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def tuned_of(artefact: Artefact, backbone: Backbone | None = None) -> Tuned:
    """Restore the model of an artefact.

    Args:
        backbone: what it will predict on; None does not ask whether it fits.
    Raises:
        ArtefactError: prompt or readout are not what its card says, or do not fit the backbone.
    """
    card = artefact.card
    if backbone is not None:
        check_fits(artefact, backbone)
    others = tuple(
        Tuned(
            member.prompt,
            restore_member(member, card, backbone),
            member.reading,
            model=None if member.backbone is None else backbone_of(member.backbone, card.task.name),
        )
        for member in artefact.others
    )
    readout, held_out = restore(artefact, backbone), held_out_of(artefact.labelled)
    unseen = artefact.memory.odds if isinstance(artefact.memory, LabelMemory) else None
    return Tuned(artefact.prompt, readout, artefact.reading, artefact.weights, others, held_out, unseen=unseen)


def of_held_out(held_out: HeldOut | None) -> dict[str, Tensor]:
    """What a model answered on labelled rows it had not seen, as tensors of an artefact."""
    return {} if held_out is None else {"confidence": held_out.confidence, "correct": held_out.correct.float()}


def held_out_of(labelled: Mapping[str, Tensor]) -> HeldOut | None:
    """The same from an artefact's tensors; None where it has none."""
    return HeldOut(labelled["confidence"], labelled["correct"].bool()) if "confidence" in labelled else None


def history_csv(history: tuple[dict[str, float], ...]) -> str:
    """The history as CSV, a row for each step; columns are in the order of their first appearance."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
