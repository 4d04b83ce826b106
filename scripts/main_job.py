"""The main job on real targets: every row of `compare`, several shots and seeds; docs/results/main-job.{csv,md}.

    python scripts/main_job.py run --data ../shared/data/tasks --work runs/main-job [--part 0/2]
    python scripts/main_job.py write --work runs/main-job

`run` goes on where it was; `write` makes the CSV and the page from what is finished, at any time.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import promptgraft.api as pg
from promptgraft.engine.result import Result
from promptgraft.method.job import row_label
from promptgraft.study.compare import BASELINE, CSV_COLUMNS, ROWS, csv_row
from promptgraft.study.judge import Mean, mean, paired
from promptgraft.task.load import load_task

# Eight targets of six families that share no text with the starter bank's sources (see the data's manifests).
TARGETS = ("sst2", "reviews_kitchen", "airline_tweets", "trec", "subj", "emotion", "agnews", "tweet_offensive")
SHOTS = (8, 32)
SEEDS = (0, 1, 2, 3, 4)
TEST_ROWS = 500
RECIPE: dict[str, object] = {"max_length": 64}
RESULTS = Path("docs/results")
ORDER = [row_label(method, options) for method, options in ROWS]
SOURCES = {
    "sst2": "Stanford Sentiment Treebank, whole sentences (Socher et al. 2013)",
    "reviews_kitchen": "Multi-Domain Sentiment Dataset (Blitzer et al. 2007)",
    "airline_tweets": "Twitter US Airline Sentiment (Crowdflower 2015)",
    "trec": "TREC question classification (Li and Roth 2002)",
    "subj": "Subjectivity (Pang and Lee 2004)",
    "emotion": "Emotion (Saravia et al. 2018)",
    "agnews": "AG News (Zhang et al. 2015)",
    "tweet_offensive": "OffensEval 2019 in TweetEval (Barbieri et al. 2020)",
}


def run(data: Path, work: Path, bank: str, part: int, parts: int, model: str) -> None:
    """Every cell (target, shots) of this part, one after the other."""
    backbone = pg.open_model(model)
    cells = [(target, shots) for shots in SHOTS for target in TARGETS]
    for target, shots in cells[part::parts]:
        began = time.perf_counter()
        task = load_task(data / target)
        place = work / f"{target}-{shots}"
        done = pg.compare(task, backbone, bank, shots=shots, seeds=SEEDS, out=place, test_rows=TEST_ROWS, **RECIPE)
        write_csv(place / "results.csv", [result for row in done.rows for result in row.results])
        print(f"{target} {shots}: best {done.best}, {time.perf_counter() - began:.0f} s", flush=True)


def finished(work: Path) -> list[Result]:
    """Results of all jobs that are whole, in a fixed order."""
    found = [Result.model_validate_json(path.read_bytes()) for path in sorted(work.glob("*/jobs/*/result.json"))]
    return sorted(found, key=lambda one: (one.task, one.shots or 0, one.label, one.seed))


def write_csv(path: Path, results: list[Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_row(result) for result in results)


def by_target(results: list[Result], shots: int) -> dict[str, dict[str, dict[int, float]]]:
    """method -> target -> seed -> test score."""
    table: dict[str, dict[str, dict[int, float]]] = {}
    for one in results:
        if one.shots == shots and "test" in one.scores:
            table.setdefault(one.label, {}).setdefault(one.task, {})[one.seed] = one.scores["test"]["score"]
    return table


def gain(table: dict[str, dict[str, dict[int, float]]], ours: str, theirs: str) -> Mean | None:
    """Mean over targets of the mean paired difference over seeds; the interval takes targets as the units."""
    differences = []
    for target in table.get(ours, {}).keys() & table.get(theirs, {}).keys():
        found = paired(table[ours][target], table[theirs][target])
        if found is not None:
            differences.append(found.value)
    return mean(differences) if differences else None


def score_table(results: list[Result], shots: int) -> list[str]:
    """Rows of the page's table: a method, its mean on every target, over targets, and two gains."""
    table = by_target(results, shots)
    targets = [target for target in TARGETS if any(target in rows for rows in table.values())]
    seconds = {label: [one.seconds for one in results if one.label == label and one.shots == shots] for label in table}
    lines = [
        f"| method | {' | '.join(targets)} | mean | against prompt tuning | against linear probe | seconds |",
        f"| --- |{' ---: |' * (len(targets) + 4)}",
    ]
    order = [label for label in ORDER if label in table]
    for label in order:
        cells = [f"{mean(list(table[label][t].values())).value:.1f}" if t in table[label] else "" for t in targets]
        own = [mean(list(seeds.values())).value for seeds in table[label].values()]
        gains = [str(gain(table, label, base) or "") if label != base else "" for base in (BASELINE, "linear-probe")]
        took = sum(seconds[label]) / len(seconds[label])
        lines.append(
            f"| {label} | {' | '.join(cells)} | {sum(own) / len(own):.1f} | {' | '.join(gains)} | {took:.1f} |"
        )
    return lines


