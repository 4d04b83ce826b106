"""Results on disk: a folder a job, whole or not there; a job whose result exists is not computed again."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from promptgraft.engine.result import Finished, Result
from promptgraft.errors import ArtefactError, RunError
from promptgraft.method.job import Job
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.atomic import NO_ROOM, tidy, write_bytes
from promptgraft.readout.readout import find as find_readout
from promptgraft.train.checkpoint import Checkpoints
from promptgraft.train.run import Tuned

ARTEFACT = "artefact"
"""The folder of a job's model, and of the model a run folder gives."""


@dataclass(frozen=True)
class Store:
    """A run folder: `jobs/ID/{job.json, history.csv, artefact/, result.json}` and `checkpoint/`.

    `result.json` is written last, so a job folder with one is complete.

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
        folder = self.place(finished.job)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tidy(folder)
            write_bytes(folder / "job.json", json.dumps(finished.job.describe(), indent=2).encode())
            if finished.history:
                write_bytes(folder / "history.csv", history_csv(finished.history).encode())
            if artefact.weights is None or self.keep_weights:
                artefacts.save(artefact, folder / ARTEFACT)
            write_bytes(folder / "result.json", finished.result.model_dump_json(indent=2).encode())
        except OSError as error:
            do = "make room on the disk; the same call goes on where it was" if error.errno in NO_ROOM else None
            raise RunError(f"the result could not be written ({error.strerror})", where=folder, do=do) from error

    def result(self, job: Job) -> Result | None:
        """The result of a job that was finished earlier."""
        path = self.place(job) / "result.json"
        try:
            return Result.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            return None

    def finished(self, job: Job) -> Finished | None:
        """The same with its model; None also where the model should be there and is damaged."""
        result, place = self.result(job), self.place(job) / ARTEFACT
        if result is None:
            return None
        if not self.keep_weights and not place.exists():
            return Finished(job, result, None)
        try:
            kept = artefacts.load(place, fingerprint=job.backbone)
        except ArtefactError:
            return None
        return Finished(job, result, tuned_of(kept))


def tuned_of(artefact: Artefact) -> Tuned:
    """What an artefact predicts with."""
    card = artefact.card
    readout = find_readout(card.readout).load(artefact.readout)
    return Tuned(artefact.prompt, readout, card.pooling, card.encoding, artefact.weights)


def history_csv(history: tuple[dict[str, float], ...]) -> str:
    """A row a step; columns are those that occur, in the order of their first appearance."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
