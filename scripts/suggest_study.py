"""Rows that `suggest` chooses against rows drawn at random and by margin alone; docs/results/suggest.{csv,md,svg}.

    python scripts/suggest_study.py run --data ../shared/data/tasks [--tasks trec,subj]
    python scripts/suggest_study.py write

The CSV is the record: `run` leaves out what it holds; `write` makes the page and its picture from it. A row is a whole
curve: the score after every batch of labels.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import filelock
import numpy as np
from keeping import PROMPTS, Keeping, small_bank

import promptgraft.api as pg
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.suggest import margin
from promptgraft.model.backbone import Backbone
from promptgraft.study.judge import Mean, mean
from promptgraft.task.load import load_task
from promptgraft.task.metrics import score as metric_score
from promptgraft.task.task import Example, Task

TASKS = ("trec", "airline_tweets", "emotion", "tweet_offensive", "financial_phrasebank", "subj")
SEEDS = (0, 1, 2, 3, 4)
START, BATCH, LABELS = 16, 16, 112
POOL, TEST = 600, 400
COUNTS = tuple(range(START, LABELS + 1, BATCH))
RESULTS = Path("docs/results")
KEY = ("task", "seed", "by")
COLUMNS = (*KEY, "metric", *(f"{what}_{count}" for what in ("score", "f1") for count in COUNTS))
Choose = Callable[[Predictor, Sequence[Example], int, int], Sequence[int]]


def by_suggest(predictor: Predictor, rows: Sequence[Example], count: int, seed: int) -> Sequence[int]:
    return pg.suggest(predictor, list(rows), count).places


def by_margin(predictor: Predictor, rows: Sequence[Example], count: int, seed: int) -> Sequence[int]:
    return np.argsort(margin(predictor.predict_proba(list(rows))), kind="stable")[:count].tolist()


def by_chance(predictor: Predictor, rows: Sequence[Example], count: int, seed: int) -> Sequence[int]:
    return np.random.default_rng([seed, len(rows)]).permutation(len(rows))[:count].tolist()


WAYS: dict[str, Choose] = {"random": by_chance, "margin": by_margin, "suggest": by_suggest}
WORDS = {"random": "at random", "margin": "by margin alone", "suggest": "`suggest`"}


def run(data: Path, work: Path, model: str, names: Sequence[str]) -> None:
    """Every curve that the CSV does not hold, one after the other."""
    bank = small_bank(work, model)
    backbones = {name: Keeping(pg.open_model(model)) for name in names}
    for seed, name, by in itertools.product(SEEDS, names, WAYS):
        if (name, str(seed), by) not in {tuple(row[column] for column in KEY) for row in read_rows()}:
            task = load_task(data / name)
            record(curve(task, backbones[name], bank, seed, by))  # type: ignore[arg-type]
            print(name, seed, by, flush=True)


def curve(task: Task, backbone: Backbone, bank: Path, seed: int, by: str) -> dict[str, object]:
    """Scores after every batch of rows that are chosen in one way, from the same rows at the start."""
    texts = {row.text: row for row in drawn(task.train, POOL, seed)}
    pool, test = list(texts.values()), drawn(task.test, TEST, 1)
    labelled = list(range(START))
    scores: dict[str, object] = dict(zip(KEY, (task.name, seed, by), strict=True)) | {"metric": task.metric}
    for count in COUNTS:
        predictor = graft(task, tuple(pool[place] for place in labelled), backbone, bank)
        figures = metric_score(task, predictor.predict(test), test)
        scores |= {f"score_{count}": figures["score"], f"f1_{count}": figures["f1"]}
        rest = sorted(set(range(len(pool))) - set(labelled))
        rows = [dataclasses.replace(pool[place], label=None) for place in rest]
        labelled += [rest[place] for place in WAYS[by](predictor, rows, BATCH, seed)]
    return scores


def drawn(rows: Sequence[Example], count: int, seed: int) -> list[Example]:
    """So many rows, in an order of their own."""
    return [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))[:count]]


def graft(task: Task, rows: tuple[Example, ...], backbone: Backbone, bank: Path) -> Predictor:
    """A graft on these rows; they stand for the validation rows too, at which graft does not look."""
    own = task.replace(splits={"train": rows, "validation": rows})
    return pg.transfer(own, backbone, bank, method="graft", baselines=False, max_length=64).predictor


def read_rows() -> list[dict[str, str]]:
    """The curves recorded so far."""
    path = RESULTS / "suggest.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record(row: Mapping[str, object]) -> None:
    """Add a curve to the CSV; several processes may do so at a time."""
    shown = {name: f"{value:.2f}" if isinstance(value, float) else str(value) for name, value in row.items()}
    with filelock.FileLock(RESULTS / ".suggest.lock"):
        rows = sorted([*read_rows(), shown], key=lambda one: tuple(one[name] for name in KEY))
        with (RESULTS / "suggest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def curves(rows: Sequence[Mapping[str, str]], what: str) -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """Way -> task and seed -> the figures after every batch, where all ways have them."""
    found: dict[str, dict[tuple[str, str], np.ndarray]] = {by: {} for by in WAYS}
    for row in rows:
        if row["by"] in found:
            values = np.array([float(row[f"{what}_{count}"]) for count in COUNTS])
            found[row["by"]][row["task"], row["seed"]] = values
    shared = set.intersection(*(set(own) for own in found.values()))
    return {by: {key: own[key] for key in sorted(shared)} for by, own in found.items()}


def gains(found: Mapping[str, Mapping[tuple[str, str], np.ndarray]], ours: str, theirs: str) -> dict[str, np.ndarray]:
    """Task -> the mean difference over seeds, after every batch."""
    tasks = dict.fromkeys(task for task, _ in found[ours])
    return {
        task: np.mean([found[ours][key] - found[theirs][key] for key in found[ours] if key[0] == task], axis=0)
        for task in tasks
    }


def area(values: np.ndarray) -> float:
    """The mean over all numbers of labels but the first, at which all ways have the same rows."""
    return float(values[1:].mean())


def apart(value: Mean) -> bool:
    """Whether an interval leaves out 0."""
    return value.low is not None and value.high is not None and (value.low > 0 or value.high < 0)


def verdict(rows: Sequence[Mapping[str, str]]) -> str:
    """Whether `suggest` beats random choice, in a sentence made of the figures."""
    differences = {what: mean([area(values) for values in gains(curves(rows, what), "suggest", "random").values()])
                   for what in ("score", "f1")}  # fmt: skip
    score, f1 = differences["score"], differences["f1"]
    shown = f"{score} points of the task's metric and {f1} of macro F1 over {score.count} tasks"
    if not apart(score) and not apart(f1):
        return f"**No better than random choice, on these tasks:** {shown}; both intervals contain 0."
    better = [
        name for name, value in (("the task's metric", score), ("macro F1", f1)) if apart(value) and value.value > 0
    ]
    if better:
        return f"**Better than random choice in {' and in '.join(better)}:** {shown}."
    return f"**Worse than random choice:** {shown}."


def table(rows: Sequence[Mapping[str, str]], what: str) -> list[str]:
    """Means over tasks by number of labels, and differences from random choice."""
    found = curves(rows, what)
    lines = [
        f"| labels | {' | '.join(WORDS[by] for by in WAYS)} | `suggest` less random | margin less random |",
        "| ---: |" + " ---: |" * (len(WAYS) + 2),
    ]
    tasks = dict.fromkeys(task for task, _ in found["random"])
    for place, count in enumerate(COUNTS):
        means = []
        for by in WAYS:
            by_task = [np.mean([v[place] for key, v in found[by].items() if key[0] == task]) for task in tasks]
            means.append(f"{np.mean(by_task):.1f}")
        shown = [
            str(mean([float(values[place]) for values in gains(found, by, "random").values()])) if place else ""
            for by in ("suggest", "margin")
        ]
        lines.append(f"| {count} | {' | '.join(means)} | {' | '.join(shown)} |")
    return lines


def task_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The mean over the curve on each task, paired over seeds."""
    lines = [
        "| task | metric | `suggest` less random, metric | macro F1 | margin less random, metric | macro F1 |",
        "| --- | --- |" + " ---: |" * 4,
    ]
    both = [curves(rows, what) for what in ("score", "f1")]
    for task in dict.fromkeys(task for task, _ in both[0]["random"]):
        cells = []
        for by, found in itertools.product(("suggest", "margin"), both):
            own = [found[by][key] - found["random"][key] for key in found[by] if key[0] == task]
            cells.append(str(mean([area(values) for values in own])))
        about = next(row for row in rows if row["task"] == task)
        lines.append(f"| {task} | {about['metric']} | {' | '.join(cells)} |")
    return lines


