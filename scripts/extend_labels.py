"""A label is added to a graft of several labels a row that has not seen it; the last part of docs/results/extend.md.

`python scripts/extend_study.py run-labels` runs it. docs/results/extend-multilabel.csv is the record.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
from keeping import PROMPTS, Keeping, graft, read_table, record, small_bank
from multilabel import MODELS, TEST_ROWS, read_facts, read_task

import promptgraft.api as pg
from promptgraft.engine.predictor import Predictor
from promptgraft.model.backbone import Backbone
from promptgraft.readout.classes import indicators
from promptgraft.readout.threshold import f1
from promptgraft.study.judge import Mean, mean
from promptgraft.task.task import Example, Task

BANKS = {
    "en": PROMPTS,
    "zh": ("goemotions", "clinc150_domain", "dbpedia14", "drcd_answerable", "snli", "csl_field"),
}
"""Prompts of the starter bank that are grafted; none is of a studied task."""
SEEDS = (0, 1, 2)
OLD_ROWS = (32, 128)
"""Labelled rows of the graft that has not seen the label."""
ROWS = (0, 8, 32)
"""That are given; half of them have the new label."""
RESULTS = Path("docs/results/extend-multilabel.csv")
COLUMNS = (
    "task", "old_rows", "seed", "label", "rows", "method", "new_recall", "new_precision", "new_f1", "old_before",
    "old_after", "micro_f1",
)  # fmt: skip
KEY = COLUMNS[:6]
METHODS = {
    "extend": "extend",
    "fixed": "extend, the threshold as before",
    "refit": "graft on all rows anew",
}
Row = Mapping[str, str]


def run(data: Path, work: Path, names: Sequence[str] | None) -> None:
    """Every cell that the CSV does not hold, in each seed the cheaper half of them first."""
    facts = read_facts()
    facts.pop("goemotions")
    held: dict[str, tuple[Backbone, Path]] = {}
    for seed, count, name in itertools.product(SEEDS, OLD_ROWS, names or facts):
        done = {tuple(row[column] for column in KEY[:3]) for row in read_rows()}
        if (name, str(count), str(seed)) in done:
            continue
        language = str(facts[name]["language"])
        if language not in held:
            model = MODELS[language]
            bank = small_bank(work / model, model, BANKS[language])
            held[language] = Keeping(pg.open_model(model)), bank  # type: ignore[assignment]
        backbone, bank = held[language]
        rows = study(read_task(name, facts[name], data, None), bank, backbone, count, seed)
        record(RESULTS, COLUMNS, KEY, rows)
        print(name, count, seed, rows[0]["label"], flush=True)


def study(task: Task, bank: Path, backbone: Backbone, count: int, seed: int) -> list[dict[str, object]]:
    """The rows of one label that is held out, beside so many labelled rows."""
    draws = random.Random(seed)
    label = draws.choice(task.classes)
    everything = draws.sample(task.train, len(task.train))
    old_rows, others = tuple(everything[:count]), everything[count:]
    new_rows = in_turn([row for row in others if label in row.label], [row for row in others if label not in row.label])
    known = task.replace(labels={name: text for name, text in task.labels.items() if name != label})
    before = graft(known, tuple(without(row, label) for row in old_rows), bank, backbone)
    old = [name for name in task.classes if name != label]
    first = 100 * f1_of(task, before, old)
    rows: list[dict[str, object]] = []
    for given in ROWS:
        extended = pg.extend(before, {label: task.labels[label]}, list(new_rows[:given]) or None).predictor
        anew = graft(task, (*old_rows, *new_rows[:given]), bank, backbone)
        predictors = {"extend": extended, "fixed": with_threshold(extended, before), "refit": anew}
        for method, predictor in predictors.items():
            if given or method != "fixed":
                key = dict(zip(KEY, (task.name, count, seed, label, given, method), strict=True))
                rows.append(key | figures(task, predictor, label, old) | {"old_before": first})
    return rows


def in_turn(some: Sequence[Example], others: Sequence[Example]) -> list[Example]:
    """A row of the one and a row of the other by turns."""
    return [row for pair in zip(some, others, strict=False) for row in pair]


def without(row: Example, label: str) -> Example:
    """The row as it was labelled before there was such a label."""
    assert isinstance(row.label, tuple), "several labels a row"
    return replace(row, label=tuple(name for name in row.label if name != label))


def with_threshold(extended: Predictor, before: Predictor) -> Predictor:
    """The extended artefact with the threshold that it had before."""
    old, new = before.artefact.readout, extended.artefact.readout
    readout = {**new, "threshold": old["threshold"]}
    return Predictor(extended.artefact.replace(readout=readout), extended.backbone)


def answers(task: Task, predictor: Predictor) -> np.ndarray:
    """1 where a test row gets a label of the task, else 0."""
    guesses = predictor.predict([replace(row, label=None) for row in task.test])
    return np.array([[name in guess for name in task.classes] for guess in guesses])


def f1_of(task: Task, predictor: Predictor, labels: Sequence[str]) -> float:
    """Micro F1 over these labels alone."""
    places = [task.classes.index(name) for name in labels]
    gold = indicators([row.label for row in task.test], task) > 0
    return f1(gold[:, places], answers(task, predictor)[:, places], macro=False)


def figures(task: Task, predictor: Predictor, label: str, old: Sequence[str]) -> dict[str, float]:
    """Figures in percent on the test rows."""
    place = task.classes.index(label)
    gold, guess = indicators([row.label for row in task.test], task)[:, place] > 0, answers(task, predictor)[:, place]
    right = int((gold & guess).sum())
    return {
        "new_recall": 100 * right / max(1, int(gold.sum())),
        "new_precision": 100 * right / max(1, int(guess.sum())),
        "new_f1": 100 * f1_of(task, predictor, [label]),
        "old_after": 100 * f1_of(task, predictor, old),
        "micro_f1": 100 * f1_of(task, predictor, task.classes),
    }


def read_rows() -> list[Row]:
    """The rows recorded so far."""
    return list(read_table(RESULTS))


def by_task(rows: Sequence[Row], wanted: Mapping[str, object], column: str) -> dict[str, float]:
    """Task -> the mean of a column's figures over its seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if all(row[name] == str(value) for name, value in wanted.items()):
            found.setdefault(row["task"], []).append(float(row[column]))
    return {task: fmean(values) for task, values in found.items()}


