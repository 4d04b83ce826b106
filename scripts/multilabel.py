"""How good each method is where a row has several labels; docs/results/multilabel.{csv,md}.

    python scripts/multilabel.py run --data ../shared/data/tasks [--only wnut17] [--goemotions FOLDER]
    python scripts/multilabel.py write

The tasks are made of tagged sentences: which kinds of thing does a text name? (scripts/multilabel_tasks.toml). The CSV
is the record: `run` leaves out what it holds, and keeps every result as it comes.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import multilabel_page
import numpy as np
from labels import model_of, sources_for
from multilabel_page import SIZES, Row, keep_rows, read_rows, write
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier

from promptgraft.api.opening import Opened, as_bank, opened, recipe_for
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import PromptgraftError
from promptgraft.method.job import Job
from promptgraft.readout.classes import indicators
from promptgraft.readout.threshold import best_threshold
from promptgraft.task.load import load_task
from promptgraft.task.metrics import score
from promptgraft.task.task import Example, Task

TASKS = Path(__file__).with_name("multilabel_tasks.toml")
TEST_ROWS = 300
SEEDS = (0, 1, 2)
RECIPE: dict[str, object] = {"max_length": 64}
MODELS = {"en": "minilm", "zh": "e5-small"}
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "graft": ("graft", {}),
    "linear-probe": ("linear-probe", {}),
    "prompt-tuning": ("prompt-tuning", {}),
    "zero-shot": ("zero-shot", {"prompt": "none"}),
}
TF_IDF = "tf-idf"
STRENGTHS = (1.0, 10.0, 100.0)
"""The values of scikit-learn's C that cross-validation chooses from."""
FOLDS = 5
LEAST = 1e-4
"""A probability below this counts as this, so that no single decision decides on the strength."""


@dataclass(frozen=True)
class Cell:
    """What is run in one go: seeds of a method on one task with so many labelled rows in all."""

    task: str
    labels: int
    method: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Answers:
    """What a model says of the test rows.

    Attributes:
        probabilities: of each label, `[rows, labels]`.
    """

    predictions: Sequence[Any]
    probabilities: np.ndarray
    seconds: float


def read_facts() -> dict[str, dict[str, Any]]:
    """Task -> its language, half and labels with their descriptions."""
    with TASKS.open("rb") as file:
        return tomllib.load(file)


def cells(facts: Mapping[str, Mapping[str, Any]], only: Sequence[str]) -> Iterator[Cell]:
    """Every cell of these methods: the half that is chosen on first, cheap methods before dear ones."""
    ordered = sorted(facts, key=lambda task: (facts[task]["half"], facts[task]["language"], task))
    for methods in (("graft", "linear-probe", TF_IDF, "zero-shot"), ("prompt-tuning",)):
        for task, labels, method in product(ordered, SIZES, methods):
            has_cell = (labels == 0) == (method == "zero-shot") or (labels == 0 and method == "graft")
            if has_cell and method in only:
                yield Cell(task, labels, method, SEEDS[:1] if labels == 0 else SEEDS)


def run(data: Path, goemotions: Path | None, only: str | None, methods: str) -> None:
    """Every cell of the tasks and methods that the CSV does not hold, one after the other."""
    facts = read_facts()
    if goemotions is None:
        facts.pop("goemotions")
    names = tuple(facts) if only is None else tuple(only.split(","))
    contexts: dict[str, Opened] = {}
    for cell in cells({name: facts[name] for name in names}, methods.split(",")):
        recorded = {(row["task"], row["labels"], row["method"], row["seed"]) for row in read_rows()}
        key = cell.task, str(cell.labels), cell.method
        seeds = tuple(seed for seed in cell.seeds if (*key, str(seed)) not in recorded)
        if not seeds:
            continue
        if cell.task not in contexts:
            contexts = {cell.task: context_of(read_task(cell.task, facts[cell.task], data, goemotions))}
        began = time.perf_counter()
        try:
            keep_rows(list(computed(replace(cell, seeds=seeds), contexts[cell.task], facts[cell.task])))
        except PromptgraftError as error:  # a cell that fails takes no other with it: it is printed, and tried again
            print(f"FAILED {cell.method} {cell.task} {cell.labels}: {error}", flush=True)
            continue
        print(f"{cell.method} {cell.task} {cell.labels}: {time.perf_counter() - began:.0f} s", flush=True)


