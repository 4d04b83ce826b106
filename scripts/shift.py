"""What becomes of graft's promises on text unlike its labelled rows; docs/results/shift.{csv,md}.

    python scripts/shift.py run --data ../shared/data/tasks [--only sst2]
    python scripts/shift.py write

A model is grafted from a few labelled rows of one task, and answers that task's test rows and those of tasks of another
domain whose labels mean the same: with `risk=0.05`, and marking what is unlike the labelled rows. The CSV is the
record: `run` leaves out models that it holds and goes on.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

import promptgraft.api as pg
from promptgraft.engine.identity import version_of_results
from promptgraft.engine.reliability import reliability
from promptgraft.engine.risk import RISK
from promptgraft.study.judge import mean
from promptgraft.task.load import load_task
from promptgraft.task.sampling import cap
from promptgraft.task.task import Example, Task

# Each with tasks of other domains that have some of its labels, and one whose texts have none of them ("off"): whatever
# is answered there is wrong.
TARGETS: dict[str, tuple[str, ...]] = {
    "reviews_kitchen": ("sst2", "mpqa", "airline_tweets"),
    "sst2": ("reviews_kitchen", "mpqa", "airline_tweets"),
    "emotion": ("tweet_emotion",),
    "tweet_emotion": ("emotion",),
}
OFF: dict[str, str] = {"reviews_kitchen": "trec", "sst2": "agnews", "emotion": "trec", "tweet_emotion": "agnews"}
SHOTS = (8, 32)
SEEDS = (0, 1, 2, 3, 4)
TEST_ROWS = 500
RESULTS = Path("docs/results")
COLUMNS = (
    "trained_on", "tested_on", "shift", "labels", "seed", "rows", "accuracy", "confidence", "ece", "ece_perfect",
    "log_loss", "unlike", "sure", "error_sure", "coverage", "error_at_risk", "version",
)  # fmt: skip
KINDS = {"none": "the task's own test rows", "domain": "another domain, the same labels", "off": "no label fits"}

Row = Mapping[str, str]


def run(data: Path, model: str, only: str | None) -> None:
    """Graft and question every model that the CSV does not hold, seed by seed."""
    backbone = pg.open_model(model)
    tasks = cache(lambda name: load_task(data / name))
    names = tuple(TARGETS) if only is None else tuple(only.split(","))
    for seed, name, shots in product(SEEDS, names, SHOTS):
        recorded = read_rows()
        if any((row["trained_on"], row["labels"], row["seed"]) == (name, str(shots), str(seed)) for row in recorded):
            continue
        task = tasks(name)
        outcome = pg.transfer(
            task, backbone, "starter", shots=shots, seeds=(seed,), baselines=False, test_rows=1, max_length=64
        )
        kinds = {name: "none", **dict.fromkeys(TARGETS[name], "domain"), OFF[name]: "off"}
        rows = [judged(outcome.predictor, task, tasks(other), shots, seed, kind) for other, kind in kinds.items()]
        write_rows([*recorded, *rows])
        print(name, shots, seed, [row["coverage"] for row in rows], flush=True)


def judged(predictor: pg.Predictor, task: Task, other: Task, shots: int, seed: int, kind: str) -> Row:
    """How a model does on the test rows of a task, those whose label it knows."""
    rows = asked(task, other, kind)
    answers = predictor.answers([Example(row.text, row.pair) for row in rows], risk=RISK)
    assert answers.probabilities is not None
    assert answers.given is not None
    assert answers.unlike is not None
    gold = np.array([predictor.classes.index(str(row.label)) if kind != "off" else -1 for row in rows])
    confidence, right = answers.probabilities.max(1), answers.probabilities.argmax(1) == gold
    sure = predictor.threshold(RISK).answers(confidence)
    figures: dict[str, float | None] = {
        "accuracy": 100 * right.mean(),
        "confidence": 100 * confidence.mean(),
        "unlike": answers.unlike.mean(),
        "sure": sure.mean(),
        "error_sure": error(right, sure),
        "coverage": answers.given.mean(),
        "error_at_risk": error(right, answers.given),
    }
    if kind != "off":
        own = reliability(answers.probabilities.astype(float), gold)
        figures |= {"ece": own.ece.value, "ece_perfect": own.perfect, "log_loss": own.log_loss.value}
    names = {"trained_on": task.name, "tested_on": other.name, "shift": kind, "labels": shots, "seed": seed}
    cells = {name: "" if value is None else f"{value:.4f}" for name, value in figures.items()}
    return (
        {name: str(value) for name, value in names.items()}
        | {"rows": str(len(rows)), "version": version_of_results()}
        | cells
    )


def asked(task: Task, other: Task, kind: str) -> Sequence[Example]:
    """A sample of the test rows of a task; of labels that the model knows, where it knows any."""
    known = [row for row in other.test if kind == "off" or row.label in task.labels]
    return cap(other.replace(splits={"test": tuple(known)}), "test", TEST_ROWS, 0).test


def error(right: np.ndarray, given: np.ndarray) -> float | None:
    """Share of wrong ones among the answers given; None where none is."""
    return float(1 - right[given].mean()) if given.any() else None


def read_rows() -> list[Row]:
    """The rows recorded so far."""
    path = RESULTS / "shift.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(rows: Iterable[Row]) -> None:
    """Write all rows in a fixed order."""
    names = list(TARGETS)
    ordered = sorted(rows, key=lambda row: (names.index(row["trained_on"]), int(row["labels"]), int(row["seed"])))
    with (RESULTS / "shift.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)


def page(rows: Sequence[Row]) -> str:
    """The page of results."""
    models = {(row["trained_on"], row["labels"], row["seed"]) for row in rows}
    versions = ", ".join(sorted({row["version"] for row in rows}))
    parts = [HEAD.format(models=len(models), seeds=len({row["seed"] for row in rows}), versions=versions)]
    for shots in SHOTS:
        here = [row for row in rows if row["labels"] == str(shots)]
        parts.append(f"## {shots} labels a class\n\n{table(here)}")
    parts.append(f"## What breaks\n\n{broken(rows)}")
    return "\n\n".join(parts) + "\n"


HEAD = """# On text unlike the labelled rows

