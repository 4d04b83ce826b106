"""The result of a job holds its scores, how many rows were scored, what was chosen, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from promptgraft.engine.reliability import Reliability
from promptgraft.engine.risk import Selective
from promptgraft.method.job import Job, ValidationFrom
from promptgraft.sheet import LONG, short
from promptgraft.train.run import Tuned


class Failure(BaseModel):
    """The stored reason why a job's run could not be finished.

    Attributes:
        problem: one line.
        version: of what computed it; another version tries again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    label: str
    seed: int
    problem: str
    version: str


class Result(BaseModel):
    """The result of a job, as plain values.

    Attributes:
        label: the method with its options, as a row of a table is called.
        source: the prompt it came from; of graft, those it kept; None where there is none.
        validation_from: `extra`: a few-shot draw has validation rows beside its training rows, as many again; `within`:
            they are among the labelled rows.
        labelled: rows with labels that it was given in all, for training and validation; None in results of before it
            was kept.
        scores: split -> metric name -> percent; the task's own metric is called `score`.
        rows: split -> how many examples were scored.
        intervals: split -> 95 % interval of the metric over its rows (what another sample of rows would give).
        reliability: split -> calibration of the probabilities, where the task has classes.
        selective: split -> what answering only at `engine.risk.RISK` gives, where the task has classes.
        seconds: this job's share of set-up, training and validation, with what shared work that it found done had
            taken; scoring of test left out.
        required_seconds: of the jobs whose finished models it needed.
        parameters: trained numbers.
        best_step: the step whose state validation chose; 0 where nothing was trained, or the start was best.
        version: of what computed it (`engine.identity.version_of_results`); empty in results of before it was kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    task: str
    label: str
    method: str
    options: dict[str, str]
    source: str | None
    shots: int | None
    validation_from: ValidationFrom = "extra"
    labelled: int | None = None
    seed: int
    metric: str
    readout: str
    pooling: str
    encoding: str
    template: str | None = None
    scores: dict[str, dict[str, float]]
    rows: dict[str, int]
    intervals: dict[str, tuple[float, float]]
    reliability: dict[str, Reliability] = {}
    selective: dict[str, Selective] = {}
    seconds: float
    required_seconds: float = 0.0
    parameters: int
    steps: int
    best_step: int
    notes: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Finished:
    """A result with the model behind it.

    Attributes:
        tuned: None where the result was kept without its model (weights of model tuning in a comparison).
        history: a dictionary a step, empty where nothing was trained or the job was not run anew.
    """

    job: Job
    result: Result
    tuned: Tuned | None
    history: tuple[dict[str, float], ...] = ()

    def __repr__(self) -> str:
        result = self.result
        scores = ", ".join(f"{split} {found['score']:.1f}" for split, found in result.scores.items())
        return f"Finished {result.label} on {short(result.task, LONG)}, seed {result.seed} ({scores or 'not scored'})"
