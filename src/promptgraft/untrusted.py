"""Handles untrusted input: reads it within limits, makes file names of it, and shows it harmlessly on a terminal.

Data files, artefacts, banks and models may come from anyone. All code reads their JSON and TOML, builds paths from
their names and shows their text through these functions alone.
"""

from __future__ import annotations

import json
import re
import stat
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

from promptgraft.errors import PromptgraftError

LONGEST_NAME = 120
"""The most bytes of a file name; leaves room for the endings of atomic writes (file systems allow 255)."""
DEEPEST = 100
"""The most levels of nesting in JSON or TOML; no format of ours or of the libraries has more than ten."""
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories that move a cursor, set a title, turn the direction of text, or show nothing."""
JOINERS = "\u200c\u200d"
"""Format characters that words of many languages, and emoji, are written with."""


def file_name(text: str, default: str = "task") -> str:
    """A file name made from any text: letters, digits and `_ . @ + = -`; everything else becomes a hyphen.

    The result never has a separator, is never `.` or `..`, and is the same on every platform.
    """
    plain = re.sub(r"[^\w.@+=-]+", "-", unicodedata.normalize("NFC", text)).strip(".@+=-")
    return plain.encode("utf-8", "ignore")[:LONGEST_NAME].decode(errors="ignore").rstrip(".@+=-") or default


def visible(text: str, *, lines: bool = False) -> str:
    """Text that is safe to show: control and direction characters become escapes such as `\\x1b`.

    Args:
        lines: keep line ends and tabs; else they are escaped too, so that the text stays one line.
    """
    allowed = JOINERS + ("\n\t" if lines else "")
    return "".join(
        character if character in allowed or unicodedata.category(character) not in HIDDEN else _escaped(character)
        for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def read_bytes(path: Path, limit: int, error: type[PromptgraftError]) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        error: it is missing, unreadable, no regular file (a pipe would wait for ever), or larger.
    """
    try:
        check_readable(path, limit, error)
        return path.read_bytes()
    except OSError as problem:
        raise error(why(problem), where=path) from problem


def check_readable(path: Path, limit: int, error: type[PromptgraftError]) -> None:
    """Make sure that a path is a regular file of at most `limit` bytes that may be opened.

    Raises:
        error: it is no regular file (a pipe would wait for ever), or larger.
        OSError: it is missing, or may not be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise error("this is no regular file", where=path)
    if status.st_size > limit:
        raise error(f"this has {status.st_size:,} bytes; at most {limit:,} are read", where=path)
    with path.open("rb"):
        pass


def at_home(path: str | Path) -> Path:
    """The path with `~` expanded to the home folder; `~` with an unknown user stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def why(problem: OSError) -> str:
    """The reason of an operating system's error in a few words: 'permission denied', 'no such file or directory'."""
    return (problem.strerror or str(problem)).lower()


def read_json(text: str | bytes, where: str | Path | None, error: type[PromptgraftError]) -> Any:
    """The value of a JSON text.

    Raises:
        error: no JSON, not UTF-8, nested too deeply, or a number too long to read.
    """
    try:
        value = json.loads(text)
    except RecursionError as problem:
        raise error(f"this JSON is nested more than {DEEPEST} levels deep", where=where) from problem
    except json.JSONDecodeError as problem:
        raise error(f"this is no JSON: {problem}", where=where) from problem
    except UnicodeDecodeError as problem:
        raise error("this JSON is not UTF-8", where=where) from problem
    except ValueError as problem:  # a whole number of more digits than Python reads
        raise error(f"this JSON cannot be read: {_first_line(problem)}", where=where) from problem
    return _shallow(value, "JSON", where, error)


def read_toml(text: str, where: str | Path | None, error: type[PromptgraftError]) -> dict[str, Any]:
    """The table of a TOML text.

    Raises:
        error: no TOML, nested too deeply, or a number too long to read.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError as problem:
        raise error(f"this TOML is nested more than {DEEPEST} levels deep", where=where) from problem
    except ValueError as problem:  # TOMLDecodeError is one
        raise error(f"this is no TOML: {_first_line(problem)}", where=where) from problem
    content: dict[str, Any] = _shallow(table, "TOML", where, error)
    return content


def _shallow(value: Any, language: str, where: str | Path | None, error: type[PromptgraftError]) -> Any:
    """The value, if it is nested within the limit; checked level by level, so that the check itself never recurses."""
    level = [value]
    for _ in range(DEEPEST):
        level = [part for parent in level for part in _parts(parent)]
        if not level:
            return value
    raise error(f"this {language} is nested more than {DEEPEST} levels deep", where=where)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for part in value.values() if isinstance(part, dict | list)]
    return [part for part in value if isinstance(part, dict | list)] if isinstance(value, list) else []


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0].partition(";")[0]
