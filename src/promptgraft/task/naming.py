"""The name of a task: one line of visible characters that says no place."""

from __future__ import annotations

import re
from pathlib import Path

from promptgraft.task.hub import PREFIX
from promptgraft.untrusted import LONGEST_NAME, visible

DEFAULT = "task"


def settle_name(given: str | None, path: str | Path) -> tuple[str, list[str]]:
    """The name that was given, else the one of the path; with a note where it had to be changed."""
    wanted = given if given is not None else plain_name(path)
    name = clean_name(wanted) or clean_name(plain_name(path)) or DEFAULT
    return name, [] if name == wanted else [f"the task's name {visible(wanted)[:LONGEST_NAME]!r} is read as {name!r}"]


def plain_name(path: str | Path) -> str:
    """A task's name by its path: the folder's name, or the file's without its ending."""
    last = str(path).removeprefix(PREFIX).replace("\\", "/").rstrip("/").split("/")[-1]
    is_hub = str(path).startswith(PREFIX)
    return last if is_hub or Path(path).is_dir() else last.split(".")[0]


def clean_name(text: str) -> str:
    """The text with a hyphen for separators of paths and for characters that do not show, of a bearable length."""
    shown = "".join(character if visible(character) == character else "-" for character in text)
    return re.sub(r"[/\\]+", "-", shown).strip(" .")[:LONGEST_NAME].rstrip()
