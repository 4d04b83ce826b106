"""How far `--risk` and `suggest` can be trusted where a row has several labels; docs/results/multilabel-choices.csv.

    python scripts/multilabel_choices.py --data ../shared/data/tasks [--only wnut17] [--seeds 2]

A graft is made on 32 labelled rows, on 64 (32 more, drawn at random or chosen by `suggest` from the texts that are not
labelled) and on 128. The page is that of `multilabel.py write`. The CSV is the record: what it holds is left out.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from multilabel import RECIPE, context_of, read_facts, read_task
from multilabel import sources_for as sources
from multilabel_page import CHOICES, CHOICES_COLUMNS, Row, read_choices

import promptgraft.api as pg
from promptgraft.api.opening import Opened, as_bank, recipe_for
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.result import Result
from promptgraft.task.task import Example, Task

START, MORE, MANY = 32, 32, 128
POOL = 300


def run(data: Path, only: str | None, seeds: int) -> None:
    """Every task and seed that the CSV does not hold, seed by seed."""
    facts = read_facts()
    facts.pop("goemotions")
    names = sorted(facts, key=lambda task: (facts[task]["half"], task)) if only is None else only.split(",")
    for seed in range(seeds):
        for name in names:
            if (name, str(seed)) in {(row["task"], row["seed"]) for row in read_choices()}:
                continue
            task = read_task(name, facts[name], data, None)
            keep({"task": name, "half": facts[name]["half"], "seed": str(seed)} | figures(context_of(task), task, seed))
            print(name, seed, flush=True)


def figures(context: Opened, task: Task, seed: int) -> Row:
    """Coverage and error at the usual risk by labelled rows, and F1 with rows drawn and chosen."""
    rows = random.Random(seed).sample(task.train, min(POOL, len(task.train)))
    start, few = grafted(context, task, rows[:START], seed)
    chosen = pg.suggest(start, [replace(row, label=None) for row in rows[START:]], MORE).places
    _, drawn = grafted(context, task, rows[: START + MORE], seed)
    _, suggested = grafted(context, task, [*rows[:START], *(rows[START + place] for place in chosen)], seed)
    _, many = grafted(context, task, rows[:MANY], seed)
    found: dict[str, float | None] = {}
    for count, result in ((START, few), (MANY, many)):
        at_risk = result.selective["test"]
        found |= {f"coverage_{count}": 100 * at_risk.coverage}
        found |= {f"error_{count}": None if at_risk.error is None else 100 * at_risk.error}
    for way, result in (("drawn", drawn), ("suggested", suggested)):
        found |= {f"{name}_{way}": result.scores["test"][name] for name in ("micro_f1", "macro_f1")}
    return {name: "" if value is None else f"{value:.2f}" for name, value in found.items()}


def grafted(context: Opened, task: Task, rows: Sequence[Example], seed: int) -> tuple[Predictor, Result]:
    """A graft on these rows."""
    own = task.replace(splits={"train": tuple(rows), "test": task.test})
    here = replace(context, task=own, recipe=recipe_for(context.backbone, own, None, RECIPE))
    job = here.job("graft", seed, {}, None, (), sources(here, as_bank("starter")))
    [finished] = context.engine.run([job])
    return Predictor(make_artefact(finished, context.engine.view(job)), context.backbone), finished.result


def keep(row: Row) -> None:
    """Add a row to the CSV, which is kept in a fixed order."""
    rows = sorted([*read_choices(), row], key=lambda one: (one["half"], one["task"], int(one["seed"])))
    with CHOICES.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CHOICES_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tasks"))
    parser.add_argument("--only", help="tasks, with commas between them")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    run(options.data, options.only, options.seeds)


if __name__ == "__main__":
    main()
