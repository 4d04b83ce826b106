"""The arguments of a verb (names, paths or objects) are opened here: tasks, models, banks, recipes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptgraft.api.checking import changed_recipe, check_roles, known_arithmetic
from promptgraft.api.finding import with_found
from promptgraft.api.notebook import notebook_progress
from promptgraft.arguments import checked
from promptgraft.bank.bank import Bank, open_bank
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.progress import Progress
from promptgraft.engine.store import Store
from promptgraft.engine.worded import wording
from promptgraft.errors import TO_READ, BankError, RunError, TaskError, UsageError, within_memory
from promptgraft.method.job import Job, Source, ValidationFrom
from promptgraft.model.backbone import Backbone, Speaks
from promptgraft.model.device import DeviceName
from promptgraft.model.load import DType
from promptgraft.model.load import load_backbone as load_model
from promptgraft.prompt.card import SearchCard
from promptgraft.readout.restore import check_artefact
from promptgraft.task.check import check_task
from promptgraft.task.frames import TaskData
from promptgraft.task.load import load_task, read_texts
from promptgraft.task.readers import file_format
from promptgraft.task.sampling import cap, rows_of
from promptgraft.task.task import Example, References, Task
from promptgraft.train.recipe import Recipe, default_recipe

LOG = logging.getLogger("promptgraft")


@dataclass(frozen=True)
class Opened:
    """The opened arguments of a verb that runs jobs: engine, task, recipe, shots, and where validation is from.

    Attributes:
        search: what found the words that were given as the folder of a search; None where none was.
    """

    engine: LocalEngine
    task: Task
    recipe: Recipe
    shots: int | None
    validation_from: ValidationFrom = "extra"
    search: SearchCard | None = None

    @property
    def backbone(self) -> Backbone:
        """The frozen model of all jobs."""
        return self.engine.backbone

    def job(
        self,
        method: str,
        seed: int,
        options: Mapping[str, object] | None = None,
        source: Source | None = None,
        unlabelled: tuple[Example, ...] = (),
        bank: tuple[Source, ...] = (),
    ) -> Job:
        """Make a job on the task."""
        kind = dict(options or {})
        return Job(
            self.task, self.backbone.fingerprint, method, seed, self.recipe, self.shots, source, kind, unlabelled, bank,
            self.validation_from,
        )  # fmt: skip


def opened(
    task: Task | TaskData,
    model: Backbone | str | Path,
    recipe: Mapping[str, object],
    shots: int | None,
    *,
    out: str | Path | None = None,
    test_rows: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    keep_weights: bool = True,
    validation_from: ValidationFrom = "extra",
) -> Opened:
    """Open task, model and recipe, and make an engine that keeps its results in `out`."""
    recipe = dict(recipe)
    memory = recipe.pop("memory", None)
    loaded = open_task(task, test_rows=test_rows)
    backbone = open_model(model, recipe.get("arithmetic", "auto"), device, None if memory is None else str(memory))
    recipe, found = with_found(recipe, loaded)
    loaded = loaded if found is None else loaded.noted(*found.notes)
    check_writes(backbone, loaded)
    store = None if out is None else Store(Path(out), keep_weights=keep_weights)
    engine = LocalEngine(backbone, store=store, progress=progress or notebook_progress())
    search = None if found is None else found.card
    return Opened(engine, loaded, recipe_for(backbone, loaded, shots, recipe), shots, validation_from, search)


def with_columns(task: Task, columns: Mapping[str, str] | None) -> Task:
    """The task with the columns that a file or table has in the place of those that were tuned from.

    Raises:
        UsageError: what a column is said to hold is nothing that rows have.
    """
    check_roles(columns)
    return task.replace(columns={**task.columns, **(columns or {})})


def check_writes(backbone: Backbone, task: Task) -> None:
    """Check that a backbone can write texts where the task's answers are texts.

    Raises:
        RunError: it cannot.
    """
    generates = "mark" in backbone.reads and isinstance(backbone, Speaks) and backbone.mask is None
    if task.facts.written and not generates:
        what = f"a {task.kind} task needs a model that generates, and {backbone.name} does not"
        others = "use a causal or a sequence-to-sequence model"
        by_words = ", or name the labels by their words: --verbalizer label=word,label=word"
        raise RunError(what, where=task.name, do=others + by_words if _is_texts_alone(task) else others)


def _is_texts_alone(task: Task) -> bool:
    """Whether a task has rows, and no row has an answer."""
    rows = [row for split in task.splits.values() for row in split]
    return bool(rows) and not any(isinstance(row.label, References) for row in rows)


def log_notes(notes: Iterable[str]) -> None:
    """Log what was inferred, cut, sampled or chosen, each note once, to the logger `promptgraft`."""
    for note in dict.fromkeys(notes):
        LOG.info("%s", note)


@checked
def load_backbone(
    name_or_path: str | Path, *, dtype: DType = "auto", device: DeviceName = "auto", memory: str | None = None
) -> Backbone:
    """Load a frozen model once, for many calls; commands load the same model when they are given its name.

    Args:
        name_or_path: a name from `promptgraft models list`, a folder, or a hub name that was downloaded.
        dtype: arithmetic of the matrix products: `fp32`, `bf16`, or `auto`, the faster of the two on this machine;
            `int8` (an encoder then has no gradients; a causal model has its weights in eight bits); `int4` (a causal
            model has its weights in four bits).
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.
        memory: memory limit, such as `4GB`, or `low` (default: the free memory).
    Raises:
        ModelError: the model is unknown, not downloaded, damaged or not supported; or there is no such device.
    """
    return open_model(name_or_path, dtype, device, memory)


def texts_alone(path: TaskData, columns: Mapping[str, str], problem: TaskError) -> Task:
    """The texts of a file as a task without labels.

    Args:
        columns: of the file, by what they hold; those of usual names where they do not say it.
        problem: why it is no task with labels.
    Raises:
        TaskError: its texts cannot be read either; the problem where it is no file, or holds no text.
    """
    if not isinstance(path, str | Path) or not Path(path).is_file():
        raise problem
    name = Path(path).name.split(".")[0]
    rows = tuple(read_texts(path, Task(name, "text", "rougeL", {}, {}, columns=columns), columns))
    if not rows:
        raise problem
    why = "no labels" if file_format(Path(path)) == "txt" else problem.what
    return Task(name, "text", "rougeL", {}, {"train": rows}, notes=(f"{name}: its texts alone are read ({why})",))


@checked
def open_task(task: Task | TaskData, *, test_rows: int | None = None, seed: int = 13, **columns: Any) -> Task:
    """Load a task unless it is one already; `test_rows` caps its test split."""
    if isinstance(task, Task):
        check_task(task)
    loaded = task if isinstance(task, Task) else load_task(task, seed=seed, **columns)
    return loaded if test_rows is None else cap(loaded, "test", test_rows, seed)


@checked
@within_memory(TO_READ)
def open_model(
    model: Backbone | str | Path, arithmetic: object = "auto", device: DeviceName = "auto", memory: str | None = None
) -> Backbone:
    """Load a backbone by name or folder unless it is one already.

    Args:
        arithmetic, device, memory: as for `load_backbone`.
    Raises:
        UsageError: an unknown arithmetic or device, or one that a loaded backbone does not have; a memory that is not a
            size, or is given for a loaded backbone.
    """
    dtype = known_arithmetic(arithmetic, device)
    if isinstance(model, str | Path):
        return load_model(model, dtype=dtype, device=device, memory=memory)
    if memory is not None:
        raise UsageError(f"{model.name} is loaded already", do="give memory where it is loaded")
    if dtype not in ("auto", model.arithmetic):
        raise UsageError(f"{model.name} was loaded in {model.arithmetic}, not {dtype}", do="load it anew")
    if device not in ("auto", model.device.type):
        raise UsageError(f"{model.name} was loaded on {model.device.type}, not {device}", do="load it anew")
    return model


@checked
def as_bank(bank: Bank | str | Path, *, create: bool = False) -> Bank:
    """Open a bank by its folder's path or its name (`starter`) unless it is one already."""
    return bank if isinstance(bank, Bank) else open_bank(bank, create=create, check=check_artefact)