def over_tasks(rows: Sequence[Row], wanted: Mapping[str, object], column: str) -> Mean:
    return mean(list(by_task(rows, wanted, column).values()), (0, 100))


def gap(rows: Sequence[Row], one: tuple[str, str], other: tuple[str, str], cell: Mapping[str, object]) -> Mean:
    """How far a method's column is above another's, paired within tasks."""
    mine, theirs = (by_task(rows, {**cell, "method": method}, column) for method, column in (one, other))
    return mean([mine[task] - theirs[task] for task in mine])


def section(rows: Sequence[Row]) -> list[str]:
    """The part of the page on tasks with several labels a row; nothing where there are no results."""
    if not rows:
        return []
    tasks = sorted({row["task"] for row in rows})
    held_out = {tuple(row[name] for name in KEY[:4]) for row in rows}
    seeds, counts = len({row["seed"] for row in rows}), sorted({int(row["old_rows"]) for row in rows})
    own = {task: [row for row in rows if row["task"] == task] for task in tasks}
    return [
        "",
        "## Several labels a row",
        "",
        f"One label is held out in tasks with several labels a row: {', '.join(tasks)} (minilm for English tasks,"
        f" e5-small for Chinese ones; [what they are](multilabel.md)). The others are grafted on"
        f" {' or '.join(map(str, counts))} rows in all, which do not say whether they have the"
        " label that comes later. `extend` then adds"
        f" it by its description, and by {ROWS[1]} or {ROWS[2]} further rows, half of which have it. For comparison,"
        " `transfer` is run on all rows, as someone would who has labelled the old ones by the new label too: it is"
        f" told more. {len(held_out)} held-out labels, {seeds} seed{'s' * (seeds > 1)}; figures are in percent, on at"
        f" most {TEST_ROWS}"
        " test rows, the mean over tasks with 95 % intervals (Student's t). Every result is a row of"
        " [extend-multilabel.csv](extend-multilabel.csv). Nothing was chosen on these figures. To remake it,",
        "",
        "```",
        "python scripts/extend_study.py run-labels --data DATA && python scripts/extend_study.py write",
        "```",
        "",
        *verdict(rows),
        "",
        *table(rows),
        "",
        "Differences paired within tasks. The first two are to the extended artefact: from what the old labels were"
        " before it, and from a graft on all rows. The last two are what the threshold does that given rows set anew"
        " (it is the one for all labels), over that from before.",
        "",
        *differences(rows),
        "",
        "The F1 of the new label by task, and the change of the micro F1 of the old labels (points):",
        "",
        f"| task | {' | '.join(f'{given} rows: new | old' for given in ROWS)} |",
        "| --- |" + " ---: |" * (2 * len(ROWS)),
        *(f"| {task} | {' | '.join(of_task(own[task], given) for given in ROWS)} |" for task in tasks),
    ]


