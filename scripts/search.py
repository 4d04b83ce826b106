"""Every algorithm of `search` at three budgets, on tasks in two languages; docs/results/search.{csv,md}.

    python scripts/search.py run --data ../shared/data/tasks --work WORK [--tasks sst2,subj] [--models splade-tiny]
    python scripts/search.py write

The CSV is the record: `run` leaves out what it holds, and a search that was stopped goes on from its journal in WORK;
`write` makes the page from it. The smallest budget comes first, so that there is something to see early.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import filelock

from promptgraft.api.searching import setting_for, skills
from promptgraft.errors import MissingExtraError, RunError
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.searches.all import PLACEBOS, algorithms
from promptgraft.searches.run import FoundPrompt, Setting, run_algorithm
from promptgraft.study.judge import Mean, mean
from promptgraft.task.load import load_task
from promptgraft.task.sampling import cap

ENGLISH = ("sst2", "subj", "agnews", "trec", "emotion", "tweet_offensive")
CHINESE = ("eprstmt", "chnsenticorp", "bustm", "tnews")
MODELS = {"en": ("splade-tiny", "smollm2-135m"), "zh": ("albert-tiny-zh",)}
PROPOSERS = {"proposals": {"en": "smollm2-135m"}, "lm-bff": {"en": "flan-t5-small-titler"}}
"""Algorithm -> language -> the model that it asks, where the one that is searched for cannot be asked."""
BUDGETS = (1_000, 5_000, 20_000)
SEEDS = (0, 1, 2, 3, 4)
SHOTS, REPORT, LENGTH = 16, 400, 96
FEWEST_TASKS = 6
"""Below which nothing is said of a difference."""
RESULTS = Path("docs/results")
KEY = ("task", "language", "model", "algorithm", "passes", "seed")
COLUMNS = (*KEY, "choosing_score", "report_score", "seconds", "prompt")
Row = Mapping[str, str]


def run(data: Path, work: Path, tasks: Sequence[str], models: Sequence[str], budgets: Sequence[int]) -> None:
    """Every search that the CSV does not hold, one after the other."""
    loaded: dict[str, Backbone] = {}
    for passes, seed, name in itertools.product(budgets, SEEDS, tasks):
        language = "zh" if name in CHINESE else "en"
        for model in (entry for entry in MODELS[language] if entry in models):
            loaded.setdefault(model, load_backbone(model, dtype="auto"))
            for algorithm in (*PLACEBOS, *sorted(set(algorithms()) - set(PLACEBOS))):
                key = (name, language, model, algorithm, str(passes), str(seed))
                if key not in {tuple(row[column] for column in KEY) for row in read_rows()}:
                    search_one(data, work, key, loaded)


def search_one(data: Path, work: Path, key: tuple[str, ...], loaded: dict[str, Backbone]) -> None:
    """One search, recorded; one that these models cannot do is left out, which is said."""
    name, language, model, algorithm, passes, seed = key
    proposer = PROPOSERS.get(algorithm, {}).get(language, model)
    loaded.setdefault(proposer, load_backbone(proposer, dtype="auto"))
    lacking = algorithms()[algorithm].needs - skills(loaded[model], loaded[proposer])
    if lacking:
        print(*key, "left out:", ", ".join(sorted(lacking)), file=sys.stderr, flush=True)
        return
    task = cap(load_task(data / name), "test", REPORT, 1)
    setting, _ = setting_for(
        task, loaded[model], passes=int(passes), shots=SHOTS, seed=int(seed), proposer=loaded[proposer],
        max_length=LENGTH,
    )  # fmt: skip
    folder = work / "-".join(key)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = run_algorithm(algorithms()[algorithm], setting, folder, lambda spent, label: None)
    except (RunError, MissingExtraError) as error:
        print(*key, "left out:", error.line, file=sys.stderr, flush=True)
        return
    record(dict(zip(KEY, key, strict=True)) | figures(found, setting))
    print(*key, f"{found.report.score:.1f}", flush=True)


def figures(found: FoundPrompt, setting: Setting) -> dict[str, str]:
    """What the CSV holds of a find; of a prompt of vectors the template with their slot."""
    return {
        "choosing_score": f"{found.choosing.score:.2f}",
        "report_score": f"{found.report.score:.2f}",
        "seconds": f"{found.seconds:.1f}",
        "prompt": f"{found.text} [{found.candidate.verbalizer}]",
    }


def read_rows() -> list[dict[str, str]]:
    """The searches recorded so far."""
    path = RESULTS / "search.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record(row: Row) -> None:
    """Add a search to the CSV; several processes may do so at a time."""
    with filelock.FileLock(RESULTS / ".search.lock"):
        rows = sorted([*read_rows(), row], key=order)
        with (RESULTS / "search.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def order(row: Row) -> tuple[object, ...]:
    """Where a row stands in the CSV."""
    return tuple(int(row[name]) if name in ("passes", "seed") else row[name] for name in KEY)


def write() -> None:
    """Make the page from the CSV."""
    (RESULTS / "search.md").write_text(page(read_rows()), encoding="utf-8")


def differences(rows: Sequence[Row], algorithm: str, against: str, column: str = "report_score") -> list[float]:
    """The differences of two algorithms' scores, a mean over seeds for each task and model that both were run on."""
    values = {(row["algorithm"], row["task"], row["model"], row["seed"]): float(row[column]) for row in rows}
    gaps: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (name, task, model, seed), value in values.items():
        other = values.get((against, task, model, seed))
        if name == algorithm and other is not None:
            gaps[task, model].append(value - other)
    return [sum(own) / len(own) for own in gaps.values()]