def questions(results: list[Result], shots: int) -> list[str]:
    """The claims worth asking, each as one paired difference."""
    table = by_target(results, shots)
    asked = [
        ("label text against a linear readout, no transfer", "prompt-tuning:label-text", BASELINE),
        ("PoT with a new readout (vanilla PoT) against prompt tuning", "pot:new", BASELINE),
        ("PoT with label text against prompt tuning with label text", "pot:label-text", "prompt-tuning:label-text"),
        ("reuse without training against PoT with label text", "zero-shot:source", "pot:label-text"),
        ("PANDA as released against itself without its term", "panda:released", "panda:released:weight=0"),
        ("PANDA (paper) against prompt tuning", "panda:paper", BASELINE),
        ("PANDA (paper) against a teacher shuffled within classes", "panda:paper", "panda:paper:shuffled-in-class"),
        ("PANDA (paper) against a shuffled teacher", "panda:paper", "panda:paper:shuffled"),
        ("PANDA (paper) against a random teacher", "panda:paper", "panda:paper:random"),
        ("PANDA (paper) against its own scratch model as teacher", "panda:paper", "panda:paper:self"),
        ("PANDA (gated) against PoT with label text", "panda:gated", "pot:label-text"),
        ("full fine-tuning against prompt tuning", "model-tuning", BASELINE),
    ]
    found = [(text, gain(table, ours, theirs)) for text, ours, theirs in asked]
    return [f"| {text} | {value} | {value.count} |" for text, value in found if value is not None]


def page(results: list[Result]) -> str:
    """docs/results/main-job.md, all of it made from the results."""
    lines = [
        "# The main job: eight labels a class, a frozen model, a bank of prompts",
        "",
        f"{len(results)} results: targets x shots x seeds x methods on minilm with the starter bank, the source of each"
        " seed chosen by a cross-validated probe on that seed's own rows. Every method trains on the same rows for the"
        f" same {max(one.steps for one in results)} steps at most; the step is chosen on validation (as many rows as"
        f" there are shots), the score is on test (at most {TEST_ROWS} rows, inputs cut at 64 tokens). Rows:"
        " [main-job.csv](main-job.csv). Remade by",
        "",
        "```",
        "python scripts/main_job.py run --data DATA && python scripts/main_job.py write",
        "```",
        "",
        "Intervals are 95 % (Student's t) over targets of the mean paired difference over seeds; with eight targets"
        " they are wide, and they say what another task would bring, not what another seed would.",
    ]
    for shots in sorted({one.shots for one in results if one.shots is not None}):
        seeds = sorted({one.seed for one in results if one.shots == shots})
        done = sorted({one.task for one in results if one.shots == shots})
        lines += ["", f"## {shots} labels a class ({len(done)} targets, {len(seeds)} seeds)", ""]
        lines += score_table(results, shots)
        lines += [
            "",
            "| question | difference on test | targets |",
            "| --- | ---: | ---: |",
            *questions(results, shots),
        ]
    lines += ["", "## Data", "", "| target | metric | public source |", "| --- | --- | --- |"]
    lines += [f"| {name} | {metric} | {SOURCES.get(name, '')} |" for name, metric in metrics(results).items()]
    return "\n".join(lines) + "\n"


def metrics(results: list[Result]) -> dict[str, str]:
    return {target: one.metric for target in TARGETS for one in results if one.task == target}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("run", "write"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tasks"))
    parser.add_argument("--work", type=Path, default=Path("runs/main-job"))
    parser.add_argument("--bank", default="starter")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--part", default="0/1")
    options = parser.parse_args()
    if options.verb == "run":
        part, parts = map(int, options.part.split("/"))
        run(options.data, options.work, options.bank, part, parts, options.model)
    else:
        results = finished(options.work)
        write_csv(RESULTS / "main-job.csv", results)
        (RESULTS / "main-job.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
