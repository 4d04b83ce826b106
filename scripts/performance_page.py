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

CLASSES = {"avx2": "AVX2", "avx512": "AVX-512", "amx": "AMX", "gpu": "GPU"}
TITLES = {
    "demo": "The demo and a ranking",
    "kernels": "Kernels beside torch's",
    "train_step": "A training step",
    "many_prompts": "Many prompts in one step",
    "mixed_batch": "Many prompts in one batch of predictions",
    "int8": "Predictions in int8",
    "panda_job": "Prompt tuning, PoT and PANDA of one pair",
    "compare_job": "A whole comparison",
    "scaling": "What a step costs as one thing grows",
    "estimate": "What was predicted of a job",
    "language_models": "Causal language models",
    "search": "Candidates of a search",
    "gpu": "On a GPU",
}
COLUMNS = {
    "what": "what",
    "variant": "variant",
    "kernel": "kernel",
    "shape": "shape",
    "model": "model",
    "lengths": "lengths",
    "setting": "setting",
    "factor": "factor",
    "value": "value",
    "rows": "rows",
    "prompts": "prompts",
    "job": "job",
    "task": "task",
    "processor": "processor",
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
    "gflops": "GFLOP/s",
    "torch_gflops": "torch's GFLOP/s",
    "ratio": "x peer",
    "aim": "goal",
    "candidates_a_second": "candidates a second",
}


@dataclass(frozen=True)
class Target:
    """What was set out to reach.

    Attributes:
        where: which of our rows it is about; of times the best of them counts, of memory the worst.
        figure: of these rows.
        goals: by class of processor; none where there is only the figure.
        most: whether less is better.
        fastest: whether rows are of several peers, the fastest of which counts.
    """

    what: str
    benchmark: str
    where: Callable[[Row], bool]
    figure: str
    goals: Mapping[str, float]
    most: bool = False
    fastest: bool = False


def native(row: Row) -> bool:
    """Of ours, what runs where the package was compiled."""
    return str(row.get("path")).startswith("promptgraft") and not plain(row)


def plain(row: Row) -> bool:
    """Of ours, what runs without the compiled libraries."""
    return str(row.get("path")).startswith("promptgraft plain")


def step(case: str, ours: Callable[[Row], bool] = native) -> Callable[[Row], bool]:
    """Rows of train_step on `MODEL` or `MODEL:long`."""
    model, _, kind = case.partition(":")
    return lambda row: ours(row) and row["model"] == model and ("sst2" not in str(row["lengths"])) == bool(kind)


def together(model: str) -> Callable[[Row], bool]:
    return lambda row: native(row) and row["model"] == model and row.get("prompts") == 16


def mixed(row: Row) -> bool:
    return native(row) and row.get("prompts") == 64 and row.get("rows") == 64


def job(what: str) -> Callable[[Row], bool]:
    return lambda row: row["what"] == what


def beside(what: str, peer: str, model: str = "smollm2-135m") -> Callable[[Row], bool]:
    """The rows of peers whose names begin so, which hold how many times as long each takes."""
    return lambda row: (row["what"], row["model"]) == (what, model) and str(row["path"]).startswith(peer)


DEFAULT, TUNED, STRONGEST = "ratio_to_peft_default", "ratio_to_peft_tuned", "ratio_to_peft_strongest"
CASES = {
    "minilm": "minilm, sst2 lengths",
    "splade-tiny": "splade-tiny, sst2 lengths",
    "12x768": "12 x 768, sst2 lengths",
    "minilm:long": "minilm, long inputs",
}
STEPS: dict[str, dict[str, dict[str, float]]] = {
    "minilm": {DEFAULT: {"avx2": 6, "amx": 13.9}, TUNED: {"amx": 4.2}, STRONGEST: {"avx2": 1.4}},
    "splade-tiny": {DEFAULT: {"avx2": 6, "amx": 12.3}, TUNED: {"amx": 4.3}, STRONGEST: {"avx2": 1.8}},
    "12x768": {DEFAULT: {"avx2": 4, "amx": 10.3}, TUNED: {"amx": 2.6}, STRONGEST: {"avx2": 1.3}},
    "minilm:long": {DEFAULT: {"amx": 2}, TUNED: {"amx": 1.3}},
}
"""Case of train_step -> figure -> goals. On AMX what was reached before the other classes were looked at, cut to one
place; where less was promised than reached, what was promised."""
PEERS = {DEFAULT: "to PEFT's defaults", TUNED: "to PEFT tuned", STRONGEST: "to PEFT strongest"}
WHOLE = {"train_step": "a step", "many_prompts": "up to 64 runs at once", "mixed_batch": "64 prompts in a batch"}
CAUSAL = {
    "score_demos": ("500 rows behind 8 demonstrations scored", 8),
    "score": ("500 rows scored", 1.5),
    "train_step": ("a step of a deep prompt, to PEFT's defaults", 2.5),
    "train_step_tuned": ("a step of a deep prompt, to PEFT tuned", 1.3),
    "many_prompts": ("16 prompts in a step, to PEFT tuned", 5),
    "generate": ("64 rows with 16 prompts written for, to PEFT switching", 8),
}
"""What is measured of smollm2-135m -> its name, and the goal beside the fastest peer."""
JOBS = {"panda_job": "the three jobs of PANDA", "compare_job": "a whole comparison"}
EQUAL = {"avx2": 1.0, "amx": 1.0}
TARGETS = (
    *(
        Target(f"a step of {CASES[case]}, {PEERS[figure]}", "train_step", step(case), figure, goals)
        for case, figures in STEPS.items()
        for figure, goals in figures.items()
    ),
    *(
        Target(f"the plain path, {words}, to PEFT tuned", "train_step", step(case, plain), TUNED, EQUAL)
        for case, words in CASES.items()
    ),
    Target("16 runs, splade-tiny, to PEFT's defaults", "many_prompts", together("splade-tiny"), DEFAULT, {"amx": 12}),
    Target(
        "16 runs, minilm, to PEFT's defaults", "many_prompts", together("minilm"), DEFAULT, {"avx2": 4, "amx": 10.1}
    ),
    Target("64 prompts in a batch, to PEFT switching", "mixed_batch", mixed, DEFAULT, {"amx": 15}),
    Target(
        "64 prompts in a batch, to one prompt", "mixed_batch", mixed, "ratio_to_one_prompt", {"amx": 1.1}, most=True
    ),
    Target("a whole comparison, to PEFT's defaults", "compare_job", native, DEFAULT, {"amx": 10}),
    *(
        Target(
            f"smollm2-135m, {words}",
            *("language_models", beside(what, "peer"), "ratio", {"amx": goal, "avx2": goal}),
            fastest=True,
        )
        for what, (words, goal) in CAUSAL.items()
    ),
    *(
        Target(
            f"candidates of a search, {model}, one after the other by transformers",
            *("search", beside("words", "transformers", model), "ratio", {"amx": 8, "avx2": 8}),
        )
        for model in ("splade-tiny", "smollm2-135m")
    ),
    *(
        Target(f"peak memory of {words}, to PEFT's defaults", name, native, "peak_memory_ratio", EQUAL, most=True)
        for name, words in {**WHOLE, **JOBS}.items()
    ),
    *(
        Target(
            f"peak memory of {words}, to PEFT tuned, same arithmetic",
            *(name, native, "peak_memory_ratio_to_tuned", EQUAL),
            most=True,
        )
        for name, words in WHOLE.items()
    ),
    Target("`rank`, 17 sources by 16 rows, seconds", "demo", job("rank"), "seconds", {"avx2": 10, "amx": 4}, most=True),
    Target(
        "`make demo` after downloads, seconds", "demo", job("demo"), "seconds", {"avx2": 180, "amx": 120}, most=True
    ),
)


