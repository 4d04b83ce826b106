"""What templates, prompts and words of language models are worth: docs/results/language-models.{csv,md}.

    python scripts/language_models.py run --data DATA/tasks [--tasks sst2,trec] [--models smollm2-135m] [--bank FOLDER]
    python scripts/language_models.py write

The CSV is the record: `run` leaves out what it holds and adds every row as it comes; `write` makes the page of it.
Which half a task belongs to was drawn for the page over label counts (`labels_tasks.csv`); that of the tasks of texts
stands below. Transfer on a causal model needs its bank: `build_starter.py --model smollm2-135m --bank FOLDER`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean

from labels import sources_for
from labels_page import read_tasks

import promptgraft.api as pg
from promptgraft.api.distilling import Distilled
from promptgraft.api.jobs import choosing_job
from promptgraft.api.opening import Opened, as_bank, opened, recipe_for
from promptgraft.engine.rank import rank_sources
from promptgraft.engine.result import Result
from promptgraft.errors import PromptgraftError
from promptgraft.method.job import Job
from promptgraft.model.backbone import Backbone
from promptgraft.study.judge import mean, paired
from promptgraft.task.load import load_task
from promptgraft.template.known import find_template

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
CSV, PAGE = RESULTS / "language-models.csv", RESULTS / "language-models.md"
COLUMNS = (
    "task", "half", "language", "kind", "model", "labels", "seed", "method", "template", "score", "metric", "seconds",
)  # fmt: skip
FAMILIES = {
    "sst2": "sentiment",
    "trec": "question-type",
    "emotion": "emotion",
    "subj": "subjectivity",
    "cr": "sentiment",
    "tweet_hate": "toxicity",
    "tweet_sentiment": "sentiment",
    "yahoo_answers": "topic",
    "chnsenticorp": "sentiment",
    "eprstmt": "sentiment",
    "reviews_zh_clothes": "sentiment",
    "ewect_usual": "emotion",
}
"""Which family of the library's templates a task is read in."""
TEXTS = {
    "agnews_title": ("chosen-on", "title"),
    "e2e_nlg": ("chosen-on", "Facts: {text}\nSentence: {mask}"),
    "jfleg": ("untouched", "correction"),
    "question_generation": ("untouched", "{text}\nQuestion: {mask}"),
}
"""Tasks of texts: the half, and the family of templates or the template, where the library has none."""
STYLES = ("cloze", "question", "descriptive")
SPEAKERS = {"en": ("smollm2-135m", "splade-tiny"), "zh": ("albert-tiny-zh",)}
WRITERS = ("smollm2-135m", "flan-t5-small-titler")
BANKED = "smollm2-135m"
"""The model whose prompts are carried over, from a bank of its own."""
ENCODERS = {"en": "minilm", "zh": "e5-small"}
TEST_ROWS, TEXT_ROWS, DEMONSTRATIONS, SHOWN_TEXTS = 300, 150, 8, 4
RECIPE: dict[str, object] = {"max_length": 128}
SOFT = "{{text}}{{soft:10}}{{mask}}"
BARE = "{text} {mask}"
"""What is left of a template whose instruction is distilled."""


