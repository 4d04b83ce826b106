"""Names tasks: a name is one line of visible characters and holds no path."""

from __future__ import annotations

import re
from pathlib import Path

from promptgraft.task.frames import NAME, TaskData, is_table
from promptgraft.task.hub import PREFIX
from promptgraft.untrusted import LONGEST_NAME, visible

DEFAULT = "task"


def settle_name(given: str | None, path: TaskData) -> tuple[str, list[str]]:
    """The task's name: the given one, else that of the path; with a note where characters had to be replaced."""
    proposal = given if given is not None else plain_name(path)
    name = clean_name(proposal) or clean_name(plain_name(path)) or DEFAULT
    return name, [] if name == proposal else [
        f"the task's name {visible(proposal)[:LONGEST_NAME]!r} is read as {name!r}"
    ]


def plain_name(path: TaskData) -> str:
    """The name that a path gives a task: the folder's name, or the file's without its ending; a table has none."""
    if is_table(path):
        return NAME
    last = str(path).removeprefix(PREFIX).replace("\\", "/").rstrip("/").split("/")[-1]
    is_hub = str(path).startswith(PREFIX)
    return last if is_hub or Path(path).is_dir() else last.split(".")[0]


def clean_name(text: str) -> str:
    """The text with hyphens for path separators and invisible characters, cut to the longest name allowed."""
    characters = "".join(character if visible(character) == character else "-" for character in text)
    return re.sub(r"[/\\]+", "-", characters).strip(" .")[:LONGEST_NAME].rstrip()
