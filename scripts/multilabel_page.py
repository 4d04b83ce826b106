"""Makes docs/results/multilabel.md of docs/results/multilabel.csv."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from promptgraft.study.judge import Mean, mean, paired

SCRIPTS = Path(__file__).resolve().parent
RESULTS = SCRIPTS.parent / "docs" / "results"
TASKS = SCRIPTS / "multilabel_tasks.toml"
COLUMNS = (
    "task", "half", "language", "model", "labels", "seed", "method", "micro_f1", "macro_f1", "ranking", "ece",
    "seconds",
)  # fmt: skip
CHOICES = RESULTS / "multilabel-choices.csv"
CHOICES_COLUMNS = (
    "task", "half", "seed", "coverage_32", "error_32", "coverage_128", "error_128", "micro_f1_drawn", "macro_f1_drawn",
    "micro_f1_suggested", "macro_f1_suggested",
)  # fmt: skip
SIZES = (0, 32, 128)
"""Labelled rows in all."""
METHODS = {
    "graft": "graft",
    "linear-probe": "linear probe",
    "prompt-tuning": "prompt tuning",
    "tf-idf": "TF-IDF",
    "zero-shot": "zero-shot, label text",
}
FIGURES = {
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "ranking": "Label ranking average precision",
    "ece": "Calibration error (lower is better)",
}
COMPARED = ("micro_f1", "macro_f1", "ranking")
HALVES = {"untouched": "The untouched half", "chosen-on": "The half used for choices"}
LANGUAGES = {"en": "English tasks, minilm", "zh": "Chinese tasks, e5-small"}
BINS = 15
Row = Mapping[str, str]


def read_rows() -> list[Row]:
    """The rows recorded so far."""
    return read_csv(RESULTS / "multilabel.csv")


def read_choices() -> list[Row]:
    """What `--risk` and `suggest` gave, as far as it is recorded."""
    return read_csv(CHOICES)


def read_csv(path: Path) -> list[Row]:
    """The rows of a CSV file; none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keep_rows(rows: Iterable[Row]) -> None:
    """Add rows to the CSV, which is kept in a fixed order."""
    ordered = sorted([*read_rows(), *rows], key=place_of)
    with (RESULTS / "multilabel.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)


def place_of(row: Row) -> tuple[str, str, str, int, int]:
    """Where a row stands in the CSV."""
    return row["half"], row["task"], row["method"], int(row["labels"]), int(row["seed"])


def calibration_error(probabilities: np.ndarray, gold: np.ndarray) -> float:
    """Expected calibration error in points: over all pairs of a row and a label, in BINS equal parts of 0 to 1.

    Args:
        gold: 1 where the row has the label, else 0.
    """
    shares, has = np.ravel(probabilities), np.ravel(gold)
    place = np.minimum((shares * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, has - shares, minlength=BINS)
    return 100 * float(np.abs(gaps).sum()) / len(shares)


def of_half(rows: Iterable[Row], half: str, language: str | None = None) -> list[Row]:
    return [row for row in rows if row["half"] == half and language in (None, row["language"])]


def cells(rows: Iterable[Row], method: str, labels: int, column: str) -> dict[str, dict[int, float]]:
    """task -> seed -> figure."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if (row["method"], row["labels"]) == (method, str(labels)):
            found.setdefault(row["task"], {})[int(row["seed"])] = float(row[column])
    return found


def average(rows: Sequence[Row], method: str, labels: int, column: str) -> str:
    """The mean over tasks of the mean over seeds; empty where a task is missing, since such means do not compare."""
    found = cells(rows, method, labels, column)
    is_whole = len(found) == len({row["task"] for row in rows})
    return f"{fmean(fmean(seeds.values()) for seeds in found.values()):.1f}" if found and is_whole else ""


def difference(rows: Sequence[Row], rival: str, labels: int, column: str) -> Mean | None:
    """How far graft is ahead: the mean over tasks of the mean paired difference over seeds."""
    mine, other = cells(rows, "graft", labels, column), cells(rows, rival, labels, column)
    both = [paired(mine[task], other[task]) for task in sorted(mine.keys() & other.keys())]
    found = [gap.value for gap in both if gap is not None]
    return mean(found) if found else None


def averages(rows: Sequence[Row], column: str) -> str:
    """Method x labelled rows."""
    table = [[METHODS[method], *(average(rows, method, size, column) for size in SIZES)] for method in METHODS]
    return markdown(["method", *map(str, SIZES)], [line for line in table if any(line[1:])])


def differences(rows: Sequence[Row]) -> str:
    """Rival and figure x labelled rows; empty where nothing can be compared."""
    table = []
    for rival in list(METHODS)[1:]:
        for column in COMPARED:
            gaps = [difference(rows, rival, size, column) for size in SIZES]
            if any(gaps):
                name = f"{FIGURES[column]}: graft - {METHODS[rival]}"
                table.append([name, *(cell_of(gap, len({row["task"] for row in rows})) for gap in gaps)])
    return markdown(["difference", *map(str, SIZES)], table) if table else ""


def cell_of(gap: Mean | None, tasks: int) -> str:
    """A difference, and over how many tasks it is where these are not all."""
    return "" if gap is None else str(gap) if gap.count == tasks else f"{gap} [{gap.count}]"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = "| --- |" + " ---: |" * (len(head) - 1)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def listed(half: str) -> str:
    """The tasks of a half with their numbers of labels."""
    facts = tomllib.loads(TASKS.read_text(encoding="utf-8"))
    return ", ".join(
        f"{name} ({len(of['labels'])})" for name, of in facts.items() if of["half"] == half and name != "goemotions"
    )


def page(rows: Sequence[Row]) -> str:
    """The page of results."""
    tasks = {row["task"] for row in rows}
    parts = [
        HEAD.format(
            results=len(rows), tasks=len(tasks), untouched=listed("untouched"), chosen=listed("chosen-on"),
            goemotions=GOEMOTIONS if "goemotions" not in tasks else "",
        )
    ]  # fmt: skip
    for half, title in HALVES.items():
        here = of_half(rows, half)
        if not here:
            continue
        parts.append(f"## {title}")
        if table := differences(here):
            parts.append(f"Paired differences over its {len({row['task'] for row in here})} tasks:\n\n{table}")
        for language, name in LANGUAGES.items():
            own = of_half(rows, half, language)
            if own:
                parts.append(f"### {name}")
                parts += [f"{FIGURES[column]}:\n\n{averages(own, column)}" for column in FIGURES]
    parts.append(f"## Seconds\n\n{averages(rows, 'seconds')}")
    parts += choices(read_choices())
    return "\n\n".join(parts) + "\n"


def choices(rows: Sequence[Row]) -> list[str]:
    """What is held back, and what to label next; nothing where nothing is recorded."""
    if not rows:
        return []
    risk, better = [], []
    for half, title in HALVES.items():
        here = [row for row in rows if row["half"] == half]
        if not here:
            continue
        for size in SIZES[1:]:
            given = [float(row[f"coverage_{size}"]) for row in here]
            wrong = [float(row[f"error_{size}"]) for row in here if row[f"error_{size}"]]
            error = f"{fmean(wrong):.1f} ({len(wrong)} of {len(here)} grafts give any)" if wrong else "none given"
            risk.append([title, str(size), f"{fmean(given):.1f}", error])
        gaps = [chosen_gap(here, column) for column in ("micro_f1", "macro_f1")]
        better.append([title, *map(str, gaps), str(len({row["task"] for row in here}))])
    parts = [RISK, markdown(["tasks", "labelled rows", "labels given, %", "of these wrong, %"], risk)]
    head = ["tasks", "micro F1, `suggest` - random", "macro F1, `suggest` - random", "number of tasks"]
    return [*parts, SUGGEST, markdown(head, better)]


def chosen_gap(rows: Sequence[Row], column: str) -> Mean:
    """How far a graft is ahead by rows that `suggest` chose: the mean over tasks of the mean over seeds."""
    tasks: dict[str, list[float]] = {}
    for row in rows:
        gap = float(row[f"{column}_suggested"]) - float(row[f"{column}_drawn"])
        tasks.setdefault(row["task"], []).append(gap)
    return mean([fmean(gaps) for gaps in tasks.values()])


RISK = """## Labels that are withheld: `predict --risk 0.05`

Of the labels that a graft would give to the test rows, the share that it gives at a risk of 5 %, and the share of wrong
labels among these, as means over tasks and seeds. Every result is a row of
[multilabel-choices.csv](multilabel-choices.csv), made by `python scripts/multilabel_choices.py --data DATA`."""
SUGGEST = """## What to label next: `suggest`

32 rows are labelled at random, then 32 more out of 268 others: either those that `suggest` chooses, or random ones. The
table shows how much better a graft on the first 64 rows is than a graft on the second, on the test rows, with 95 %
intervals over tasks. If an interval contains 0, `suggest` was not certainly better."""
HEAD = """# Several labels a row

{results} results: {tasks} tasks made from tagged sentences. Each task asks which kinds of thing a text names: the
labels of a row are the kinds of name, slot or mention that occur in it (those that occur in at least 2 % of the
training rows, at most twelve; `scripts/multilabel_tasks.toml`). Labelled rows are counted in all, not for each label,
and are drawn at random three times. 0 labelled rows means that only the descriptions of the labels are used. Graft then
gives the answers of label text: on the half used for choices, neither prompts of the bank nor centring by the task's
texts improved them. Methods that choose a step on validation (prompt tuning) take a quarter of the rows for it. There
are at most 300 test rows, and inputs are cut at 64 tokens. Prompts of the starter bank that were tuned on a task's own
data are left out. Every result is a row of [multilabel.csv](multilabel.csv). The page is remade by

```
python scripts/multilabel.py run --data DATA && python scripts/multilabel.py write
```

**Two halves**, drawn at random before any text or figure was looked at (in brackets the number of labels). Untouched:
{untouched}. Used for choices about graft with several labels a row: {chosen}. The rule that sets one threshold for all
labels is older and the same for every method. It was chosen on tasks of which four are among these
(atis_slots, mit_restaurant, msra_ner, and names in tweets).

TF-IDF uses words and pairs of words (in Chinese one to three characters) with scikit-learn's logistic regression, one
label against the rest; its regularisation and threshold are chosen on rows left out. Intervals are 95 % intervals
(Student's t) over tasks, of the mean paired difference over seeds, in points. A number in brackets is the number of
tasks that both methods have, where that is not all. The ranking is measured by label ranking average precision, the
calibration error over all pairs of a row and a label in 15 equal parts of the range of the probability. A mean is empty
if a task of its table has no result yet; `run` continues where it stopped.{goemotions}"""
GOEMOTIONS = """

The 27 emotions of GoEmotions can be read from its published files with `run --goemotions FOLDER` (`train.tsv`,
`test.tsv`, `emotions.txt`). The data were not available, so the page has no results for it."""


def write() -> None:
    """Make the page."""
    (RESULTS / "multilabel.md").write_text(page(read_rows()), encoding="utf-8")
