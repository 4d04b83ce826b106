"""Makes docs/results/labels.md and its pictures of docs/results/labels.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from promptgraft.api import advice as advising
from promptgraft.engine.reliability import BINS
from promptgraft.study.judge import Mean, mean, paired

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCRIPTS = Path(__file__).resolve().parent
RESULTS = SCRIPTS.parent / "docs" / "results"
ADVICE = Path(advising.__file__).with_name("advice.json")
TASKS, LEFT_OUT = SCRIPTS / "labels_tasks.csv", SCRIPTS / "labels_left_out.csv"
COLUMNS = (
    "task", "half", "language", "model", "labels", "seed", "method", "score", "metric", "ece", "coverage",
    "error_at_risk", "seconds", "bytes",
)  # fmt: skip
LABELS = ("0", "4", "8", "16", "32", "64", "250", "all")
METHODS = {
    "graft": "graft",
    "linear-probe": "linear probe",
    "prompt-tuning": "prompt tuning, linear readout",
    "pot": "PoT, label text",
    "model-tuning": "full fine-tuning",
    "setfit": "SetFit",
    "static-embedding": "static word vectors",
    "tf-idf": "TF-IDF",
    "zero-shot": "zero-shot, label text",
}
WITHOUT_MODEL = ("static-embedding", "tf-idf")
"""Methods that read no language model; they stand beside each model of a language."""
GROUPS = (("en", "minilm", "English"), ("en", "bge-small-en", "English"), ("zh", "e5-small", "Chinese"))
HALVES = {"untouched": "The untouched half", "chosen-on": "The half used for choices"}
RIVALS = ("linear-probe", "prompt-tuning", "pot", "model-tuning", "setfit", "static-embedding", "tf-idf")
PAIRS = (
    *(("graft", rival) for rival in RIVALS),
    *((rival, "linear-probe") for rival in RIVALS[1:]),
    ("pot", "prompt-tuning"),
    ("setfit", "model-tuning"),
)
"""Which method is held against which."""
WORSE = 1.0
"""Points below the linear probe from which on a cell counts as worse."""
PROBE = "linear-probe"
Row = Mapping[str, str]
Cells = Mapping[str, Mapping[int, float]]
"""task -> seed -> figure."""


def read_tasks() -> dict[str, dict[str, str]]:
    """Task -> its language, half and number of classes."""
    with TASKS.open(newline="", encoding="utf-8") as file:
        return {row["task"]: row for row in csv.DictReader(file)}


def read_rows() -> list[Row]:
    """The rows recorded so far."""
    path = RESULTS / "labels.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(rows: Sequence[Row]) -> None:
    """Write rows in a fixed order; of two of one cell the later stays."""
    latest = {place_of(row): row for row in rows}
    with (RESULTS / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(latest[place] for place in sorted(latest))


def place_of(row: Row) -> tuple[str, str, str, int, int]:
    """Where a row stands in the CSV; one cell has one place."""
    return row["task"], row["model"], row["method"], LABELS.index(row["labels"]), int(row["seed"])


@dataclass(frozen=True)
class Part:
    """The rows of one half of a language's tasks, of one model and of the methods that read none.

    Attributes:
        tasks: of the half, whether they have rows or not.
        figures: method -> labels -> the rows of its cells.
    """

    tasks: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Sequence[Row]]]

    def cells(self, method: str, labels: str, column: str) -> Cells:
        """task -> seed -> what stands in a column; an empty field is left out."""
        cells: dict[str, dict[int, float]] = {}
        for row in self.figures.get(method, {}).get(labels, ()):
            if row[column]:
                cells.setdefault(row["task"], {})[int(row["seed"])] = float(row[column])
        return cells

    def average(self, method: str, labels: str, column: str) -> float | None:
        """The mean over tasks of the mean over seeds; None where a task is missing, since such means do not compare."""
        cells = self.cells(method, labels, column)
        is_whole = len(cells) == len(self.tasks)
        return fmean(fmean(seeds.values()) for seeds in cells.values()) if cells and is_whole else None

    def difference(self, ours: str, theirs: str, labels: str) -> Mean | None:
        """Mean over the tasks that both have of the mean paired difference over seeds."""
        mine, other = self.cells(ours, labels, "score"), self.cells(theirs, labels, "score")
        both = [paired(mine[task], other[task]) for task in sorted(mine.keys() & other.keys())]
        differences = [found.value for found in both if found is not None]
        return mean(differences) if differences else None

    def gaps(self, rival: str) -> dict[str, Mean]:
        """How far graft is ahead of a rival by labels a class, where at least half of the tasks have both."""
        found = {labels: self.difference("graft", rival, labels) for labels in LABELS[1:]}
        return {labels: gap for labels, gap in found.items() if gap is not None and 2 * gap.count >= len(self.tasks)}

    def worse(self, method: str, labels: str) -> tuple[int, int]:
        """How many cells (task and seed) lie more than a point below the linear probe, and of how many."""
        mine, probe = self.cells(method, labels, "score"), self.cells(PROBE, labels, "score")
        gaps = [
            mine[task][seed] - probe[task][seed]
            for task in mine.keys() & probe.keys()
            for seed in mine[task].keys() & probe[task].keys()
        ]
        return sum(gap < -WORSE for gap in gaps), len(gaps)


def part_of(rows: Sequence[Row], half: str, language: str, model: str) -> Part:
    """Sort the rows of a half, a language and a model."""
    figures: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if (row["half"], row["language"]) == (half, language) and row["model"] in (model, *WITHOUT_MODEL):
            figures.setdefault(row["method"], {}).setdefault(row["labels"], []).append(row)
    tasks = (task for task, facts in read_tasks().items() if (facts["half"], facts["language"]) == (half, language))
    return Part(tuple(sorted(tasks)), figures)


def parts(rows: Sequence[Row], half: str) -> Iterator[tuple[str, Part]]:
    """The parts of a half that have rows of their model, with their names."""
    for language, model, name in GROUPS:
        part = part_of(rows, half, language, model)
        if any(row["model"] == model for labels in part.figures.values() for cell in labels.values() for row in cell):
            yield f"{name} tasks, {model}", part


def heading(first: str, columns: Sequence[str]) -> list[str]:
    return [f"| {first} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]


def mean_table(part: Part, column: str) -> list[str]:
    """A line a method: the mean over all tasks of the half at every number of labels."""
    lines = heading("method", LABELS)
    for method, name in METHODS.items():
        values = [part.average(method, labels, column) for labels in LABELS]
        if any(value is not None for value in values):
            shown = ("" if value is None else f"{value:.1f}" for value in values)
            lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines if len(lines) > 2 else []


def risk_table(part: Part) -> list[str]:
    """What graft answers at the usual risk, and how much of that is wrong, with the number of tasks of each mean."""
    lines = heading("", LABELS)
    for column, title in (("coverage", "answered"), ("error_at_risk", "wrong among the answers")):
        found = [part.cells("graft", labels, column) for labels in LABELS]
        cells = [
            f"{100 * fmean(map(fmean, map(dict.values, rows.values()))):.1f} [{len(rows)}]" if rows else ""
            for rows in found
        ]
        lines += [f"| {title} | {' | '.join(cells)} |"] if any(cells) else []
    return lines if len(lines) > 2 else []


def difference_table(part: Part) -> list[str]:
    """A line a pair of methods: what the first is ahead by."""
    lines = heading("difference", LABELS[1:])
    for ours, theirs in PAIRS:
        differences = [part.difference(ours, theirs, labels) for labels in LABELS[1:]]
        if any(found is not None for found in differences):
            cells = ("" if found is None else counted(found, len(part.tasks)) for found in differences)
            lines.append(f"| {METHODS[ours]} - {METHODS[theirs]} | {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []


def counted(found: Mean, tasks: int) -> str:
    """A difference, with the number of tasks where these are not all."""
    return f"{found}" if found.count == tasks else f"{found} [{found.count}]"


def worse_table(part: Part) -> list[str]:
    """A line a method: how often it is worse than the probe."""
    lines = heading("method", LABELS[1:])
    for method in (name for name in METHODS if name != PROBE):
        counts = [part.worse(method, labels) for labels in LABELS[1:]]
        if any(count for _, count in counts):
            cells = (f"{100 * worse / count:.0f} % of {count}" if count else "" for worse, count in counts)
            lines.append(f"| {METHODS[method]} | {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []


def half_section(rows: Sequence[Row], half: str) -> list[str]:
    """All tables of a half."""
    lines = [f"## {HALVES[half]}", "", f"![Score against labels](labels-{half}.svg)", ""]
    for name, part in parts(rows, half):
        tables = (
            ("Mean of the tasks' own metrics", mean_table(part, "score")),
            ("Paired differences", difference_table(part)),
            ("Share of pairs of task and seed that are more than a point below the linear probe", worse_table(part)),
            ("Expected calibration error, in points", mean_table(part, "ece")),
            ("Share of test rows that graft answers at `--risk 0.05`, in percent", risk_table(part)),
        )
        lines += [f"### {name} ({len(part.tasks)})", ""]
        for title, table in tables:
            lines += [f"{title}:", "", *table, ""] if table else []
    return lines


def advice(part: Part) -> list[str]:
    """From how many labels on a rival of graft is the better choice, by the differences of one part."""
    lines = []
    for rival in RIVALS:
        known = part.gaps(rival)
        if not known:
            continue
        ahead = [labels for labels, gap in known.items() if gap.high is not None and gap.high < 0]
        near = [labels for labels, gap in known.items() if gap.value <= 0]
        if ahead:
            verdict = f"certainly better at {listed(ahead)}"
        elif near:
            verdict = f"ahead in the mean at {listed(near)}, but not certainly better"
        else:
            verdict = f"behind graft at {listed(list(known))}"
        lines.append(f"- {METHODS[rival][0].upper()}{METHODS[rival][1:]}: {verdict}.")
    return lines


def measured(rows: Sequence[Row]) -> str:
    """`advice.json`, which `transfer` gives its advice by: graft against its rivals on the untouched half."""
    models = {}
    for language, model, name in GROUPS:
        part = part_of(rows, "untouched", language, model)
        gaps: dict[str, list[dict[str, object]]] = {}
        for rival in advising.RIVALS:
            for labels, gap in part.gaps(rival).items():
                if gap.low is not None and gap.high is not None:
                    figures = {"ahead": round(gap.value, 1), "low": round(gap.low, 1), "high": round(gap.high, 1)}
                    gaps.setdefault(rival, []).append({"labels": labels, **figures})
        if gaps:
            models[model] = {"language": name, "gaps": gaps}
    return json.dumps(models, indent=1) + "\n"


def listed(labels: Sequence[str]) -> str:
    """Numbers of labels in words: "4, 8 and 16 labels a class and all labels"."""
    numbers = [number for number in labels if number != "all"]
    first = numbers[0] if len(numbers) == 1 else f"{', '.join(numbers[:-1])} and {numbers[-1]}" if numbers else ""
    words = [f"{first} labels a class"] if numbers else []
    return " and ".join([*words, "all labels"] if len(numbers) < len(labels) else words)


def leaders(part: Part) -> list[str]:
    """A table of the best mean at every number of labels that graft has all tasks at, of the methods that have too."""
    lines = heading("labels a class", ("best mean", "next"))
    for labels in LABELS[1:]:
        means = {method: part.average(method, labels, "score") for method in METHODS}
        ranked = sorted(((value, method) for method, value in means.items() if value is not None), reverse=True)
        if len(ranked) > 1 and means["graft"] is not None:
            first, second = (f"{METHODS[method]} {value:.1f}" for value, method in ranked[:2])
            lines.append(f"| {labels} | {first} | {second} |")
    return lines if len(lines) > 2 else []


def choice_section(rows: Sequence[Row]) -> list[str]:
    """From how many labels on what is the better choice, by the untouched half."""
    lines = [
        "## Which method from how many labels on",
        "",
        "By the untouched half alone. At its end, `promptgraft transfer` gives this advice for the model that it is"
        " used with, if that model was measured. A number of labels counts if graft and the other method have at least"
        " half of the tasks there; the best means are given where graft has all of them.",
        "",
    ]
    for name, part in parts(rows, "untouched"):
        texts = [text for text in (leaders(part), advice(part)) if text]
        for text in texts:
            lines += [f"{name}:", "", *text, ""]
    return lines


def cost_section(rows: Sequence[Row]) -> list[str]:
    """Seconds and bytes by method, over the tasks of both halves."""
    lines = [
        "## What it costs",
        "",
        "`seconds`: set-up, training and validation of one run on one thread, including the runs that it requires (for"
        " the baselines without a language model: features of the training rows and all fits). Other work ran on the"
        " same two cores, so the times only rank the methods; runs on a GPU have none. `bytes`: what is stored for one"
        " task, without the frozen model or the table of word vectors, which all tasks share.",
        "",
    ]
    columns = ("8: seconds", "8: bytes", "32: seconds", "32: bytes", "all: seconds", "all: bytes")
    for language, model, name in GROUPS:
        table = heading("method", columns)
        own = [row for row in rows if row["language"] == language and row["model"] in (model, *WITHOUT_MODEL)]
        if not any(row["model"] == model for row in own):
            continue
        for method in METHODS:
            cells = []
            for labels in ("8", "32", "all"):
                found = [row for row in own if (row["method"], row["labels"]) == (method, labels)]
                seconds = [float(row["seconds"]) for row in found if row["seconds"]]
                cells.append(f"{fmean(seconds):.1f}" if seconds else "")
                cells.append(f"{fmean(float(row['bytes']) for row in found):,.0f}" if found else "")
            if any(cells):
                table.append(f"| {METHODS[method]} | {' | '.join(cells)} |")
        lines += [f"{name} tasks, {model}:", "", *table, ""] if len(table) > 2 else []
    return lines


def task_section(rows: Sequence[Row]) -> list[str]:
    """The tasks of both halves, with the scores of every method at 8 labels a class."""
    metrics = {row["task"]: row["metric"] for row in rows}
    lines = ["## The tasks", "", "Means over seeds at 8 and 32 labels a class.", ""]
    for language, model, name in GROUPS:
        for half in HALVES:
            part = part_of(rows, half, language, model)
            columns = [
                (method, labels) for method in METHODS for labels in ("8", "32") if part.cells(method, labels, "score")
            ]
            if not any(row["model"] == model for row in rows) or not columns:
                continue
            titles = [f"{METHODS[method]} {labels}" for method, labels in columns]
            lines += [f"{name}, {model}, {half}:", "", *heading("task", ["metric", *titles])]
            for task in part.tasks:
                found = [part.cells(method, labels, "score").get(task, {}) for method, labels in columns]
                cells = [f"{fmean(seeds.values()):.1f}" if seeds else "" for seeds in found]
                lines.append(f"| {task} | {metrics.get(task, '')} | {' | '.join(cells)} |")
            lines.append("")
    return lines


def missing_section(rows: Sequence[Row]) -> list[str]:
    """How many tasks each cell of the grid has, where it has any."""
    lines = [
        "## What was run",
        "",
        "The number of tasks with results, of all tasks of the language, and the number of results. Empty cells were"
        " not run. Means over tasks are shown only where no task is missing.",
        "",
    ]
    for language, model, name in GROUPS:
        own = [row for row in rows if row["language"] == language and row["model"] in (model, *WITHOUT_MODEL)]
        if not any(row["model"] == model for row in own):
            lines += [f"{name} tasks, {model}: not run.", ""]
            continue
        total = sum(facts["language"] == language for facts in read_tasks().values())
        table = heading("method", LABELS)
        for method in METHODS:
            cells = []
            for labels in LABELS:
                found = [row for row in own if (row["method"], row["labels"]) == (method, labels)]
                tasks = len({row["task"] for row in found})
                cells.append(f"{tasks} of {total}, {len(found)}" if found else "")
            table.append(f"| {METHODS[method]} | {' | '.join(cells)} |")
        lines += [f"{name} tasks, {model}:", "", *table, ""]
    return lines


def page(rows: Sequence[Row]) -> str:
    """docs/results/labels.md, all of it made from the CSV and the two tables beside the script."""
    tasks = read_tasks()
    names = {half: [task for task, facts in tasks.items() if facts["half"] == half] for half in HALVES}
    lines = [
        "# How many labels, which method",
        "",
        f"{len(rows)} results: {len(tasks)} classification tasks in two languages, with 0 to 250 labels a class and"
        " with all of them. All methods get the same labelled rows. Methods that choose a step on validation (prompt"
        " tuning, PoT, full fine-tuning) take a quarter of each class of these rows for it (`--validation-from"
        " within`); methods that need no validation train on every row. There are at most 500 test rows. Inputs are"
        " cut at 64 tokens, except for the two baselines without a language model, which read whole texts. A class"
        " with fewer rows than asked for gives all it has. Every result is a row of [labels.csv](labels.csv). SetFit,"
        " which passes each row 80 times, is run for up to 700 labelled rows; TF-IDF for up to 200,000 rows times"
        " classes (on iflytek up to 8 labels a class). The page is remade by",
        "",
        "```",
        "python scripts/labels.py run --data DATA && python scripts/labels.py write",
        "```",
        "",
        "**Two halves.** The untouched half was drawn before anything was chosen, and nobody looked at it while the"
        f" defaults were chosen: {', '.join(names['untouched'])}. Claims in other documents are about this half unless"
        f" they say otherwise. The other half was looked at: {', '.join(names['chosen-on'])}. Source prompts that were"
        " tuned on a target's own data set, or on data that share texts with it, are left out"
        " (`scripts/labels_left_out.csv`). With 0 labels, graft sees 100 unlabelled texts of the task. The answers of"
        " graft at a risk were computed for fewer tasks and seeds: the number of tasks is in brackets, and an error"
        " is the mean over the tasks in which any text is answered.",
        "",
        "Intervals are 95 % intervals (Student's t) over tasks, of the mean paired difference over seeds, in points."
        " A number in brackets is the number of tasks that both methods have, where that is not all. The static word"
        " vectors (the package wordllama, 256 numbers a text) and TF-IDF (words and pairs of words; in Chinese one to"
        " three characters) are used with scikit-learn's logistic regression, whose regularisation is chosen by the"
        f" likelihood of rows left out. Calibration errors are over {BINS} bins of equal width; correct"
        " probabilities would show 4 to 5 points by chance on 500 rows.",
        "",
        *(line for half in HALVES for line in half_section(rows, half)),
        *choice_section(rows),
        *cost_section(rows),
        *task_section(rows),
        *missing_section(rows),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


LOOKS = {
    "graft": ("#c8500a", "D"),
    "linear-probe": ("#0072b2", "o"),
    "prompt-tuning": ("#008060", "s"),
    "pot": ("#b8860b", "^"),
    "model-tuning": ("#7a3e9d", "v"),
    "setfit": ("#cc3366", "P"),
    "static-embedding": ("#59636e", "X"),
    "tf-idf": ("#8c8c8c", "<"),
    "zero-shot": ("#1f2328", "*"),
}
"""Methods differ by shape as well as by colour."""


def draw(rows: Sequence[Row], half: str) -> None:
    """A picture of a half: a panel a language and model, a line a method."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from promptgraft.report.svg import STYLE

    named = list(parts(rows, half))
    if not named:
        return
    with mpl.rc_context({**STYLE, "figure.facecolor": "white", "axes.facecolor": "white"}):
        figure, axes = plt.subplots(1, len(named), figsize=(5.4 * len(named), 4.2), squeeze=False, layout="constrained")
        for place, (name, part) in zip(axes[0], named, strict=True):
            panel(place, name, part)
        axes[0][0].set_ylabel("mean of the tasks' own metrics")
        handles: dict[str, object] = {}
        for place in axes[0]:
            handles |= dict(zip(*reversed(place.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(RESULTS / f"labels-{half}.svg", metadata={"Date": None})
        plt.close(figure)


def panel(axes: Axes, name: str, part: Part) -> None:
    """One panel; a point is left out where a task of the half is missing."""
    for method, (colour, mark) in LOOKS.items():
        means = {labels: part.average(method, labels, "score") for labels in LABELS}
        points = [(LABELS.index(labels), value) for labels, value in means.items() if value is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=mark, markersize=5, label=METHODS[method])
    axes.set_xticks(range(len(LABELS)), LABELS)
    axes.set_xlim(-0.4, len(LABELS) - 0.6)
    axes.set_xlabel("labels a class")
    axes.set_title(f"{name} ({len(part.tasks)})", fontsize=10)
    axes.grid(axis="y")
    axes.tick_params(length=0)


def write() -> None:
    """Make the page, its pictures, and the figures that the package ships."""
    rows = read_rows()
    ADVICE.write_text(measured(rows), encoding="utf-8")
    (RESULTS / "labels.md").write_text(page(rows), encoding="utf-8")
    for half in HALVES:
        draw(rows, half)


if __name__ == "__main__":
    write()
