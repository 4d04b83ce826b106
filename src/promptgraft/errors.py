"""All errors that a user can cause, in one tree. Every message is one line: where, what is wrong, what to do.

PromptgraftError
├── UsageError        a name, option or combination that does not exist (exit status 2)
├── TaskError         a data file or its task.toml
├── ModelError        a backbone: unknown, unsupported, damaged, not downloadable
├── ArtefactError     a tuned prompt on disk: damaged, of another backbone, of another shape
├── BankError         a bank: missing, locked, a name that is taken
├── RunError          a run that cannot be set up or went wrong (a loss that is not finite)
└── MissingExtraError a feature whose optional packages are not installed
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SHOWN = 12
"""The most names that a line lists; nobody reads more."""
QUOTED = 80
"""The most characters of a value that a line quotes."""

OPTION = re.compile(r"(?<![\w'\"-])--([a-z][a-z-]*)")
ARGUMENTS = {
    "text-column": "text",
    "pair-column": "pair",
    "label-column": "label",
    "label": "labels",
    "no-header": "header=False",
    "replace": "replace=True",
}
"""What options are called in Python, where that is not the same name with underscores."""

NO_MEMORY = re.compile("allocate memory|out of memory", re.IGNORECASE)
"""What libraries say, torch's on a processor and on a GPU among them."""
TO_TRAIN = (
    "use a smaller --batch or --max-length, fewer --test-rows, or for a causal model --memory low or --arithmetic int4"
)
"""What to do where a run has no memory."""
TO_READ = "use a smaller model, free some memory, or for a causal model use --arithmetic int4"
"""What to do where a model that only reads has none."""

SPACES = "\u00a0\u3000"
"""Spaces that stay as they are in a line, though Python does not call them printable."""


class PromptgraftError(Exception):
    """Base of all errors that a user can cause; `str()` is the one line to print in Python.

    Args:
        what: what is wrong, with the offending value. Options are written as on the command line, here and in `do`.
        where: file, `file:line`, or the object's name; begins the line.
        do: what to do about it; ends the line.

    Attributes:
        line: the line to print on the command line.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, do: str | None = None) -> None:
        self.what, self.where, self.do = what, where, do
        beginning, ending = "" if where is None else f"{where}: ", f"{what}; {do}" if do else f"{what}"
        self.line = beginning + ending
        super().__init__(beginning + in_python(ending))


def in_python(text: str) -> str:
    """A text with options of the command line as the arguments of Python; commands in backticks stay commands."""
    parts = text.split("`")
    parts[::2] = [OPTION.sub(lambda found: _argument(found[1]), part) for part in parts[::2]]
    return "`".join(parts)


def _argument(option: str) -> str:
    return ARGUMENTS.get(option, option.replace("-", "_"))


class UsageError(PromptgraftError):
    """A name, an option or a combination of them does not exist."""


class TaskError(PromptgraftError):
    """A data file, or the task.toml beside it, cannot be used as it is."""


class ModelError(PromptgraftError):
    """A backbone is unknown, unsupported, damaged, or could not be downloaded."""


class ArtefactError(PromptgraftError):
    """A tuned prompt on disk is damaged or does not fit what it is used with."""


class BankError(PromptgraftError):
    """A bank is missing, locked, or holds something else under that name."""


class RunError(PromptgraftError):
    """A run cannot be set up as asked, or its loss is no longer finite."""


class MissingExtraError(PromptgraftError):
    """A feature needs optional packages that are not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra {extra!r}", do=install(extra))


def install(extra: str) -> str:
    """How an extra is installed; no release is on the package index yet."""
    return f"pip install '.[{extra}]' in a clone of promptgraft"


@contextmanager
def within_memory(do: str = TO_TRAIN) -> Iterator[None]:
    """A context, or a decorator, in which a lack of memory is a RunError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        raise RunError("out of memory", do=do) from error


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error))))


def unknown(kind: str, name: str, known: Iterable[str], error: type[PromptgraftError] = UsageError) -> PromptgraftError:
    """The error for an unknown name; it suggests the nearest known name, else lists all known names."""
    names = sorted(known)
    near = nearest(name, names)
    do = f"known: {listed(names)}" if near is None else f"did you mean {near!r}?"
    return error(f"unknown {kind} {name!r}", do=do)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is nearest to another one; None where none is near."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)


def either(do: str, other: str) -> str:
    """Advice with another way: `did you mean 'a'? Or name ...`, `known: a, b; or name ...`."""
    return f"{do}{' Or' if do.endswith('?') else '; or'} {other}"


def listed(names: Sequence[str]) -> str:
    """Names joined by commas: the first dozen of many, each shortened to what fits on a line."""
    remainder = f" ... and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(map(shortened, names[:SHOWN])) or "none") + remainder


def listed_quoted(names: Sequence[str]) -> str:
    """Names in quotes, joined by commas: the first dozen of many."""
    remainder = f" ... and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(quoted, names[:SHOWN])) + remainder


def quoted(value: object) -> str:
    """A value in quotes, with control characters escaped; a long one is cut short."""
    text = str(value)
    return repr(text if len(text) <= QUOTED else text[: QUOTED - 3] + "...")


def shortened(text: str) -> str:
    """A text on one line, cut short if it is long, with unprintable characters escaped."""
    short = text if len(text) <= QUOTED else text[: QUOTED - 3] + "..."
    return "".join(c if c.isprintable() or c in SPACES else _escape(c) for c in short)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
