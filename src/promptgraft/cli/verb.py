"""Turns a function into a verb, with groups of shared options, and errors as one line and an exit status."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import sys
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import typer
import typer.core

from promptgraft.cli.say import Output, Say
from promptgraft.cli.usage import check_values
from promptgraft.errors import TO_TRAIN, PromptgraftError, UsageError, is_lack_of_memory

COULD_NOT, WRONG_USAGE, STOPPED = 1, 2, 130
HELP_OPTIONS = {"help_option_names": ["--help", "-h"]}
KEPT = ("checkpoint/*.safetensors", "jobs/*/result.json", "*/journal.jsonl")
"""What of a run folder a command goes on from."""
PASSED_ON = (typer.Exit, typer.Abort, typer.BadParameter)


class Late(ABC):
    """A group of options that are read from models which take seconds to load; `group` makes their dataclass.

    A verb that has one is expanded when it is called or its own help is asked for; the help of all verbs needs none.
    """

    @classmethod
    @abstractmethod
    def group(cls) -> type:
        """A dataclass that is also this class."""


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A typer command from a function: parameters that are dataclasses become the options that are their fields.

    The function's parameter `say` comes from the options of `Output`; its errors end in one line on stderr.
    """
    return _command(function, resumes=False)


def resuming_verb(function: Callable[..., None]) -> Callable[..., None]:
    """A command like that of `verb`, for a function that continues where it was stopped when it is called again."""
    return _command(function, resumes=True)


def add(app: typer.Typer, name: str, function: Callable[..., None]) -> None:
    """Add a verb to an application; one with late options has only its docstring until it is called."""
    expand: Callable[[], Callable[..., None]] | None = getattr(function, "expand", None)
    if expand is None:
        app.command(name)(function)
        return
    expand_verb = expand

    class Verb(typer.core.TyperCommand):
        """Parses and runs as the command that the verb is once it is expanded."""

        checks_values = True

        def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=HELP_OPTIONS)
            try:
                single.command(name)(expand_verb())
            except KeyboardInterrupt:  # while what the options are read off is still being imported
                print("promptgraft: stopped", file=sys.stderr)
                raise typer.Exit(STOPPED) from None
            command = typer.main.get_command(single)
            check_values(command, arguments, context.command_path)
            inner = command.make_context(context.info_name, list(arguments), parent=context.parent)
            context.params, context.args = inner.params, []
            context.meta[name] = command, inner
            return []

        def invoke(self, context: Any) -> Any:
            command, inner = context.meta[name]
            with inner:
                return command.invoke(inner)

    app.command(name, cls=Verb)(function)


def _command(function: Callable[..., None], *, resumes: bool) -> Callable[..., None]:
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    if any(isinstance(kind, type) and issubclass(kind, Late) for kind in hints.values()):

        @wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"), updated=())
        def stands_for() -> None:
            pass

        del stands_for.__wrapped__
        stands_for.expand = lambda: _expanded(function, hints, resumes=resumes)  # type: ignore[attr-defined]
        return stands_for
    return _expanded(function, hints, resumes=resumes)


def _expanded(function: Callable[..., None], hints: Mapping[str, Any], *, resumes: bool) -> Callable[..., None]:
    groups = {name: Output if kind is Say else grouped(kind) for name, kind in hints.items()}
    groups = {name: kind for name, kind in groups.items() if dataclasses.is_dataclass(kind)}

    @wraps(function)
    def run(**values: Any) -> None:
        objects = {name: build(kind, values) for name, kind in groups.items()}
        say = Say(objects["say"])
        with one_line(say, resumes=resumes):
            function(**values | objects | {"say": say})

    parameters = list(expanded(function, hints, groups))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def grouped(kind: Any) -> Any:
    """The type that options are made from: a late group's dataclass, else the type itself."""
    return kind.group() if isinstance(kind, type) and issubclass(kind, Late) else kind


def expanded(
    function: Callable[..., None], hints: Mapping[str, Any], groups: Mapping[str, Any]
) -> Iterator[inspect.Parameter]:
    """The parameters of a verb: the function's own, then the fields of every group, those of `Output` last."""
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in groups:
            yield parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name])
    for group in sorted(groups.values(), key=lambda kind: kind is Output):
        kinds = get_type_hints(group, include_extras=True)
        for field in dataclasses.fields(group):
            kind = kinds[field.name]
            yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kind)


def build(group: Any, values: dict[str, Any]) -> Any:
    """The object of a group, from its values, which are removed from `values`."""
    return group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})


@contextmanager
def one_line(say: Say, *, resumes: bool = False) -> Iterator[None]:
    """A context in which any error ends the command with one line and an exit status; `--debug` shows its place.

    Args:
        resumes: whether the same command goes on from what it kept.
    """
    try:
        with library_warnings(say):
            yield
    except PASSED_ON:
        raise
    except BrokenPipeError:
        silence()
        raise typer.Exit(COULD_NOT) from None
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a library written in Rust raises PanicException, which is no Exception
        if say.debug:
            say.trace(traceback.format_exc())
        is_stop = isinstance(error, KeyboardInterrupt)
        say.problem(stopped(say.folder, resumes=resumes) if is_stop else line_of(error))
        raise typer.Exit(status_of(error)) from None


def stopped(folder: Path | None, *, resumes: bool) -> str:
    """The line of a command that the user stopped: whether it goes on from what it kept, or has kept nothing yet."""
    if not resumes:
        return "stopped"
    if folder is not None and any(True for pattern in KEPT for _ in folder.glob(pattern)):
        return "stopped; the same command goes on where it was"
    return "stopped before anything was kept; the same command begins anew"


def silence() -> None:
    """Discard further output: the reader is gone or the disk is full, and Python would complain again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def library_warnings(say: Say) -> Iterator[None]:
    """A context that shows our warnings as notes, and those of other libraries only with `--debug`."""
    if not say.debug:  # what these two log is no concern of the user's, or what a line of ours says
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")

    def show(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
        if say.debug or f"{os.sep}promptgraft{os.sep}" in filename:
            say.note(str(message))

    with warnings.catch_warnings(), logged_notes(say):
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


@contextmanager
def logged_notes(say: Say) -> Iterator[None]:
    """A context that shows the library's logged warnings as notes; verbs print what it logs at lower levels."""
    handler, logger = NoteHandler(say), logging.getLogger("promptgraft")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class NoteHandler(logging.Handler):
    """Shows log records as notes."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.WARNING)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        self.say.note(record.getMessage())


def line_of(error: BaseException) -> str:
    """An error as one line: what is wrong, where, what to do."""
    match error:
        case PromptgraftError():
            return " ".join(error.line.split())
        case _ if is_lack_of_memory(error):
            return f"out of memory; {TO_TRAIN}"
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}"
        case _:
            message = " ".join(str(error).split())
            return f"a mistake of ours: {type(error).__name__}: {message}; run it again with --debug and report it"


def status_of(error: BaseException) -> int:
    """The exit status for an error."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED
    return WRONG_USAGE if isinstance(error, UsageError) else COULD_NOT
