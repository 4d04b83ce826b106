"""A whole comparison of one target: `api.compare` against the same jobs with PEFT and transformers' Trainer.

    python benchmarks/compare_job.py [--models splade-tiny] [--target examples/data/home_reviews] [--rounds 2]

Ours is one call: the choice of a source, every row of study/compare.py ROWS on 8 rows a class and 2 seeds, scored
on the whole test split, with nothing in any cache. PEFT's side has the same jobs, done one after the other
(trainer_jobs.py): a linear probe is frozen features and scikit-learn, prompt tuning and PoT are prefix tuning with the
Trainer, PANDA has a teacher's forward in every step, rows that read the labels' text count as prompt tuning, zero-shot
is a forward, the choice of a source is a cross-validated probe for each source. Jobs that are alike are timed once
(`measured`, seconds) and multiplied (`counted`); a job that ours could not run is not counted. Loading the model is in
no figure, and each side has done something small before.

Each path runs in a process of its own, in random order, `--rounds` times; so its peak memory is its own.
Prints JSON and writes benchmarks/results/compare_job.json.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import common
from common import DEFAULT, Row

from promptgraft import api
from promptgraft.engine.rank import candidates
from promptgraft.study.compare import ROWS, Comparison
from promptgraft.task.sampling import few_shot
from promptgraft.task.task import Task
from promptgraft.train.recipe import Recipe, default_recipe

SHOTS = 8
OURS = "promptgraft"


def main() -> None:
    options = parse()
    if options.alone:
        print(json.dumps(alone(options)))
        return
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            bank = options.bank or bank_for(model, options, folder)
            common.write(__file__, measured(model, bank, options), options.out)


def parse() -> argparse.Namespace:
    parser = common.parser(__doc__, models="splade-tiny", rounds=2)
    parser.add_argument("--target", type=Path, default=common.TARGET)
    parser.add_argument("--bank", help="default: `starter` for minilm, for others three prompts tuned beforehand")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seeds = 1, 1
    return options


def target(options: argparse.Namespace) -> Task:
    return api.open_task(options.target, test_rows=24 if options.quick else None)


def changes(options: argparse.Namespace) -> dict[str, int]:
    """What a quick call changes in the recipe."""
    return {"steps": 4, "evaluations": 2} if options.quick else {}


def bank_for(model: str, options: argparse.Namespace, folder: str) -> str:
    return common.bank_for(model, target(options), folder, **changes(options))


def measured(model: str, bank: str, options: argparse.Namespace) -> list[Row]:
    """Every path so often in random order, each in its own process."""
    paths = [OURS, DEFAULT, *common.tuned()]
    words = ["--models", common.model_folder(model), "--bank", bank, "--target", options.target]
    words += ["--seeds", options.seeds, *(["--quick"] if options.quick else []), "--alone"]
    order = random.Random(3)
    ran: dict[str, list[Row]] = {path: [] for path in paths}
    for _ in range(options.rounds):
        for path in order.sample(paths, len(paths)):
            ran[path].append(common.alone(__file__, *words, path))
    counted = ran[OURS][0]["counted"]
    seconds = {path: [total(one, counted) for one in ran[path]] for path in paths}
    memory = {path: max(one["peak"] for one in ran[path]) for path in paths}
    known = {"model": model, "lengths": f"{options.target.name}, as it is", "shots": SHOTS, "seeds": options.seeds}
    rows = [{**known, **row} for row in common.compared(seconds, memory)]
    for row in rows:
        row["measured"] = ran[row["path"]][0].get("measured")
        row["counted"] = counted if row["measured"] else {"the whole call": 1}
    return rows


def total(one: Row, counted: dict[str, int]) -> float:
    """Seconds of all jobs."""
    if "measured" not in one:
        return float(one["seconds"])
    return float(sum(one["measured"][kind] * count for kind, count in counted.items()))


def alone(options: argparse.Namespace) -> Row:
    """One path in this process."""
    task = target(options)
    if options.alone == OURS:
        return ours(task, options)
    drawn = few_shot(task, SHOTS, 0)
    recipe = default_recipe(api.open_model(options.models), len(drawn.train), task.kind).changed(**changes(options))
    return peers(drawn, recipe, options)


def ours(task: Task, options: argparse.Namespace) -> Row:
    """The one call, and what jobs it did."""
    backbone, seeds = api.open_model(options.models), range(options.seeds)
    common.warm(backbone)
    began = time.perf_counter()
    done = api.compare(task, backbone, options.bank, shots=SHOTS, seeds=seeds, rows=ROWS, **changes(options))
    seconds = time.perf_counter() - began
    sources, _ = candidates(api.as_bank(options.bank), backbone, task)
    return {"seconds": seconds, "peak": common.peak(), "counted": count(done, len(sources) * options.seeds)}


def count(done: Comparison, ranked: int) -> dict[str, int]:
    """How many jobs of each kind a comparison was made of."""
    kinds = Counter(kind(result.method, result.options) for row in done.rows for result in row.results)
    return {"rank": ranked, **kinds}


def kind(method: str, options: dict[str, str]) -> str:
    """The kind of PEFT job that is a row's equal."""
    if method == "panda":
        return "tune" if options.get("weight") == "0" else "distil"
    sourced = options.get("prompt") == "source"
    return {
        "linear-probe": "probe",
        "frozen-source": "probe with prompt",
        "zero-shot": "forward with prompt" if sourced else "forward",
        "model-tuning": "tune model",
        "pot": "carry",
    }.get(method, "tune")


def peers(task: Task, recipe: Recipe, options: argparse.Namespace) -> Row:
    """Seconds of each kind of job with PEFT, after a few steps to warm up."""
    from trainer_jobs import Jobs

    short = recipe.changed(steps=2, evaluations=1)
    teacher = Jobs(options.models, options.alone, task, short).tune()
    jobs = Jobs(options.models, options.alone, task, recipe)
    base, source = jobs.base, jobs.source
    work: dict[str, Callable[[], object]] = {
        "rank": lambda: jobs.rank(source),
        "probe": lambda: jobs.probe(base),
        "probe with prompt": lambda: jobs.probe(source),
        "forward": lambda: jobs.forward(base),
        "forward with prompt": lambda: jobs.forward(source),
        "tune": jobs.tune,
        "carry": jobs.carry,
        "distil": lambda: jobs.distil(teacher),
        "tune model": jobs.tune_model,
    }
    return {"measured": {name: common.timed(job) for name, job in work.items()}, "peak": common.peak()}


if __name__ == "__main__":
    main()