def read_task(name: str, facts: Mapping[str, Any], data: Path, goemotions: Path | None) -> Task:
    """A task of several labels a row with at most TEST_ROWS test rows."""
    if name == "goemotions":
        if goemotions is None:
            raise SystemExit("goemotions: give the folder of its published files (--goemotions FOLDER)")
        train, test = (read_goemotions(goemotions, split) for split in ("train", "test"))
    else:
        tagged = load_task(data / name)
        space = "" if facts["language"] == "zh" else " "
        train, test = (
            tuple(of_tags(row, facts["labels"], space) for row in rows) for rows in (tagged.train, tagged.test)
        )
    test = tuple(random.Random(13).sample(test, min(len(test), TEST_ROWS)))
    labels = dict(facts["labels"])
    return Task(name, "multilabel", "micro_f1", labels, {"train": train, "test": test}, language=facts["language"])


def of_tags(row: Example, labels: Mapping[str, str], space: str) -> Example:
    """A tagged sentence as a text whose labels are the kinds of its spans, those that are asked for."""
    assert isinstance(row.label, tuple), "a tag a word"
    kinds = {tag.split("-", 1)[-1] for tag in row.label if tag != "O"}
    return Example(space.join(row.tokens), label=tuple(sorted(kinds & set(labels))))


