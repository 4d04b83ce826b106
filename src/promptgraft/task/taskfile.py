"""Reads `task.toml`, in which a folder of data describes itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from promptgraft.errors import TaskError, unknown
from promptgraft.task.content import decode, read_bytes
from promptgraft.task.table import Columns
from promptgraft.untrusted import read_toml

FILE_NAME = "task.toml"


class DataOrigin(BaseModel):
    """[source]: where the data came from. Further keys are kept unread."""

    model_config = ConfigDict(extra="allow")

    repo: str | None = None
    url: str | None = None
    licence: str | None = None


class TaskFile(BaseModel):
    """The keys of task.toml. All may be left out; what is left out is inferred.

    kind, metric, positive (the class whose F1 counts), language, family and name describe the task; text, text_a,
    text_b, label, choices, question, context, answers, tokens, tags, source_column and target_column name columns;
    [labels] maps a label (or a tag, or an entity type) to its description; [source] has repo, url and licence; [rows]
    has the rows of each split.
    """

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    kind: str | None = None
    language: str | None = None
    family: str | None = None
    metric: str | None = None
    positive: str | None = None
    text: str | None = None
    text_a: str | None = None
    text_b: str | None = None
    label: str | None = None
    choices: str | None = None
    question: str | None = None
    context: str | None = None
    answers: str | None = None
    tokens: str | None = None
    tags: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    labels: dict[str, str] = {}
    source: DataOrigin = DataOrigin()
    rows: dict[str, int] = {}

    @property
    def columns(self) -> Columns:
        """The named columns by role."""
        if self.context is not None or self.answers is not None:
            return Columns(text=self.question or self.text, pair=self.context, label=self.answers)
        return Columns(
            text=self.text or self.text_a or self.tokens or self.source_column,
            pair=self.text_b,
            question=self.question,
            choices=self.choices,
            label=self.label or self.tags or self.target_column,
        )


def unknown_at(kind: str, name: str, known: Iterable[str], where: str | Path) -> TaskError:
    """The error of `errors.unknown`, with the place where the name stands."""
    error = unknown(kind, name, known)
    return TaskError(error.what, where=where, do=error.do)


def read_task_file(path: Path) -> TaskFile:
    """The task.toml at `path`. Raises: TaskError for broken TOML, an unknown key or a value of the wrong type."""
    try:
        content = read_toml(decode(read_bytes(path), path)[0], path, TaskError)
    except TaskError as error:
        raise TaskError(error.what, where=path, do=error.do or "repair the file") from None
    for key in content:
        if key not in TaskFile.model_fields:
            raise unknown_at("key", key, TaskFile.model_fields, path)
    try:
        return TaskFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise TaskError(f"{key}: {first['msg'].lower()}", where=path, do="repair the value") from None
