"""Results on disk: a folder a job, whole or not there; a job whose result exists is not computed again."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from promptgraft.engine.result import Finished, Result
from promptgraft.errors import ArtefactError
from promptgraft.method.job import Job
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.atomic import write_bytes
from promptgraft.readout.readout import find as find_readout
from promptgraft.train.checkpoint import Checkpoints
from promptgraft.train.run import Tuned


@dataclass(frozen=True)
class Store:
    """A run folder: `jobs/ID/{job.json, history.csv, artefact/, result.json}` and `checkpoint/`.

    `result.json` is written last, so a job folder with one is complete.
    """

    folder: Path

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoint")

    def place(self, job: Job) -> Path:
        return self.folder / "jobs" / job.id

    def save(self, finished: Finished, artefact: Artefact) -> None:
        """Keep a result with its model and history."""
        folder = self.place(finished.job)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "job.json", json.dumps(finished.job.describe(), indent=2).encode())
        if finished.history:
            write_bytes(folder / "history.csv", history_csv(finished.history).encode())
        artefacts.save(artefact, folder / "artefact")
        write_bytes(folder / "result.json", finished.result.model_dump_json(indent=2).encode())
        self.checkpoints.drop(finished.job.id)

    def result(self, job: Job) -> Result | None:
        """The result of a job that was finished earlier."""
        path = self.place(job) / "result.json"
        try:
            return Result.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            return None

    def finished(self, job: Job) -> Finished | None:
        """The same with its model; None also where the model was not kept whole."""
        result = self.result(job)
        if result is None:
            return None
        try:
            kept = artefacts.load(self.place(job) / "artefact", fingerprint=job.backbone)
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
