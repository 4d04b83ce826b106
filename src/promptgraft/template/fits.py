"""Whether a template fits a task: every field it names is there, and every text of the task has its field."""

from __future__ import annotations

from collections.abc import Collection

from promptgraft.errors import UsageError
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Task

WANTED = {
    "single": ("text",),
    "pair": ("text_a", "text_b"),
    "choice": ("text",),
}
"""Fields that a template must have, by the shape of a task's rows."""
ALLOWED = WANTED | {"choice": ("text", "choices")}
SHAPES = {"single": "single texts", "pair": "two texts a row", "choice": "a text and options a row"}


def shape_of(task: Task) -> str:
    """Whether a task's rows are single texts, pairs, or texts with options.

    Raises:
        UsageError: rows of tags, which no one answer fits.
    """
    facts = KINDS[task.kind]
    if facts.label == "tags":
        raise UsageError(f"{task.name} tags words, and a template has one answer", do="give a task of another kind")
    if "choices" in facts.needs:
        return "choice"
    has_pair = any(example.pair is not None for examples in task.splits.values() for example in examples)
    return "pair" if has_pair or "pair" in facts.needs else "single"


def check_fits(fields: Collection[str], has_blank: bool, task: Task, *, blank: bool) -> None:
    """Make sure that a template's fields are those of the task's rows, and that it has a place of the answer.

    Args:
        blank: whether it needs the place of the answer.
    Raises:
        UsageError: a field is missing or too many, or the answer has no place.
    """
    shape = shape_of(task)
    extra = next((field for field in sorted(fields) if field not in ALLOWED[shape]), None)
    wanted = " and ".join(f"{{{field}}}" for field in WANTED[shape])
    if extra is not None:
        raise UsageError(f"{task.name} has {SHAPES[shape]}: no {{{extra}}} for the template", do=f"write {wanted}")
    missing = next((field for field in WANTED[shape] if field not in fields), None)
    if missing is not None:
        raise UsageError(f"the template has no {{{missing}}}; {task.name} has {SHAPES[shape]}", do=f"write {wanted}")
    if blank and not has_blank:
        raise UsageError("the template has no place of the answer", do="write {mask} where the answer stands")