{models} models were grafted by `transfer`, each from a few labelled rows of one task, on minilm with the starter bank.
Each answers the test rows of its own task (in bold), of tasks of another domain with the same labels, and of a task in
which no text fits any label (off: every answer is wrong). There are at most 500 test rows for each, inputs are cut at
64 tokens, and there are {seeds} seeds. The results are from version {versions}. Every result is a row of
[shift.csv](shift.csv). The page is remade by

```
python scripts/shift.py run --data DATA && python scripts/shift.py write
```

- **calibration error**: expected calibration error in points (15 equal parts of the range of confidence, Guo et al.
  2017); **by chance**: the calibration error that correct probabilities would show on so many rows.
- **unlike**: share of the texts marked as unlike the labelled rows (5 % is expected by chance).
- **sure**: share of the texts whose probability reaches the threshold of `--risk 0.05`, and the error among them;
  **answered**: those of them that are not marked as unlike, which are the answers that `--risk 0.05` gives. Errors are
  over the answers of all seeds together.

The tasks were looked at while the rules were chosen, so no result here is held out. Where few answers are given, their
error depends on a few texts."""


def table(rows: Sequence[Row]) -> str:
    """Training task x test task: means over seeds."""
    names = (
        "accuracy",
        "calibration error",
        "by chance",
        "unlike, %",
        "sure, %",
        "error, %",
        "answered, %",
        "error, %",
    )
    head = "| " + " | ".join(("trained on", "tested on", *names)) + " |"
    lines = [head, "| --- | --- |" + " ---: |" * 8]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["trained_on"], row["tested_on"]), []).append(row)
    for (trained, tested), group in groups.items():
        kind = group[0]["shift"]
        cells = [
            average(group, "accuracy") if kind != "off" else "",
            average(group, "ece"),
            average(group, "ece_perfect"),
        ]
        cells += [average(group, "unlike", 100)]
        cells += [average(group, "sure", 100), pooled(group, "sure", "error_sure")]
        cells += [average(group, "coverage", 100), pooled(group, "coverage", "error_at_risk")]
        place = {"none": f"**{tested}**", "domain": tested, "off": f"{tested} (off)"}[kind]
        lines.append("| " + " | ".join([trained, place, *cells]) + " |")
    return "\n".join(lines)


def values(rows: Iterable[Row], column: str) -> list[float]:
    """The figures of a column, without empty cells."""
    return [float(row[column]) for row in rows if row[column]]


def average(rows: Sequence[Row], column: str, scale: float = 1.0) -> str:
    found = values(rows, column)
    return f"{scale * sum(found) / len(found):.1f}" if found else ""


def share_wrong(rows: Sequence[Row], coverage: str, wrong: str) -> float | None:
    """Share of wrong ones among all answers of several models, in percent; None where there is no answer."""
    answers = [(float(row["rows"]) * float(row[coverage]), row[wrong]) for row in rows]
    total = sum(count for count, _ in answers)
    return 100 * sum(count * float(cell) for count, cell in answers if cell) / total if total else None


def pooled(rows: Sequence[Row], coverage: str, wrong: str) -> str:
    share = share_wrong(rows, coverage, wrong)
    return "none given" if share is None else f"{share:.1f}"


def broken(rows: Sequence[Row]) -> str:
    """What the figures say, in sentences."""
    lines = []
    for shots in SHOTS:
        by_kind = {
            kind: [row for row in rows if row["labels"] == str(shots) and row["shift"] == kind] for kind in KINDS
        }
        own, domain, off = (by_kind[kind] for kind in KINDS)
        lines.append(
            f"- **{shots} labels a class.** Calibration error: {average(own, 'ece')} points on rows of the model's "
            f"own task ({average(own, 'ece_perfect')} by chance), {average(domain, 'ece')} in another domain. With "
            f"`--risk 0.05`, at most {100 * RISK:.0f} % of the answers should be wrong: on its own task "
            f"{answers_of(own)}; in another domain {answers_of(domain)}. By the probability alone it would be: "
            f"{sure(own)}; {sure(domain)}. Marked as unlike: {average(own, 'unlike', 100)} % of its own task, "
            f"{average(domain, 'unlike', 100)} % of another domain, {average(off, 'unlike', 100)} % where no label "
            f"fits. Of the texts that no label fits, {average(off, 'sure', 100)} % are sure enough, and "
            f"{average(off, 'coverage', 100)} % are answered."
        )
    return "\n".join(lines)


def sure(rows: Sequence[Row]) -> str:
    """Error and share of what is sure enough, whatever it is like."""
    wrong = share_wrong(rows, "sure", "error_sure")
    return (
        "nothing answered" if wrong is None else f"{average(rows, 'sure', 100)} % answered, {wrong:.1f} % of them wrong"
    )


def answers_of(rows: Sequence[Row]) -> str:
    """Coverage and error at the risk, over all answers and as a mean of the models that give any."""
    found = [100 * value for value in values(rows, "error_at_risk")]
    if not found:
        return "nothing was answered"
    together = (
        f"{average(rows, 'coverage', 100)} % were answered, and {pooled(rows, 'coverage', 'error_at_risk')} % of these "
        "answers were wrong"
    )
    return (
        f"{together} (mean over the {len(found)} of {len(rows)} cases with any answer: {mean(found, (0.0, 100.0))} %)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run")
    runs.add_argument("--data", type=Path, required=True)
    runs.add_argument("--model", default="minilm")
    runs.add_argument("--only", help="training tasks, with commas between them")
    verbs.add_parser("write")
    options = parser.parse_args()
    if options.verb == "run":
        run(options.data, options.model, options.only)
    else:
        (RESULTS / "shift.md").write_text(page(read_rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
