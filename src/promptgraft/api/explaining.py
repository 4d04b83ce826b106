"""`explain` says what is in an artefact's prompt and what it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptgraft.api.artefacts import as_predictor
from promptgraft.api.checking import check_given
from promptgraft.api.opening import log_notes, open_task, with_columns
from promptgraft.arguments import checked
from promptgraft.engine import explain as engine
from promptgraft.engine.given import unlabelled_of
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.progress import Event, Progress
from promptgraft.errors import TO_READ, RunError, UsageError, within_memory
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.prompt.artefact import Artefact
from promptgraft.report import explain as report
from promptgraft.sheet import Sheet
from promptgraft.task.labelled import read_rows
from promptgraft.task.labels import in_classes
from promptgraft.task.sampling import cap
from promptgraft.task.task import SPLITS, Example, Task
from promptgraft.task.values import as_class

ROWS = 64
"""Rows that are asked where nothing else is said."""
TASK_FILE = ".toml"


@dataclass(frozen=True, repr=False)
class Explanation(engine.Explained):
    """The result of `explain`."""

    def __repr__(self) -> str:
        return self._sheet().text()

    def _repr_html_(self) -> str:
        return self._sheet().html()

    def save(self, folder: str | Path, command: str | None = None) -> dict[str, Path]:
        """Write the page and the figures as JSON; gives the path of each file by its name."""
        return report.write(self, Path(folder), command)

    def data(self) -> dict[str, Any]:
        """All figures as plain values."""
        return report.data(self)

    def _sheet(self) -> Sheet:
        facts = [*report.facts(self), *self.notes]
        member = next((own for own in self.members if own.prompt is not None), None)
        columns, rows = ([], []) if member is None else (report.vector_columns(member), report.vector_table(member))
        return Sheet(f"Explanation of {self.card.task.name}", tuple(facts), tuple(columns), rows)


@checked
@within_memory(TO_READ)
def explain(
    run: Artefact | Predictor | str | Path,
    rows: object = None,
    *,
    most: int = ROWS,
    columns: Mapping[str, str] | None = None,
    model: Backbone | str | Path | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Explanation:
    """Show what is in an artefact's prompt and what it does.

    For each vector: the nearest words, its norm, the attention it gets, and the loss on labelled rows without it. Also
    the texts whose answer the prompt changes. Without rows, only nearest words and norms.

    Args:
        run: a run folder of tune or transfer, an artefact's folder, an artefact (with `model`), or a predictor.
        rows: a file, with labels or without; a task (its test rows); a table, or a list of texts or `Example`s.
        most: maximum number of rows; more are drawn down to it, with classes in proportion.
        columns: names of a file's columns, by role: `text`, `pair`, `label`; default: as in tuning.
        model: the backbone; default: the one named on the card.
    Raises:
        UsageError, TaskError, RunError, ArtefactError: one line that says what is wrong and what to do.
    """
    if most < 1:
        raise UsageError(f"{most} rows", do="give 1 or more")
    check_given(model, columns=columns, device=device)
    predictor, _ = as_predictor(run, model, device)
    examples, notes = _rows(rows, with_columns(predictor.task, columns), columns or {}, most)

    def tell(label: str, done: int, of: int) -> None:
        if progress is not None:
            progress(Event(done, of, label, unit="pieces"))

    explained = engine.explain(predictor, examples, tell)
    all_notes = (*notes, *explained.notes) if explained.has_prompt else explained.notes
    result = Explanation(**{**vars(explained), "notes": all_notes})
    log_notes(result.notes)
    return result


def _rows(rows: object, task: Task, named: Mapping[str, str], most: int) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The rows to ask, and notes on where they come from and how many are left out.

    Args:
        named: the columns that were named for these rows.
    """
    if rows is None:
        return (), ()
    split = "rows"
    if isinstance(rows, Task) or (isinstance(rows, str | Path) and _is_task(rows)):
        examples, split, notes = _of_task(open_task(rows, **dict[str, Any](named)), task)
    elif isinstance(rows, str | Path):
        examples, notes = read_rows(rows, task, task.classes, named)
    else:
        examples, notes = in_classes(task.kind, unlabelled_of(rows, task, named)[1], task.classes), ()
        if not task.facts.one_class:  # what a cell's text says of other labels is not read here
            examples = tuple(
                dataclasses.replace(row, label=None) if isinstance(row.label, str) and not row.choices else row
                for row in examples
            )
    if not examples:
        raise RunError("there are no rows to ask", where=task.name, do="give a file or a task with rows")
    capped = cap(task.replace(splits={split: examples}, notes=()), split, most, 0)
    return capped.splits[split], (*notes, *capped.notes)


def _is_task(path: str | Path) -> bool:
    """Whether a path is that of a task rather than of a file of rows."""
    return not Path(path).is_file() or Path(path).suffix == TASK_FILE


def _of_task(given: Task, task: Task) -> tuple[tuple[Example, ...], str, tuple[str, ...]]:
    """The test rows of a task that has the artefact's kind and classes; else its validation or training rows.

    Raises:
        RunError: it has another kind, or a class that the artefact does not know.
    """
    if given.kind != task.kind:
        do = "give rows of the task that it was tuned on"
        raise RunError(f"the artefact answers {task.kind} tasks, and {given.name} is {given.kind}", do=do)
    foreign = [label for label in given.classes if as_class(label, task.classes) not in task.classes]
    if foreign and task.facts.named_labels:
        what = f"{given.name} has the class {foreign[0]!r}, which the artefact does not know"
        raise RunError(what, do="give rows of the task that it was tuned on")
    split = next((name for name in reversed(SPLITS) if given.splits.get(name)), "test")
    examples = in_classes(task.kind, given.splits.get(split, ()), task.classes)
    return examples, split, (f"asked are {split} rows of {given.name}",)