def draw(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """The curves as SVG: macro F1 against labels, a panel a task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plot

    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "promptgraft", "font.size": 8}
    found = curves(rows, "f1")
    tasks = list(dict.fromkeys(task for task, _ in found["random"]))
    figure, panels = plot.subplots(-(-len(tasks) // 3), 3, figsize=(9, 2.6 * -(-len(tasks) // 3)), squeeze=False)
    colours = {"random": "#7d7d7d", "margin": "#0072b2", "suggest": "#c8500a"}
    for panel, task in itertools.zip_longest(panels.flat, tasks):
        if task is None:
            panel.axis("off")
            continue
        for by, colour in colours.items():
            values = np.array([v for key, v in found[by].items() if key[0] == task])
            panel.plot(COUNTS, values.mean(0), color=colour, marker="o", markersize=3, label=by)
            if len(values) > 1:
                half = values.std(0, ddof=1) / np.sqrt(len(values))
                panel.fill_between(COUNTS, values.mean(0) - half, values.mean(0) + half, color=colour, alpha=0.15)
        panel.set_title(task)
        panel.set_xticks(COUNTS)
    panels[0][0].legend(frameon=False)
    figure.supxlabel("labelled rows")
    figure.supylabel("macro F1 on test, percent")
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})


def page(rows: Sequence[Mapping[str, str]]) -> str:
    """docs/results/suggest.md, all of it made from the CSV."""
    found = curves(rows, "score")
    tasks = list(dict.fromkeys(task for task, _ in found["random"]))
    seeds = sorted({seed for _, seed in found["random"]})
    lines = [
        "# What to label next",
        "",
        verdict(rows),
        "",
        f"{START} rows of a pool of {POOL} are labelled at random, then {BATCH} more at a time, up to {LABELS}: rows"
        " that `suggest` chooses, rows with the smallest margin between the two most likely classes, or random rows."
        f" After every batch a graft is made from the labelled rows (minilm, {len(PROMPTS)} prompts of the starter"
        f" bank) and scored on the same {TEST} test rows. {len(tasks)} tasks ({', '.join(tasks)}) and {len(seeds)}"
        " seeds; a seed draws the pool and the first rows, which all ways of choosing share. Every result is a row of"
        " [suggest.csv](suggest.csv). The page is remade by",
        "",
        "```",
        "python scripts/suggest_study.py run --data DATA && python scripts/suggest_study.py write",
        "```",
        "",
        "Intervals are 95 % intervals (Student's t) of paired differences. In the first two tables they are over"
        " tasks (of means over seeds), in the last over seeds; the figures of the last table are means over the curve"
        " without its first point. The rule of `suggest` was chosen on figures of these same tasks, so no result here"
        " is held out.",
        "",
        "![curves](suggest.svg)",
        "",
        "Bands: one standard error over seeds.",
        "",
        "## The task's metric",
        "",
        *table(rows, "score"),
        "",
        "## Macro F1, in which every class counts equally",
        "",
        *table(rows, "f1"),
        "",
        "## Each task",
        "",
        *task_table(rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("run", "write"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tasks"))
    parser.add_argument("--work", type=Path, default=Path("runs/suggest-study"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--tasks", default=",".join(TASKS), help="names with commas")
    options = parser.parse_args()
    if options.verb == "run":
        run(options.data, options.work, options.model, options.tasks.split(","))
    else:
        draw(read_rows(), RESULTS / "suggest.svg")
        (RESULTS / "suggest.md").write_text(page(read_rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
