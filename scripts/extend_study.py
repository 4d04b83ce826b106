"""A class is added to a graft that has not seen it, and refitting on all rows beside it; docs/results/extend.{csv,md}.

    python scripts/extend_study.py run --data ../shared/data/tasks --work runs/extend-study
    python scripts/extend_study.py run-labels --data ../shared/data/tasks --work runs/extend-study
    python scripts/extend_study.py write

`run-labels` is for tasks with several labels a row (`extend_labels.py`). The CSV files are the record: what they hold
is not run again, and `write` makes the page from them.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import extend_labels
import numpy as np
from keeping import PROMPTS, Keeping, graft, read_table, record, small_bank

import promptgraft.api as pg
from promptgraft.engine.predictor import Predictor
from promptgraft.model.backbone import Backbone
from promptgraft.study.judge import mean
from promptgraft.task.load import load_task
from promptgraft.task.metrics import score as metric_score
from promptgraft.task.sampling import cap, few_shot
from promptgraft.task.task import Example, Task

TASKS = ("agnews", "trec", "emotion", "banking77")
SHOTS = (8, 32)
LEFT_OUT = {("banking77", 32)}
"""2,464 rows a fit, which would take most of the study's time."""
SEEDS = (0, 1, 2)
CLASSES = 1
"""Classes that are held out for each seed."""
ROWS = (0, 1, 4, 8)
"""Of the new class that are given."""
OLD_TEST, NEW_TEST = 300, 100
RESULTS = Path("docs/results")
COLUMNS = (
    "task", "shots", "seed", "class", "rows", "method", "new_recall", "new_precision", "new_f1", "old_before",
    "old_after", "macro_f1",
)  # fmt: skip
KEY = COLUMNS[:6]
METHODS = {"extend": "extend", "refit": "graft on all rows anew"}


def run(data: Path, work: Path, model: str, names: Sequence[str]) -> None:
    """Every cell that the CSV does not hold, one after the other."""
    backbone, bank = Keeping(pg.open_model(model)), small_bank(work, model)
    done = {tuple(row[name] for name in KEY) for row in read_rows()}
    for turn, seed, shots, name in itertools.product(range(CLASSES), SEEDS, SHOTS, names):
        if (name, shots) in LEFT_OUT:
            continue
        task = load_task(data / name)
        label = task.classes[np.random.default_rng(seed).permutation(len(task.classes))[turn]]
        cells = [(name, str(shots), str(seed), label, str(count), method) for count in ROWS for method in METHODS]
        if not all(cell in done for cell in cells):
            rows = study(task, bank, backbone, shots, seed, label)  # type: ignore[arg-type]
            record(RESULTS / "extend.csv", COLUMNS, KEY, rows)
            print(name, shots, seed, label, flush=True)


def study(task: Task, bank: Path, backbone: Backbone, shots: int, seed: int, label: str) -> list[dict[str, object]]:
    """The rows of one class that is held out: extended with so many rows, and grafted anew on them and all others."""
    drawn = few_shot(task, shots, seed).train
    old_rows, new_rows = apart(drawn, label)
    old_test, new_test = apart(cap(task, "test", len(task.test), seed).test, label)
    test = (*old_test[:OLD_TEST], *new_test[:NEW_TEST])
    labels = {name: text for name, text in task.labels.items() if name != label}
    before = graft(task.replace(labels=labels), old_rows, bank, backbone)
    known = accuracy(before, old_test[:OLD_TEST])
    rows: list[dict[str, object]] = []
    for count in ROWS:
        given = new_rows[:count]
        extended = pg.extend(before, {label: task.labels[label]}, list(given) or None)
        anew = graft(task, (*old_rows, *given), bank, backbone)
        for method, predictor in {"extend": extended.predictor, "refit": anew}.items():
            key = dict(zip(KEY, (task.name, shots, seed, label, count, method), strict=True))
            rows.append(key | figures(predictor, test, label) | {"old_before": known})
    return rows


def apart(rows: Sequence[Example], label: str) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The rows of all other labels, and those of this one."""
    return tuple(row for row in rows if row.label != label), tuple(row for row in rows if row.label == label)


def accuracy(predictor: Predictor, rows: Sequence[Example]) -> float:
    return 100 * float(np.mean([guess == row.label for guess, row in zip(predictor.predict(rows), rows, strict=True)]))


def figures(predictor: Predictor, test: Sequence[Example], label: str) -> dict[str, float]:
    """Figures in percent on test rows."""
    guesses = np.array(predictor.predict(test))
    gold = np.array([row.label for row in test])
    right = int(((guesses == label) & (gold == label)).sum())
    recall = 100 * right / max(1, int((gold == label).sum()))
    precision = 100 * right / max(1, int((guesses == label).sum()))
    old = gold != label
    scores = metric_score(predictor.task, guesses.tolist(), test)
    return {
        "new_recall": recall,
        "new_precision": precision,
        "new_f1": 2 * recall * precision / (recall + precision) if right else 0.0,
        "old_after": 100 * float((guesses[old] == gold[old]).mean()),
        "macro_f1": scores["f1"],
    }


def read_rows() -> list[dict[str, str]]:
    """The rows recorded so far."""
    return read_table(RESULTS / "extend.csv")


def cells_of(rows: Sequence[Mapping[str, str]], column: str, wanted: Mapping[str, str]) -> dict[tuple[str, ...], float]:
    """A column's figures by task, shots, seed and class."""
    return {
        tuple(row[name] for name in KEY[:4]): float(row[column])
        for row in rows
        if all(row[name] == value for name, value in wanted.items())
    }