def bank_for(bank: Bank | str | Path | None, backbone: Backbone) -> Bank | None:
    """The bank that was named; `auto`: the one that ships, where it has prompts for the backbone, else none."""
    if bank is None or bank != "auto":
        return None if bank is None else as_bank(bank)
    starter = as_bank("starter")
    try:
        starter.serving(backbone.fingerprint, backbone.name)
    except BankError:
        return None
    return starter


def recipe_for(backbone: Backbone, task: Task, shots: int | None, given: Mapping[str, object]) -> Recipe:
    """Make the default recipe for the size of the job, changed by the given values.

    Raises:
        UsageError: a name or a value that a recipe does not have.
    """
    rows = len(task.train) if shots is None else rows_of(task, shots)
    if given.get("template") and given.get("init", "text") == "text" and "init_text" not in given:
        # Vectors that start as real words tune far better on language models.
        words = wording(str(given["template"]))
        given = {**given, "init": "text", "init_text": words} if words else given
    return changed_recipe(default_recipe(backbone, rows, task.kind), {**given, "arithmetic": backbone.arithmetic})


@checked
def free_text(given: str | Path | Sequence[str] | None, task: Task) -> tuple[Example, ...]:
    """Read unlabelled target text from a file or a list."""
    if given is None:
        return ()
    if isinstance(given, str | Path):
        return tuple(Example(row.text, row.pair, row.choices, row.tokens) for row in read_texts(given, task))
    return tuple(Example(text=text) for text in given)