def results() -> dict[str, list[Row]]:
    """Rows by benchmark, those that were run."""
    return {name: json.loads(path.read_text("utf-8")) for name in TITLES if (path := RESULTS / f"{name}.json").exists()}


def reached(target: Target, kind: str, found: Mapping[str, list[Row]]) -> str:
    """Goal, figure and whether it is met, on one class of processor; mimicked where no real one was measured."""
    rows = [row for row in found.get(target.benchmark, ()) if row["processor"] == kind and target.where(row)]
    rows = [row for row in rows if row.get(target.figure) is not None]
    real = [row for row in rows if not row["mimicked"]]
    values = [float(str(row[target.figure])) for row in real or rows]
    goal = target.goals.get(kind)
    limit = "" if goal is None else f"({goal:g})" if target.most else f"{goal:g}"
    if not values:
        return f"{limit} | {'' if goal is None else 'not measured'} | "
    value = min(values) if target.fastest else max(values)  # the best of ratios of speed, the worst of memory
    met = "" if goal is None else "yes" if (value <= goal if target.most else value >= goal) else "no"
    return f"{limit} | {value:.2f}{'' if real else ' (mimicked)'} | {met}"


def cell(row: Row, name: str) -> str:
    """A value with its range, where there is one."""
    value, spread = row.get(name), row.get(f"{name}_range")
    if name == "processor":
        return named(row)
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


def named(row: Row) -> str:
    """The class of processor a row belongs to."""
    kind = CLASSES.get(str(row["processor"]), str(row["processor"]))
    return f"{kind} (mimicked)" if row["mimicked"] else kind


def origins(name: str, rows: list[Row]) -> Iterator[str]:
    """What the figures of each class were made with, in a line each."""
    for kind in dict.fromkeys(map(named, rows)):
        own = [row for row in rows if named(row) == kind]
        known, mimic = own[0]["machine"], f" --mimic {own[0]['processor']}" if own[0]["mimicked"] else ""
        words = ", ".join(f"{key} {value}" for key, value in known.items()) if isinstance(known, dict) else str(known)
        commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in own))
        yield f"- {kind}: `python benchmarks/{name}.py{mimic}`; {words}; commit {commits}."


def page() -> str:
    """docs/performance.md."""
    found = results()
    lines = [
        "# Performance",
        "",
        "Made by `scripts/performance_page.py` from `benchmarks/results/`; `make bench` measures everything again."
        " promptgraft and PEFT take turns within one run, in random order; figures are medians over turns, with their"
        " range. Ratios are computed turn by turn: how many times as long PEFT takes. The docstring of each benchmark"
        " says what it does. Figures belong to a class of processor. Mimicked means that a more capable processor was"
        " restricted to the instructions of that class by `--mimic`, in promptgraft and in torch (and so in PEFT).",
        "",
        "## Goals",
        "",
        "For speed, the best of promptgraft's paths (fp32 or bf16) counts; for memory, the worst. Goals in brackets"
        " are upper limits.",
        "",
        "| | AVX2, at least | measured | met | AMX, at least | measured | met |",
        "| --- | ---: | ---: | --- | ---: | ---: | --- |",
    ]
    for target in TARGETS:
        lines.append(f"| {target.what} | {' | '.join(reached(target, kind, found) for kind in ('avx2', 'amx'))} |")
    if NOTES.exists():
        lines += ["", NOTES.read_text("utf-8").strip()]
    for name, title in TITLES.items():
        lines += ["", f"## {title}", ""]
        if name in found:
            rows = found[name]
            lines += [*origins(name, rows), "", *table(rows)]
        else:
            lines.append("Not measured yet.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
