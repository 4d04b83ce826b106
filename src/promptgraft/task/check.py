"""A task that was made in Python is checked for what no file would be read with."""

from __future__ import annotations

from promptgraft.errors import TaskError, quoted, unknown
from promptgraft.task.task import SPLITS, Example, Task


def check_task(task: Task) -> None:
    """Check that every row has a label of the task's, and a choice something to choose from.

    A task of texts alone has no label at all.

    Raises:
        TaskError: the first row that has not.
    """
    rows = [(split, number, row) for split in SPLITS for number, row in enumerate(task.splits.get(split, ()))]
    if all(row.label is None for _, _, row in rows):
        return
    for split, number, row in rows:
        _check_row(row, task, f"{task.name}, {split}, row {number}")


def _check_row(row: Example, task: Task, where: str) -> None:
    if row.label is None:
        do = "give it one, leave it out, or put it into the split 'unlabelled'"
        raise TaskError("the row has no label", where=where, do=do)
    if task.facts.named_labels:
        names = row.label if isinstance(row.label, tuple) else (row.label,)
        for name in names:
            if name not in task.labels:
                error = unknown("label", str(name), task.classes, TaskError)
                raise TaskError(error.what, where=where, do=error.do)
    if task.facts.label == "option" and len(row.choices) < 2:
        raise TaskError("there is nothing to choose from", where=where, do="give two choices or more")
    if task.facts.label == "option" and row.label not in row.choices:
        raise TaskError(f"{quoted(row.label)} is none of its choices", where=where, do="give the right one's text")
