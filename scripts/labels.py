"""How good each method is with how many labels: docs/results/labels.{csv,md} and its pictures.

    python scripts/labels.py run --data DATA/tasks --work runs/labels [--methods A,B] [--models minilm] [--part 0/2]
    python scripts/labels.py write --work runs/labels

The CSV is the record. `run` goes through stages that each leave a useful page behind, leaves out what the CSV or the
work folder holds, and keeps every result in the work folder as it comes; `write` adds these to the CSV and makes the
page of it, at any time. SetFit wants the extra `setfit`, the static embeddings the package `wordllama`.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import labels_page
import numpy as np
from labels_baselines import BASELINES, Answers
from labels_page import LEFT_OUT, Row, read_rows, read_tasks, write_csv

import promptgraft.api as pg
from promptgraft.api.jobs import choosing_job
from promptgraft.api.opening import Opened, as_bank, opened, recipe_for
from promptgraft.bank.bank import Bank
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.rank import candidates, rank_sources
from promptgraft.engine.reliability import reliability
from promptgraft.engine.result import Finished
from promptgraft.engine.risk import Selective
from promptgraft.errors import BankError
from promptgraft.method.all import find
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.task.load import load_task
from promptgraft.task.metrics import score
from promptgraft.task.task import Example, Task

TEST_ROWS = 500
FREE = 100
"""Texts without labels that graft may look at where there are none."""
RECIPE: dict[str, object] = {"max_length": 64}
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "zero-shot": ("zero-shot", {"prompt": "none"}),
    "linear-probe": ("linear-probe", {}),
    "prompt-tuning": ("prompt-tuning", {"readout": "linear"}),
    "model-tuning": ("model-tuning", {}),
    "setfit": ("setfit", {}),
    "pot": ("pot", {"readout": "label-text"}),
    "graft": ("graft", {}),
}
"""The names on the page, and what a job of each is."""
CHEAP = ("linear-probe", "static-embedding", "tf-idf")
MOST_ROWS = 10_000
"""Of a task's training rows."""
SETFIT_ROWS = 700
"""Labelled rows up to which SetFit is run: it passes each 80 times, which takes hours beyond."""
TF_IDF_SIZE = 200_000
"""Rows times classes up to which TF-IDF is run: a weight of every word for every class takes hours beyond."""
ALL = -1
"""Stands for every labelled row among the numbers of labels a class."""


@dataclass(frozen=True)
class Stage:
    """Cells that are run for every task before the next stage begins."""

    methods: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: int = 3


STAGES = (
    Stage(("zero-shot", "graft"), (0,), 1),
    Stage((*CHEAP, "graft"), (8, 32)),
    Stage(("prompt-tuning", "pot"), (8,)),
    Stage(("model-tuning",), (8,)),
    Stage((*CHEAP, "graft"), (4, 16, 64)),
    Stage(("prompt-tuning", "pot"), (32,)),
    Stage(("setfit",), (8,)),
    Stage(("model-tuning",), (32,)),
    Stage((*CHEAP, "graft"), (250,)),
    Stage((*CHEAP, "graft"), (ALL,), 1),
    Stage((*CHEAP, "graft"), (8, 32, 4, 16, 64), 5),
    Stage(("setfit",), (32,)),
    Stage(("prompt-tuning", "pot", "model-tuning"), (4, 16, 64)),
    Stage(("prompt-tuning", "pot", "model-tuning"), (250,)),
    Stage(("prompt-tuning", "pot", "model-tuning"), (ALL,), 1),
    Stage(("setfit",), (4, 16, 64)),
)
MODELS = {"en": ("minilm", "bge-small-en"), "zh": ("e5-small",)}
FIRST, LATER = ("minilm", "e5-small"), ("bge-small-en",)


@dataclass(frozen=True)
class Cell:
    """What is run in one go: seeds of a method on one task with so many labels a class."""

    task: str
    model: str
    labels: int
    method: str
    seeds: tuple[int, ...]


def cells(tasks: Mapping[str, Mapping[str, str]], models: Sequence[str], methods: Sequence[str]) -> Iterator[Cell]:
    """Every cell, in the order of the stages: English tasks before Chinese ones, fewer classes before more.

    All stages of the models that the page cannot be without come before those of the others.
    """
    ordered = sorted(tasks.items(), key=lambda item: (item[1]["language"], int(item[1]["classes"]), item[0]))
    for company, stage, (task, facts) in product((FIRST, LATER), STAGES, ordered):
        for method in (name for name in stage.methods if name in methods):
            for model in models_for(method, facts["language"], company):
                if model in models or method in BASELINES:
                    for labels in stage.labels:
                        if is_within_bounds(method, labels, int(facts["classes"])):
                            yield Cell(task, model, labels, method, tuple(range(stage.seeds)))


