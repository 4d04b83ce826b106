"""Makes docs/performance.md of benchmarks/results: python scripts/performance_page.py > docs/performance.md"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NOTES = ROOT / "docs" / "performance.notes.md"
Row = Mapping[str, object]

TITLES = {
    "train_step": "A training step",
    "many_prompts": "Many prompts in one step",
    "mixed_batch": "Many prompts in one batch of predictions",
    "int8": "Predictions in int8",
    "panda_job": "Prompt tuning, PoT and PANDA of one pair",
    "compare_job": "A whole comparison",
    "scaling": "What a step costs as one thing grows",
    "estimate": "What was predicted of a job",
    "gpu": "On a GPU",
}
COLUMNS = {
    "model": "model",
    "lengths": "lengths",
    "setting": "setting",
    "factor": "factor",
    "value": "value",
    "rows": "rows",
    "prompts": "prompts",
    "job": "job",
    "task": "task",
    "path": "path",
    "milliseconds": "ms",
    "seconds": "s",
    "predicted_seconds": "s predicted",
    "predicted_over_seconds": "predicted / taken",
    "peak_memory_mib": "MiB",
    "predicted_mib": "MiB predicted",
    "predicted_over_memory": "predicted / taken, MiB",
    "ratio_to_peft_default": "x PEFT default",
    "ratio_to_peft_tuned": "x PEFT tuned",
    "ratio_to_peft_strongest": "x PEFT strongest",
    "ratio_to_one_prompt": "to one prompt",
    "ratio_to_fp32": "x our fp32",
    "ratio_to_bf16": "x our bf16",
    "score": "score",
    "same_as_fp32": "answers of fp32",
    "peak_memory_ratio": "memory to PEFT default",
    "peak_memory_ratio_to_tuned": "memory to PEFT tuned, same arithmetic",
    "roofline_share": "of roofline",
}


@dataclass(frozen=True)
class Target:
    """What was set out to reach.

    Attributes:
        where: which of our rows it is about; the best of them counts.
        least: of the figure; `most` where less is better.
    """

    what: str
    benchmark: str
    where: Callable[[Row], bool]
    figure: str
    least: float = 0.0
    most: float = float("inf")


def step(model: str, *, long: bool = False) -> Callable[[Row], bool]:
    return lambda row: row["model"] == model and ("sst2" not in str(row["lengths"])) == long


def together(model: str) -> Callable[[Row], bool]:
    return lambda row: row["model"] == model and row.get("prompts") == 16


def mixed(row: Row) -> bool:
    return row.get("prompts") == 64 and row.get("rows") == 64


def everything(row: Row) -> bool:
    return True


DEFAULT, TUNED = "ratio_to_peft_default", "ratio_to_peft_tuned"
TARGETS = (
    Target("minilm, sst2 lengths, to PEFT's defaults", "train_step", step("minilm"), DEFAULT, 8),
    Target("minilm, sst2 lengths, to PEFT tuned", "train_step", step("minilm"), TUNED, 3),
    Target("splade-tiny, sst2 lengths, to PEFT's defaults", "train_step", step("splade-tiny"), DEFAULT, 9),
    Target("splade-tiny, sst2 lengths, to PEFT tuned", "train_step", step("splade-tiny"), TUNED, 3),
    Target("12 x 768, sst2 lengths, to PEFT's defaults", "train_step", step("12x768"), DEFAULT, 3.5),
    Target("12 x 768, sst2 lengths, to PEFT tuned", "train_step", step("12x768"), TUNED, 1.9),
    Target("minilm, long inputs, to PEFT's defaults", "train_step", step("minilm", long=True), DEFAULT, 2),
    Target("minilm, long inputs, to PEFT tuned", "train_step", step("minilm", long=True), TUNED, 1.3),
    Target("16 runs, splade-tiny, to PEFT's defaults", "many_prompts", together("splade-tiny"), DEFAULT, 12),
    Target("16 runs, minilm, to PEFT's defaults", "many_prompts", together("minilm"), DEFAULT, 8),
    Target("64 prompts in a batch, to PEFT switching", "mixed_batch", mixed, DEFAULT, 15),
    Target("64 prompts in a batch, to one prompt", "mixed_batch", mixed, "ratio_to_one_prompt", most=1.1),
    Target("a whole comparison, to PEFT's defaults", "compare_job", everything, DEFAULT, 10),
    Target(
        "peak memory of a step, to PEFT tuned, same arithmetic",
        "train_step",
        everything,
        "peak_memory_ratio_to_tuned",
        most=1,
    ),
)


def results() -> dict[str, list[Row]]:
    """Rows by benchmark, those that were run."""
    return {name: json.loads(path.read_text("utf-8")) for name in TITLES if (path := RESULTS / f"{name}.json").exists()}


def reached(target: Target, found: Mapping[str, list[Row]]) -> str:
    """The figure of the target and whether it is met."""
    rows = [row for row in found.get(target.benchmark, ()) if str(row["path"]).startswith("promptgraft")]
    values = [row[target.figure] for row in rows if target.where(row) and row.get(target.figure) is not None]
    numbers = [float(str(value)) for value in values]
    if not numbers:
        return "not measured |"
    if target.least:
        best = max(numbers)
        return f"{best:.2f} | {'yes' if best >= target.least else 'no'}"
    worst = max(numbers)
    return f"{worst:.2f} | {'yes' if worst <= target.most else 'no'}"


def cell(row: Row, name: str) -> str:
    """A value with its range, where there is one."""
    value, spread = row.get(name), row.get(f"{name}_range")
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:.3g}" if value < 100 else f"{value:.0f}"
        return f"{text} ({spread[0]:.3g} to {spread[1]:.3g})" if isinstance(spread, list) else text
    return str(value)


def table(rows: list[Row]) -> Iterator[str]:
    """The rows with the columns they have."""
    names = [name for name in COLUMNS if any(row.get(name) is not None for row in rows)]
    yield f"| {' | '.join(COLUMNS[name] for name in names)} |"
    yield f"| {' | '.join('---' for _ in names)} |"
    for row in rows:
        yield f"| {' | '.join(cell(row, name) for name in names)} |"


def machine(row: Row) -> str:
    """What the figures belong to, in one line."""
    known = row.get("machine")
    words = ", ".join(f"{name} {value}" for name, value in known.items()) if isinstance(known, dict) else str(known)
    return f"Machine: {words}. Commit {row.get('commit')}."


def page() -> str:
    """docs/performance.md."""
    found = results()
    lines = [
        "# Performance",
        "",
        "Made by `scripts/performance_page.py` from `benchmarks/results/`; `make bench` measures it all anew. Ours and"
        " PEFT take turns in one run, in random order; figures are medians over turns, with their range. Ratios are"
        " turn by turn: how many times as long PEFT takes. What each benchmark does is written at its head.",
        "",
        "## What was set out to reach",
        "",
        "The best of our paths (fp32 or bf16) counts; of memory the worst.",
        "",
        "| | at least (at most) | measured | met |",
        "| --- | ---: | ---: | --- |",
    ]
    for target in TARGETS:
        limit = f"{target.least:g}" if target.least else f"({target.most:g})"
        lines.append(f"| {target.what} | {limit} | {reached(target, found)} |")
    if NOTES.exists():
        lines += ["", NOTES.read_text("utf-8").strip()]
    for name, title in TITLES.items():
        lines += ["", f"## {title}", ""]
        if name in found:
            rows = found[name]
            lines += [f"`python benchmarks/{name}.py`. {machine(rows[0])}", "", *table(rows)]
        else:
            lines.append("Not measured yet.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