def losses(rows: Sequence[Row], algorithm: str) -> list[float]:
    """How much of the score on the choosing rows the report rows do not show, a mean over seeds for each task."""
    gaps: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["algorithm"] == algorithm:
            gaps[row["task"], row["model"]].append(float(row["choosing_score"]) - float(row["report_score"]))
    return [sum(own) / len(own) for own in gaps.values()]


def page(rows: Sequence[Row]) -> str:
    """The text of search.md."""
    budgets = sorted({int(row["passes"]) for row in rows})
    lines = ["# Automatic prompts: which algorithm beats random words at equal budget", ""]
    lines += [verdict(rows, budgets), "", *method(rows), ""]
    for budget in budgets:
        own = [row for row in rows if int(row["passes"]) == budget]
        lines += [f"## {budget:,} passes", "", f"{seeds_said(own)}.", "", *table(own), ""]
    return "\n".join(lines).rstrip() + "\n"


def seeds_said(rows: Sequence[Row]) -> str:
    """How many seeds were searched with on each task, the tasks of equal counts together."""
    counts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        counts[row["task"], row["model"]].add(row["seed"])
    groups: dict[int, list[str]] = defaultdict(list)
    for (task, _), seeds in sorted(counts.items()):
        groups[len(seeds)].append(task)
    said = [f"{count} seed{'s' * (count > 1)} on {', '.join(tasks)}" for count, tasks in sorted(groups.items())]
    return "; ".join(reversed(said))


def method(rows: Sequence[Row]) -> list[str]:
    """How the figures were made."""
    tasks = sorted({(row["task"], row["model"]) for row in rows})
    shown = ", ".join(f"{task} on {model}" for task, model in tasks)
    return [
        f"Each search has {SHOTS} labelled rows a class to search on, as many to choose on, and up to {REPORT} test "
        "rows for the report, which no search sees. Seeds decide which rows are drawn and what the algorithms try. "
        f"{len(tasks)} tasks with their models: {shown}. Every result is a row of [search.csv](search.csv). The page "
        "is remade by",
        "",
        "```",
        "python scripts/search.py run --data DATA --work WORK && python scripts/search.py write",
        "```",
        "",
        "Differences are in points of the tasks' metrics on the report rows, paired by task, model and seed. "
        "Intervals are 95 % intervals (Student's t) over tasks with their models; of twenty such intervals one misses "
        f"by chance, and what is called certain is so on at least {FEWEST_TASKS} tasks. `lost` is the score on the "
        "choosing rows minus the score on the report rows.",
    ]


def verdict(rows: Sequence[Row], budgets: Sequence[int]) -> str:
    """Which algorithms are surely better than random search, and than the library, at which budget."""
    lines = []
    for against, title in (("random", "random words at the same budget"), ("library", "the library's best template")):
        better = []
        for budget in budgets:
            own = [row for row in rows if int(row["passes"]) == budget]
            names = [name for name in searched(own) if is_certain(own, name, against)]
            enough = len({(row["task"], row["model"]) for row in own}) >= FEWEST_TASKS
            none = "none" if enough else "too few tasks were run"
            better.append(f"at {budget:,} passes {', '.join(names) or none}")
        lines.append(f"**Certainly better than {title}:** {'; '.join(better) if better else 'nothing yet'}.")
    return "\n\n".join(lines)


def searched(rows: Sequence[Row]) -> list[str]:
    """The algorithms that are no placebos."""
    return sorted({row["algorithm"] for row in rows} - set(PLACEBOS))


def over(rows: Sequence[Row], algorithm: str, against: str) -> Mean | None:
    """The mean difference of two algorithms."""
    values = differences(rows, algorithm, against)
    return mean(values) if values else None


def is_certain(rows: Sequence[Row], algorithm: str, against: str) -> bool:
    """Whether the interval of the difference, over tasks enough for one, lies above zero."""
    values = differences(rows, algorithm, against)
    return len(values) >= FEWEST_TASKS and is_above(mean(values))


def is_above(gain: Mean) -> bool:
    return gain.low is not None and gain.low > 0


def table(rows: Sequence[Row]) -> list[str]:
    """A line for each algorithm."""
    lines = [
        "| algorithm | report | less random | less library | lost | seconds | tasks |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in (*PLACEBOS, *searched(rows)):
        own = [row for row in rows if row["algorithm"] == name]
        if own:
            report = sum(float(row["report_score"]) for row in own) / len(own)
            seconds = sum(float(row["seconds"]) for row in own) / len(own)
            gains = [with_interval(over(rows, name, other)) if name != other else "" for other in ("random", "library")]
            lost = with_interval(mean(losses(rows, name)))
            tasks = len({(row["task"], row["model"]) for row in own})
            lines.append(f"| `{name}` | {report:.1f} | {gains[0]} | {gains[1]} | {lost} | {seconds:.0f} | {tasks} |")
    return lines


def with_interval(value: Mean | None) -> str:
    """A difference with its interval."""
    if value is None:
        return ""
    if value.low is None or value.high is None:
        return f"{value.value:+.1f}"
    return f"{value.value:+.1f} ({value.low:+.1f} to {value.high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "write"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, help="where journals are kept")
    parser.add_argument("--tasks", default=",".join((*ENGLISH, *CHINESE)))
    parser.add_argument("--models", default=",".join(itertools.chain(*MODELS.values())))
    parser.add_argument("--passes", default=",".join(map(str, BUDGETS)))
    options = parser.parse_args()
    if options.what == "write":
        write()
        return
    if options.data is None or options.work is None:
        parser.error("run needs --data and --work")
    budgets = [int(number) for number in options.passes.split(",")]
    run(options.data, options.work, options.tasks.split(","), options.models.split(","), budgets)


if __name__ == "__main__":
    main()