def read_goemotions(folder: Path, split: str) -> tuple[Example, ...]:
    """A split as it is published: text, numbers of emotions with commas between them, id; neutral is no emotion."""
    names = (folder / "emotions.txt").read_text(encoding="utf-8").split()
    rows = []
    with (folder / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
        for text, numbers, _ in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            emotions = {names[int(number)] for number in numbers.split(",")}
            rows.append(Example(text, label=tuple(sorted(emotions - {"neutral"}))))
    return tuple(rows)


def context_of(task: Task) -> Opened:
    """What jobs of a task are made with; its engine's frozen states are shared by all cells."""
    backbone = model_of(MODELS[str(task.language)])
    return opened(task, backbone, RECIPE, None, validation_from="within", progress=lambda event: None)


def computed(cell: Cell, context: Opened, facts: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a cell."""
    if cell.method == TF_IDF:
        for seed in cell.seeds:
            task = drawn(context.task, cell.labels, seed)
            yield row_of(cell, seed, task, tf_idf(task, seed), facts)
        return
    for finished in context.engine.run([job_of(context, cell, seed) for seed in cell.seeds]):
        task, result = finished.job.task, finished.result
        predictor = Predictor(make_artefact(finished, context.engine.view(finished.job)), context.backbone)
        found = predictor.answers([replace(row, label=None) for row in task.test])
        seconds = result.seconds + result.required_seconds
        answers = Answers(found.predictions, np.asarray(found.probabilities), seconds)
        yield row_of(cell, finished.job.seed, task, answers, facts)


def drawn(task: Task, labels: int, seed: int) -> Task:
    """The task with so many labelled rows in all, drawn from its training rows as they come."""
    rows = tuple(random.Random(seed).sample(task.train, labels))
    return task.replace(splits={"train": rows, "test": task.test})


def job_of(context: Opened, cell: Cell, seed: int) -> Job:
    """The job of one seed, for graft with the bank's prompts that share nothing with the task."""
    method, options = METHODS[cell.method]
    task = drawn(context.task, cell.labels, seed)
    own = replace(context, task=task, recipe=recipe_for(context.backbone, task, None, RECIPE))
    sources = sources_for(own, as_bank("starter")) if method == "graft" else ()
    return own.job(method, seed, options, None, (), sources)


def tf_idf(task: Task, seed: int) -> Answers:
    """Words and pairs of words (Chinese: runs of one to three characters) under a logistic regression a label.

    Its strength and the threshold of its labels are chosen by rows left out, as those of every other method are.
    """
    began = time.perf_counter()
    units: dict[str, Any] = (
        {"analyzer": "char", "ngram_range": (1, 3)} if task.language == "zh" else {"ngram_range": (1, 2)}
    )
    vectorizer = TfidfVectorizer(sublinear_tf=True, **units)
    features = vectorizer.fit_transform([row.text for row in task.train])
    gold = indicators([row.label for row in task.train], task)
    unseen = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rare label is in some folds only
        for strength in STRENGTHS:
            model = OneVsRestClassifier(LogisticRegression(C=strength, solver="liblinear"))
            folds = KFold(FOLDS, shuffle=True, random_state=seed)
            unseen[strength] = clipped(cross_val_predict(model, features, gold, cv=folds, method="predict_proba"))
        best = max(STRENGTHS, key=lambda strength: log_likelihood(unseen[strength], gold))
        model = OneVsRestClassifier(LogisticRegression(C=best, solver="liblinear")).fit(features, gold)
        shares = clipped(model.predict_proba(vectorizer.transform([row.text for row in task.test])))
    seconds = time.perf_counter() - began
    return Answers(predicted(task, log_odds(shares), log_odds(unseen[best]), gold), shares, seconds)


def predicted(task: Task, odds: np.ndarray, unseen: np.ndarray, gold: np.ndarray) -> list[tuple[str, ...]]:
    """The labels of each row by the product's rule: one threshold, and the likeliest where every row has a label."""
    least = bool(gold.any(1).all())
    has = odds > best_threshold(unseen, gold, least=least)
    if least:
        has |= odds == odds.max(1, keepdims=True)
    return [tuple(task.classes[place] for place in np.flatnonzero(row)) for row in has]


def clipped(shares: np.ndarray) -> np.ndarray:
    return np.clip(shares, LEAST, 1 - LEAST)


def log_odds(shares: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(shares) - np.log1p(-shares))


def log_likelihood(shares: np.ndarray, gold: np.ndarray) -> float:
    return float(np.log(np.where(gold > 0, shares, 1 - shares)).sum())


def row_of(cell: Cell, seed: int, task: Task, answers: Answers, facts: Mapping[str, Any]) -> Row:
    """A row of the CSV."""
    figures = score(task, answers.predictions, task.test, answers.probabilities)
    gold = indicators([row.label for row in task.test], task)
    values = {
        "task": cell.task,
        "half": facts["half"],
        "language": facts["language"],
        "model": cell.method if cell.method == TF_IDF else MODELS[facts["language"]],
        "labels": cell.labels,
        "seed": seed,
        "method": cell.method,
        "micro_f1": f"{figures['micro_f1']:.2f}",
        "macro_f1": f"{figures['macro_f1']:.2f}",
        "ranking": f"{figures['label_ranking']:.2f}",
        "ece": f"{multilabel_page.calibration_error(answers.probabilities, gold):.2f}",
        "seconds": f"{answers.seconds:.2f}",
    }
    return {name: str(value) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run")
    runs.add_argument("--data", type=Path, default=Path("../shared/data/tasks"))
    runs.add_argument("--goemotions", type=Path, help="folder of the published train.tsv, test.tsv and emotions.txt")
    runs.add_argument("--only", help="tasks, with commas between them")
    runs.add_argument("--methods", default=",".join([*METHODS, TF_IDF]), help="with commas between them")
    verbs.add_parser("write")
    options = parser.parse_args()
    if options.verb == "run":
        run(options.data, options.goemotions, options.only, options.methods)
    else:
        write()


if __name__ == "__main__":
    main()
