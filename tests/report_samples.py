"""Comparisons of made-up results, as `compare` would give them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from promptgraft.engine.reliability import Bin, Figure, Reliability
from promptgraft.engine.result import Finished, Result
from promptgraft.engine.risk import Selective
from promptgraft.method.job import Job
from promptgraft.study.compare import ROWS, Comparison, judge
from promptgraft.task.task import Example, Task
from promptgraft.train.recipe import Recipe

SEEDS = (0, 1, 2, 3, 4)
RECIPE = Recipe(steps=100)
COST = {
    "linear-probe": (0.35, 385), "graft": (1.9, 2_304), "zero-shot": (0.08, 0), "prompt-tuning": (9.4, 148_225),
    "model-tuning": (31.0, 22_713_601), "frozen-source": (0.41, 385), "pot": (9.6, 148_225), "panda": (11.8, 148_225),
}  # fmt: skip
LEVEL = {
    "linear-probe": 71.0,
    "zero-shot": 66.0,
    "model-tuning": 72.5,
    "frozen-source": 74.0,
    "pot": 77.0,
    "panda": 70.5,
}


def made_task(name: str = "reviews_kitchen") -> Task:
    """Two classes, a row each in every split."""
    rows = (Example(text="Sharp and light.", label="positive"), Example(text="It leaks.", label="negative"))
    labels = {"positive": "positive", "negative": "negative"}
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    return Task(name, "classification", "accuracy", labels, splits, notes=("labels inferred: positive, negative",))


def made_result(job: Job, source: str | None, test: float, validation: float | None) -> Result:
    seconds, parameters = COST[job.method]
    scores = {"test": {"score": test}} | ({} if validation is None else {"validation": {"score": validation}})
    return Result(
        id=job.id, task=job.task.name, label=job.label, method=job.method, options=dict(job.options), source=source,
        shots=job.shots, seed=job.seed, metric="accuracy", readout="linear", pooling="mean", encoding="cross",
        scores=scores, rows={"train": 16, "validation": 16, "test": 1000},
        intervals={"test": (test - 2.6, test + 2.6)}, reliability={"test": made_reliability(test)},
        selective={"test": Selective(risk=0.05, coverage=0.25, error=0.04)}, seconds=seconds * (1 + 0.03 * job.seed),
        parameters=parameters, steps=0 if parameters < 3000 else job.recipe.steps, best_step=40,
    )  # fmt: skip


def made_reliability(test: float) -> Reliability:
    """Probabilities that are a little too sure, around a share of right answers."""
    figure = Figure(value=5.0 + test / 50, low=3.0, high=9.0)
    bins = (
        Bin(rows=300, confidence=0.56, accuracy=test / 100 - 0.18),
        Bin(rows=300, confidence=0.72, accuracy=test / 100 - 0.08),
        Bin(rows=400, confidence=0.95, accuracy=min(test / 100 + 0.1, 1.0)),
    )
    return Reliability(ece=figure, perfect=3.1, log_loss=figure, brier=figure, bins=bins)


def made_comparison(
    seeds: Sequence[int] = SEEDS,
    rows: Sequence[tuple[str, dict[str, str]]] = ROWS,
    *,
    name: str = "reviews_kitchen",
    source: str = "reviews_books",
    levels: Mapping[str, float] = LEVEL,
    lifts: Mapping[str, float] | None = None,
    noise: float = 1.2,
    validated: bool = True,
    skipped: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = ("seed 0: source reviews_books by the probe (clear of the next)",),
) -> Comparison:
    """A comparison whose scores are levels of methods, lifted for some labels, with noise.

    What a seed draws is the same for all methods, as in a real comparison.
    """
    task, finished = made_task(name), []
    for method, options in rows:
        for seed in seeds:
            needs = method in ("frozen-source", "pot", "panda") or options.get("prompt") == "source"
            job = Job(task, "f" * 16, method, seed, RECIPE, 8, None, options)
            draw, own = random.Random(seed), random.Random(f"{seed} {method} {options}")
            level = levels.get(method, 69.0) + (lifts or {}).get(job.label, 0.0)
            test = level + draw.gauss(0, 2.5) + own.gauss(0, noise)
            validation = test + own.gauss(0, 2.5 * noise) if validated else None
            result = made_result(job, source if needs else None, test, validation)
            finished.append(Finished(job, result, None))
    judged, best = judge(finished)
    return Comparison(task, "minilm", 8, RECIPE, judged, best, dict(skipped or {}), notes)