def verdict(rows: Sequence[Row]) -> list[str]:
    """What a description and rows give, and what the old labels pay, made of the figures."""
    new = [over_tasks(rows, {"rows": given, "method": "extend"}, "new_f1").value for given in ROWS]
    anew = [over_tasks(rows, {"rows": given, "method": "refit"}, "new_f1").value for given in ROWS]
    old = [over_tasks(rows, {"rows": given, "method": "extend"}, "old_after").value for given in ROWS]
    before = over_tasks(rows, {"rows": 0, "method": "extend"}, "old_before").value
    return [
        f"The new label's F1 is {new[0]:.1f} % from its description alone, {new[1]:.1f} with {ROWS[1]} rows and"
        f" {new[2]:.1f} with {ROWS[2]}; a graft on all rows has {anew[0]:.1f}, {anew[1]:.1f} and {anew[2]:.1f}. The old"
        f" labels' micro F1 is {before:.1f} before, and {old[0]:.1f}, {old[1]:.1f} and {old[2]:.1f} after."
    ]


def table(rows: Sequence[Row]) -> list[str]:
    """A line for each number of labelled rows, of given rows, and method."""
    lines = [
        "| labelled rows | given rows | method | new: recall | precision | F1 | old: micro F1, before | after |"
        " micro F1 of all |",
        "| ---: | ---: | --- |" + " ---: |" * 6,
    ]
    for count, given, (method, words) in itertools.product(OLD_ROWS, ROWS, METHODS.items()):
        cell = {"old_rows": count, "rows": given, "method": method}
        if by_task(rows, cell, "new_f1"):
            shown = [str(over_tasks(rows, cell, column)) for column in COLUMNS[6:]]
            lines.append(f"| {count} | {given} | {words} | {' | '.join(shown)} |")
    return lines


def differences(rows: Sequence[Row]) -> list[str]:
    """What a label costs the old ones, what the new one lacks to a graft anew, and what the new threshold does."""
    lines = [
        "| labelled rows | given rows | old micro F1, after less before | new F1, extend less refit |"
        " new F1, threshold anew | old micro F1, threshold anew |",
        "| ---: | ---: |" + " ---: |" * 4,
    ]
    for count, given in itertools.product(OLD_ROWS, ROWS):
        cell = {"old_rows": count, "rows": given}
        if not by_task(rows, {**cell, "method": "extend"}, "new_f1"):
            continue
        pairs = [(("extend", "old_after"), ("extend", "old_before")), (("extend", "new_f1"), ("refit", "new_f1"))]
        if given:
            pairs += [(("extend", column), ("fixed", column)) for column in ("new_f1", "old_after")]
        shown = [str(gap(rows, one, other, cell)) for one, other in pairs]
        lines.append(f"| {count} | {given} | {' | '.join([*shown, *[''] * (4 - len(shown))])} |")
    return lines


def of_task(rows: Sequence[Row], given: int) -> str:
    """Two cells of a task's line."""
    cell = {"rows": given}
    new = over_tasks(rows, {**cell, "method": "extend"}, "new_f1").value
    return f"{new:.1f} | {gap(rows, ('extend', 'old_after'), ('extend', 'old_before'), cell).value:+.1f}"