@dataclass(frozen=True)
class Cell:
    """Seeds of a method on one task, with so many labels a class.

    Attributes:
        template: its name or words; empty: none.
        words: the model that reads the template's words beside an encoder; empty: the model itself.
    """

    task: str
    model: str
    method: str
    labels: int
    seeds: int
    template: str = ""
    words: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What one row of the CSV stands for, but for its seed."""
        return (
            self.task,
            self.model + (f" + {self.words}" if self.words else ""),
            self.method,
            str(self.labels),
            self.template,
        )


def cells(task: str, language: str) -> Iterator[Cell]:
    """All cells of a task, those that take seconds first."""
    yield from text_cells(task) if task in TEXTS else class_cells(task, language)


def text_cells(task: str) -> Iterator[Cell]:
    """All cells of a task of texts, for which labels are rows."""
    _, words = TEXTS[task]
    names = [words] if "{" in words else [f"{words}-{style}-en" for style in STYLES]
    for model in WRITERS:
        for name in names:
            yield Cell(task, model, "words", 0, 1, name)
        if model == "smollm2-135m":
            yield Cell(task, model, "demonstrations", 8, 3, names[-1])
        for labels in (8, 32, 250):
            yield Cell(task, model, "prompt and words", labels, 3, names[-1])
            yield Cell(task, model, "soft words alone", labels, 3, SOFT.format())


def class_cells(task: str, language: str) -> Iterator[Cell]:
    """All cells of a task of classes."""
    encoder, family = ENCODERS[language], FAMILIES[task]
    names = {style: f"{family}-{style}-{language}" for style in STYLES}
    yield Cell(task, encoder, "zero-shot", 0, 1)
    yield Cell(task, encoder, "graft", 0, 1)
    for labels in (8, 32):
        yield Cell(task, encoder, "linear-probe", labels, 3)
        yield Cell(task, encoder, "graft", labels, 3)
    for model in SPEAKERS[language]:
        for style in STYLES:
            yield Cell(task, model, "words", 0, 1, names[style])
            yield Cell(task, model, "words, calibrated", 0, 1, names[style])
        yield Cell(task, encoder, "graft with words", 0, 1, names["descriptive"], model)
        for labels in (8, 32):
            yield Cell(task, encoder, "graft with words", labels, 3, names["descriptive"], model)
        yield Cell(task, model, "demonstrations", 8, 3, names["descriptive"])
    for model in reversed(SPEAKERS[language]):
        for labels in (8, 32):
            yield Cell(task, model, "linear-probe", labels, 3)
            yield Cell(task, model, "prompt and words", labels, 3, names["descriptive"])
            yield Cell(task, model, "soft words alone", labels, 3, SOFT.format())
            yield Cell(task, model, "distilled", labels, 3, names["descriptive"])
            if model == BANKED:
                yield Cell(task, model, "PoT and words", labels, 3, names["descriptive"])
                yield Cell(task, model, "graft", labels, 3, names["descriptive"])


def jobs_of(context: Opened, cell: Cell, bank: str) -> list[Job]:
    """The jobs of a cell, a seed each.

    Args:
        bank: of the causal model; the encoders' prompts are those that ship.
    """
    template, options, method = cell.template, {}, cell.method
    carries = method == "PoT and words" or method.startswith("graft")
    sources = sources_for(context, as_bank(bank if cell.model == BANKED else "starter")) if carries else ()
    if method in ("words", "words, calibrated", "demonstrations"):
        options = {"calibration": "empty" if "calibrated" in method else "none"}
        method = "zero-shot"
    elif method.startswith("graft"):
        options, method = ({"words-model": cell.words} if cell.words else {}), "graft"
    elif method == "zero-shot":
        options = {"prompt": "none"}
    elif method in ("prompt and words", "soft words alone"):
        method = "prompt-tuning"
    elif method == "PoT and words":
        method = "pot"
    if cell.method == "demonstrations":
        shown = SHOWN_TEXTS if cell.task in TEXTS else DEMONSTRATIONS
        template = f"{{demos:{shown}}}" + (template if "{" in template else find_template(template).text)
    recipe = {**RECIPE, **({"template": template} if template else {})}
    if cell.method == "demonstrations":
        recipe["max_length"] = min(1024, context.backbone.max_length)
    shots = cell.labels
    context = replace(context, shots=shots, recipe=recipe_for(context.backbone, context.task, shots, recipe))
    jobs = []
    for seed in range(cell.seeds):
        source = None
        if method == "pot":
            source = rank_sources(context.engine, choosing_job(context, seed), sources, ("probe",), ()).best.source
        jobs.append(context.job(method, seed, options, source, (), sources if method == "graft" else ()))
    return jobs


@cache
def model_of(name: str) -> Backbone:
    return pg.open_model(name)


CONTEXTS: dict[tuple[str, str], Opened] = {}


def context_of(data: Path, task: str, model: str) -> Opened:
    """What jobs of a task are made with; contexts of the last task are kept, whose states its other cells share."""
    if any(known != task for known, _ in CONTEXTS):
        CONTEXTS.clear()
    if (task, model) not in CONTEXTS:
        CONTEXTS[task, model] = opened(
            load_task(data / task), model_of(model), RECIPE, 8, test_rows=TEXT_ROWS if task in TEXTS else TEST_ROWS,
            validation_from="within", progress=lambda event: None,
        )  # fmt: skip
    return CONTEXTS[task, model]


def facts_of(task: str) -> Mapping[str, str]:
    """The half and the language of a task."""
    return {"half": TEXTS[task][0], "language": "en"} if task in TEXTS else read_tasks()[task]


def run(data: Path, tasks: Sequence[str], models: Sequence[str], bank: str) -> None:
    """Every cell of the models that the CSV does not hold; without a bank of its own nothing is carried to a model."""
    for task in tasks:
        for cell in cells(task, facts_of(task)["language"]):
            is_asked = (cell.words or cell.model) in models or (cell.model in ENCODERS.values() and not cell.words)
            is_carried = cell.model == BANKED and cell.method in ("PoT and words", "graft")
            if not is_asked or (is_carried and not bank) or seeds_of(cell) >= set(range(cell.seeds)):
                continue
            try:
                for row in computed(cell, data, bank):
                    add(row)
            except PromptgraftError as error:
                print(f"FAILED {cell}: {error}", flush=True)
                continue
            print(*cell.key, flush=True)


def seeds_of(cell: Cell) -> set[int]:
    """The seeds of a cell that the CSV holds."""
    return {int(row["seed"]) for row in read() if key_of(row) == cell.key}


def computed(cell: Cell, data: Path, bank: str) -> Iterator[tuple[object, ...]]:
    """The rows that a cell lacks, as they come."""
    context, facts, held = context_of(data, cell.task, cell.model), facts_of(cell.task), seeds_of(cell)
    task, model, method, labels, template = cell.key
    for result in results_of(context, cell, bank, held):
        seconds = f"{result.seconds:.2f}" if context.backbone.device.type == "cpu" else ""
        yield (
            task, facts["half"], facts["language"], context.task.kind, model, labels, result.seed, method,
            template, f"{result.scores['test']['score']:.2f}", result.metric, seconds,
        )  # fmt: skip


def results_of(context: Opened, cell: Cell, bank: str, held: Collection[int]) -> Iterator[Result]:
    """The results of a cell's seeds that are not held, as they come."""
    if cell.method == "distilled":
        for seed in sorted(set(range(cell.seeds)) - set(held)):
            yield distilled(context, cell, seed).outcome.best.result
        return
    jobs = [job for job in jobs_of(context, cell, bank) if job.seed not in held]
    for finished in context.engine.run(jobs):
        yield finished.result