def over_tasks(cells: Mapping[tuple[str, ...], float]) -> float:
    """The mean over tasks of the means within each."""
    tasks = {key[0] for key in cells}
    return float(np.mean([np.mean([value for key, value in cells.items() if key[0] == task]) for task in tasks]))


def table(rows: Sequence[Mapping[str, str]], task: str | None) -> list[str]:
    """A line for each number of labels, rows and method; of one task, or the mean over tasks."""
    lines = [
        "| labels of old classes | rows of the new class | method | new: recall | precision | F1 | old classes right,"
        " before | after | macro F1 of all |",
        "| ---: | ---: | --- |" + " ---: |" * 6,
    ]
    own = [row for row in rows if task in (None, row["task"])]
    for shots in sorted({int(row["shots"]) for row in own}):
        for count in ROWS:
            for method, words in METHODS.items():
                part = {"shots": str(shots), "rows": str(count), "method": method}
                cells = [f"{over_tasks(cells_of(own, column, part)):.1f}" for column in COLUMNS[6:]]
                lines.append(f"| {shots} a class | {count} | {words} | {' | '.join(cells)} |")
    return lines


def differences(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Paired differences of macro F1 between the two methods, over held-out classes."""
    lines = ["| labels of old classes | rows of the new class | macro F1, extend less refit | of old classes right |",
             "| ---: | ---: | ---: | ---: |"]  # fmt: skip
    for shots in sorted({int(row["shots"]) for row in rows}):
        for count in ROWS:
            shown = []
            for column in ("macro_f1", "old_after"):
                ours, theirs = (
                    cells_of(rows, column, {"shots": str(shots), "rows": str(count), "method": method})
                    for method in METHODS
                )
                found = mean([ours[key] - theirs[key] for key in ours.keys() & theirs.keys()])
                shown.append(str(found))
            lines.append(f"| {shots} a class | {count} | {' | '.join(shown)} |")
    return lines


def verdict(rows: Sequence[Mapping[str, str]]) -> str:
    """What a description alone gives, and what the old classes pay, in a sentence made of the figures."""
    alone = {"rows": "0", "method": "extend"}
    found = {column: over_tasks(cells_of(rows, column, alone)) for column in ("new_recall", "old_before", "old_after")}
    taught = {
        column: over_tasks(cells_of(rows, column, {"rows": str(ROWS[-1]), "method": "extend"})) for column in found
    }
    most = ROWS[-1]
    return (
        f"From its description alone, {found['new_recall']:.0f} % of the new class's rows are recognised; with {most}"
        f" rows, {taught['new_recall']:.0f} %. Of the old classes' rows, {found['old_before']:.1f} % were right"
        f" before, {found['old_after']:.1f} % after adding the class by its description, and {taught['old_after']:.1f}"
        f" % after adding it with {most} rows."
    )


def page(rows: Sequence[Mapping[str, str]]) -> str:
    """docs/results/extend.md, all of it made from the CSV."""
    held_out = len({tuple(row[name] for name in KEY[:4]) for row in rows})
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    lines = [
        "# Adding a class later",
        "",
        f"One class of a task is held out and the others are grafted (`transfer`, minilm, {len(PROMPTS)} prompts of"
        " the starter bank). Then `extend` adds the class from its description and 0 to 8 rows, without any row of"
        " the old classes. For comparison, `transfer` is run again on all rows, old and new, as someone would who has"
        f" kept them. {held_out} held-out classes of {len(tasks)} tasks ({', '.join(tasks)}), {len(SEEDS)} seeds."
        f" Figures are in percent, on at most {OLD_TEST} test rows of old classes and {NEW_TEST} of the new one. The"
        " new class is therefore more frequent than in the data set, and precision is for these proportions. Every"
        " result is a row of [extend.csv](extend.csv). The page is remade by",
        "",
        "```",
        "python scripts/extend_study.py run --data DATA && python scripts/extend_study.py write",
        "```",
        "",
        "Two settings (the length of the new class's weights, and how far rows may move all weights) were chosen on"
        " figures of agnews, trec and emotion, so no result on these tasks is held out. banking77 played no part in"
        " the choice (it has results with 8 labels a class only).",
        "",
        verdict(rows),
        "",
        "## Mean over tasks",
        "",
        *table(rows, None),
        "",
        "Differences paired over held-out classes, with 95 % intervals (Student's t):",
        "",
        *differences(rows),
    ]
    for task in tasks:
        lines += ["", f"## {task}", "", *table(rows, task)]
    lines += extend_labels.section(extend_labels.read_rows())
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("run", "run-labels", "write"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tasks"))
    parser.add_argument("--work", type=Path, default=Path("runs/extend-study"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--tasks", help="names with commas; default: all")
    options = parser.parse_args()
    names = None if options.tasks is None else options.tasks.split(",")
    if options.verb == "run":
        run(options.data, options.work, options.model, names or TASKS)
    elif options.verb == "run-labels":
        extend_labels.run(options.data, options.work, names)
    else:
        (RESULTS / "extend.md").write_text(page(read_rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