def is_within_bounds(method: str, labels: int, classes: int) -> bool:
    """Whether a cell takes minutes, not hours."""
    rows = MOST_ROWS if labels == ALL else labels * classes
    most = {"setfit": SETFIT_ROWS, "tf-idf": TF_IDF_SIZE // classes}
    return rows <= most.get(method, MOST_ROWS * classes)


def models_for(method: str, language: str, company: Sequence[str]) -> tuple[str, ...]:
    """The models of a company that a method is run with; a baseline stands for itself, once."""
    if method in BASELINES:
        return (method,) if company == FIRST else ()
    return tuple(model for model in MODELS[language] if model in company)


def run(
    data: Path,
    work: Path,
    bank: str,
    part: tuple[int, int],
    models: Sequence[str],
    methods: Sequence[str],
    *,
    anew: bool,
) -> None:
    """Every cell of this part that is not there yet, one after the other.

    Args:
        part: which, and of how many.
        anew: whether only the work folder counts, not the CSV.
    """
    tasks = read_tasks()
    names = list(tasks)
    recorded = keys([*([] if anew else read_rows()), *kept(work)])
    for cell in cells(tasks, models, methods):
        if names.index(cell.task) % part[1] != part[0]:
            continue
        seeds = tuple(seed for seed in cell.seeds if key_of(cell, seed) not in recorded)
        if not seeds:
            continue
        began = time.perf_counter()
        try:
            for row, answers in computed(replace(cell, seeds=seeds), data, bank, tasks[cell.task]):
                keep(row, answers, work)
        except Exception as error:  # a cell that fails takes no other with it: it is printed, and tried again
            print(f"FAILED {cell}: {error!r}", flush=True)
            continue
        print(f"{cell.method} {cell.task} {cell.model} {cell.labels}: {time.perf_counter() - began:.0f} s", flush=True)


Key = tuple[str, str, str, str, str]


def key_of(cell: Cell, seed: int) -> Key:
    return cell.task, cell.model, shown(cell.labels), cell.method, str(seed)


def keys(rows: Sequence[Row]) -> set[Key]:
    return {(row["task"], row["model"], row["labels"], row["method"], row["seed"]) for row in rows}


def shown(labels: int) -> str:
    return "all" if labels == ALL else str(labels)


def computed(
    cell: Cell, data: Path, bank: str, facts: Mapping[str, str]
) -> Iterator[tuple[dict[str, object], tuple[np.ndarray, np.ndarray]]]:
    """The rows of a cell as they come, with the confidence in each answer and whether it was right."""
    if cell.method in BASELINES:
        for seed in cell.seeds:
            context = context_of(data, cell.task, None, cell.labels)
            task = context.engine.task(context.job("linear-probe", seed))
            answers = BASELINES[cell.method](task, seed)
            yield row_of(cell, seed, task, answers, facts, None), judged(task, answers)
        return
    context = context_of(data, cell.task, cell.model, cell.labels)
    jobs = [job_of(context, cell, seed, bank) for seed in cell.seeds]
    for finished in context.engine.run(jobs):
        task = context.engine.task(finished.job)
        answers = answers_of(context, finished, task)
        answered = finished.result.selective.get("test") if cell.method == "graft" else None
        yield row_of(cell, finished.job.seed, task, answers, facts, answered), judged(task, answers)


@cache
def model_of(name: str) -> Backbone:
    return pg.open_model(name)


@cache
def loaded(data: Path, name: str) -> Task:
    return load_task(data / name)


LAST: dict[tuple[Path, str, str], Opened] = {}


def context_of(data: Path, name: str, model: str | None, labels: int) -> Opened:
    """What jobs of a task are made with; the last engine is kept, whose frozen states its other cells share.

    Args:
        model: None: for draws of rows alone, whichever is small.
    """
    key = (data, name, model or FIRST[0])
    if key not in LAST:
        LAST.clear()
        LAST[key] = opened(
            loaded(data, name), model_of(key[2]), RECIPE, 8, test_rows=TEST_ROWS, validation_from="within",
            progress=lambda event: None,
        )  # fmt: skip
    context = LAST[key]
    shots = None if labels == ALL else labels
    return replace(context, shots=shots, recipe=recipe_for(context.backbone, context.task, shots, RECIPE))


def job_of(context: Opened, cell: Cell, seed: int, bank: str) -> Job:
    """The job of one seed, with the bank's prompts that share nothing with the task."""
    method, options = METHODS[cell.method]
    needs = find(method).needs
    sources = sources_for(context, as_bank(bank)) if {"source", "bank"} & needs else ()
    source = None
    if "source" in needs:
        source = rank_sources(context.engine, choosing_job(context, seed), sources, ("probe",), ()).best.source
    free = tuple(Example(row.text) for row in context.task.train[:FREE]) if cell.labels == 0 and "bank" in needs else ()
    return context.job(method, seed, options, source, free, sources if "bank" in needs else ())


def sources_for(context: Opened, bank: Bank) -> tuple[Source, ...]:
    """The bank's prompts for a task, without those that were made of its data set or share texts with it."""
    try:
        found, _ = candidates(bank, context.backbone, context.task)
    except BankError:
        return ()
    return tuple(source for source in found if not is_left_out(context.task.name, source.name))


def is_left_out(task: str, source: str) -> bool:
    """Whether a source's data set is the task's own, or one that `labels_left_out.csv` names for it.

    The sources of one data set are called by its name, or begin with it.
    """
    with LEFT_OUT.open(newline="", encoding="utf-8") as file:
        sets = [task, *(row["source"] for row in csv.DictReader(file) if row["task"] == task)]
    return any(source == name or source.startswith(f"{name}_") for name in sets)


def answers_of(context: Opened, finished: Finished, task: Task) -> Answers:
    """What a finished job says of the test rows, and what its artefact takes on disk."""
    artefact = make_artefact(finished, context.engine.view(finished.job))
    probabilities = Predictor(artefact, context.backbone).predict_proba([replace(row, label=None) for row in task.test])
    tuned = sum(value.nbytes for value in (artefact.weights or {}).values())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "artefact"
        artefacts.save(artefact.replace(weights=None), place)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    result = finished.result
    return Answers(np.asarray(probabilities), result.seconds + result.required_seconds, size + tuned)


def judged(task: Task, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """The confidence in each answer, and whether it was right."""
    gold = np.array([task.classes.index(str(row.label)) for row in task.test])
    return answers.probabilities.max(1), answers.probabilities.argmax(1) == gold


def row_of(
    cell: Cell, seed: int, task: Task, answers: Answers, facts: Mapping[str, str], answered: Selective | None
) -> dict[str, object]:
    """A row of the CSV.

    Args:
        answered: what answering at the usual risk gives, of graft; None of others.
    """
    error = None if answered is None else answered.error
    gold = np.array([task.classes.index(str(row.label)) for row in task.test])
    predictions = [task.classes[n] for n in answers.probabilities.argmax(1)]
    return {
        "task": cell.task,
        "half": facts["half"],
        "language": facts["language"],
        "model": cell.model,
        "labels": shown(cell.labels),
        "seed": seed,
        "method": cell.method,
        "score": round(score(task, predictions, task.test)["score"], 2),
        "metric": task.metric,
        "ece": round(reliability(answers.probabilities, gold).ece.value, 2),
        "coverage": "" if answered is None else round(answered.coverage, 4),
        "error_at_risk": "" if error is None else round(error, 4),
        "seconds": round(answers.seconds, 2) if is_on_processor(cell) else "",
        "bytes": answers.bytes,
    }


def is_on_processor(cell: Cell) -> bool:
    """Whether the cell ran where the seconds on the page are taken; those of a GPU are not compared with them."""
    return cell.model in BASELINES or model_of(cell.model).device.type == "cpu"


def keep(row: Mapping[str, object], answers: tuple[np.ndarray, np.ndarray], work: Path) -> None:
    """Add a row to the work folder, with what its calibration is computed from."""
    work.mkdir(parents=True, exist_ok=True)
    confidence, right = answers
    line = {"row": row, "confidence": [round(float(value), 4) for value in confidence], "right": right.tolist()}
    with (work / f"{row['task']}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")


def kept(work: Path) -> list[Row]:
    """The rows of the work folder."""
    lines = (line for path in sorted(work.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines())
    return [{name: str(value) for name, value in json.loads(line)["row"].items()} for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("run", "write"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tasks"))
    parser.add_argument("--work", type=Path, default=Path("runs/labels"))
    parser.add_argument("--bank", default="starter")
    parser.add_argument("--models", default="minilm,e5-small,bge-small-en")
    parser.add_argument("--methods", default=",".join([*METHODS, *BASELINES]))
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--anew", action="store_true", help="run what the CSV holds too; `write` puts it in its place")
    options = parser.parse_args()
    if options.verb == "run":
        part, parts = map(int, options.part.split("/"))
        models, methods = options.models.split(","), options.methods.split(",")
        run(options.data, options.work, options.bank, (part, parts), models, methods, anew=options.anew)
    else:
        write_csv([*read_rows(), *kept(options.work)])
        labels_page.write()


if __name__ == "__main__":
    main()