def distilled(context: Opened, cell: Cell, seed: int) -> Distilled:
    """The instruction of a template as a prompt, learned from rows whose labels are not looked at."""
    return pg.distil(
        cell.template, context.backbone, context.task, to=BARE, shots=cell.labels, seed=seed, max_length=128
    )


def add(row: Sequence[object]) -> None:
    """Add a row to the CSV."""
    is_new = not CSV.exists()
    with CSV.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow(row)


def read() -> list[dict[str, str]]:
    """The rows recorded so far."""
    if not CSV.exists():
        return []
    with CSV.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def key_of(row: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    return row["task"], row["model"], row["method"], row["labels"], row["template"]


FEWEST_TASKS = 3
"""Of which a mean difference is said: an interval over two says nothing."""
Figures = dict[str, dict[int, float]]
"""task -> seed -> score."""


def figures(rows: Sequence[Mapping[str, str]], language: str, half: str, **wanted: str) -> Figures:
    """The scores of the rows that have all the wanted values; a template is wanted by its style."""
    found: Figures = {}
    for row in rows:
        style = next((name for name in STYLES if f"-{name}-" in row["template"]), "")
        values = {**row, "style": style}
        if row["language"] == language and row["half"] == half and all(values[name] == wanted[name] for name in wanted):
            found.setdefault(row["task"], {})[int(row["seed"])] = float(row["score"])
    return found


def average(found: Figures, tasks: int) -> str:
    """The mean over tasks of the mean over seeds; empty where a task is missing."""
    return f"{fmean(fmean(seeds.values()) for seeds in found.values()):.1f}" if len(found) == tasks else ""


def gain(ours: Figures, theirs: Figures) -> str:
    """The mean over the tasks that both have of the mean paired difference over seeds."""
    both = [paired(ours[task], theirs[task]) for task in sorted(ours.keys() & theirs.keys())]
    values = [difference.value for difference in both if difference is not None]
    return f"{mean(values)}, {len(values)} tasks" if len(values) >= FEWEST_TASKS else ""


HALVES = {"untouched": "The untouched half", "chosen-on": "The half used for choices"}


def write() -> None:
    """Make the page of the CSV."""
    every = read()
    rows = [row for row in every if row["kind"] == "classification"]
    parts = [HEAD]
    for half, title in HALVES.items():
        for language, name in (("en", "English"), ("zh", "Chinese")):
            tasks = sorted({row["task"] for row in rows if (row["half"], row["language"]) == (half, language)})
            if tasks:
                parts.append(f"## {title}: {name} ({', '.join(tasks)})\n\n{table(rows, language, half, len(tasks))}")
                parts.append(differences(rows, language, half))
    parts.append(written(every))
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


HEAD = """# Language models: templates, words and prompts

What the words of a template are worth with a frozen language model, alone and as a member of a graft on an encoder.
`words` compares the model's predictions for the labels' words without training; `words, calibrated` subtracts what an
empty row gets; `demonstrations` shows eight labelled rows; `prompt and words` trains a deep prompt with the template;
`soft words alone` trains ten vectors between the text and the answer; `distilled` has learned to answer without the
words of the template as it does with them, from so many rows a class whose labels it is not shown. Figures are the mean
accuracy (or the task's metric) in percent, over tasks, of the mean over seeds, on at most 300 test rows; cells that
lack a task are empty. Claims in other documents are about the untouched half unless they say otherwise. The page is
remade by `python scripts/language_models.py run --data DATA/tasks` and `write`; every result is a row of
[language-models.csv](language-models.csv)."""


TEXTS_HEAD = f"""The texts that a model writes with a template, greedily, for at most {TEXT_ROWS} test rows, in the
task's own metric: without training (`words`), after {SHOWN_TEXTS} labelled rows (`demonstrations`), and with a prompt
trained on 8, 32 or 250 labelled rows. The library's three styles are used if it has the task's family, else one
template for the task."""


def table(rows: Sequence[Mapping[str, str]], language: str, half: str, tasks: int) -> str:
    """A table of all methods and models by labels a class."""
    lines = ["| model | method | template | 0 labels | 8 | 32 |", "| --- | --- | --- | ---: | ---: | ---: |"]
    ways = dict.fromkeys((row["model"], row["method"], style_of(row)) for row in rows if row["language"] == language)
    for model, method, style in ways:
        wanted = {"model": model, "method": method, "style": style}
        cells = [average(figures(rows, language, half, labels=labels, **wanted), tasks) for labels in ("0", "8", "32")]
        if any(cells):
            lines.append(f"| {model} | {method} | {style} | {' | '.join(cells)} |")
    return "\n".join(lines)


def written(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of every task of texts."""
    parts = ["## Texts", TEXTS_HEAD]
    for task, (half, _) in TEXTS.items():
        own = [row for row in rows if row["task"] == task]
        if not own:
            continue
        parts.append(f"### {task} ({half}): {own[0]['metric']}")
        lines = [
            "| model | method | template | 0 rows | 8 | 32 | 250 |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        ]
        for model, method, style in dict.fromkeys((row["model"], row["method"], style_of(row)) for row in own):
            wanted = {"model": model, "method": method, "style": style, "task": task}
            cells = [
                average(figures(rows, "en", half, labels=labels, **wanted), 1) for labels in ("0", "8", "32", "250")
            ]
            lines.append(f"| {model} | {method} | {style} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def style_of(row: Mapping[str, str]) -> str:
    """The style of a row's template; empty where it has none."""
    return next((name for name in STYLES if f"-{name}-" in row["template"]), "")


def differences(rows: Sequence[Mapping[str, str]], language: str, half: str) -> str:
    """What the page claims, with intervals over tasks."""
    encoder, lines = ENCODERS[language], []

    def of(model: str, method: str, labels: str = "", style: str = "") -> Figures:
        wanted = {"model": model, "method": method} | ({"labels": labels} if labels else {})
        return figures(rows, language, half, **wanted, **({"style": style} if style else {}))

    for model in SPEAKERS[language]:
        for labels in ("8", "32"):
            kept = of(model, "distilled", labels)
            found = gain(kept, spread(of(model, "words", style="descriptive"), kept))
            lines.append(f"- Gain of a distilled template over the template itself, {model}, {labels} rows: {found}")
        for labels in ("0", "8", "32"):
            found = gain(of(f"{encoder} + {model}", "graft with words", labels), of(encoder, "graft", labels))
            lines.append(f"- Gain from words of {model} in a graft on {encoder}, {labels} labels a class: {found}")
        for style in STYLES:
            found = gain(of(model, "words, calibrated", style=style), of(model, "words", style=style))
            lines.append(f"- Gain from calibration by an empty row, {model}, {style}: {found}")
        for style in STYLES[1:]:
            found = gain(of(model, "words", style=style), of(model, "words", style=STYLES[0]))
            lines.append(f"- Gain of a {style} template over a {STYLES[0]} template, {model}: {found}")
        shown, alone = of(model, "demonstrations"), of(model, "words", style="descriptive")
        lines.append(f"- Gain from eight demonstrations, {model}: {gain(shown, spread(alone, shown))}")
        for labels in ("8", "32"):
            tuned = of(model, "prompt and words", labels)
            for title, ours, theirs in (
                ("Gain of a prompt with a template over the template without training", tuned, spread(alone, tuned)),
                (
                    "Gain of a prompt with a template over soft words alone",
                    tuned,
                    of(model, "soft words alone", labels),
                ),
                ("Gain of a prompt with a template over a linear probe", tuned, of(model, "linear-probe", labels)),
                ("Gain of PoT with a template over a prompt from scratch", of(model, "PoT and words", labels), tuned),
                (
                    "Gain of a graft of the model's own prompts over PoT",
                    of(model, "graft", labels),
                    of(model, "PoT and words", labels),
                ),
            ):
                lines.append(f"- {title}, {model}, {labels} labels: {gain(ours, theirs)}")
    return "\n".join(line for line in lines if not line.endswith(": "))


def spread(found: Figures, over: Figures) -> Figures:
    """Scores that no seed changes, under the seeds of others."""
    return {task: dict.fromkeys(seeds, found[task][0]) for task, seeds in over.items() if task in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--data", type=Path, required=True)
    running.add_argument("--tasks", default=",".join([*FAMILIES, *TEXTS]))
    running.add_argument("--models", default=",".join(dict.fromkeys([*SPEAKERS["en"], *SPEAKERS["zh"], *WRITERS])))
    running.add_argument("--bank", default="", help="prompts of the causal model, which do not ship")
    commands.add_parser("write")
    options = parser.parse_args()
    if options.command == "run":
        run(options.data, options.tasks.split(","), options.models.split(","), options.bank)
    else:
        write()


if __name__ == "__main__":
    main()
