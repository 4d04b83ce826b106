"""Wrong usage that typer finds, such as a missing argument or an unknown option, ends in one line as all errors do."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

import typer
import typer.core

from promptgraft.errors import PromptgraftError, UsageError, quoted, unknown
from promptgraft.untrusted import visible

WRONG_USAGE = 2
TYPERS_ERROR: Any = typer.BadParameter.__base__
"""What typer raises for every kind of wrong usage; it has no public name."""
NAME = re.compile("'([^']*)'")
MAY_BE_EMPTY = ("--text", "--pair", "--abstain-as", "--among", "--stop")
"""Options whose value is a text: an empty one is read, or its verb says what is wrong with it."""


class VerbGroup(typer.core.TyperGroup):
    """A group of verbs that says wrong usage in one line; without any word it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and self.no_args_is_help:
            typer.echo(ctx.get_help(), err=True)
            ctx.exit(WRONG_USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            group = "" if ctx.parent is None else f" of {ctx.info_name}"
            raise unknown(f"verb{group}", args[0], self.commands)
        name, verb, words = super().resolve_command(ctx, args)
        if not isinstance(verb, VerbGroup) and not getattr(verb, "checks_values", False):
            check_values(verb, words, f"{ctx.command_path} {name}")
        return name, verb, words

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TYPERS_ERROR as error:
            if error.ctx is None:  # found while a verb's words were being parsed: the help of that verb is meant
                verb = self.get_command(ctx, ctx.invoked_subcommand)
                error.ctx = type(ctx)(verb, info_name=ctx.invoked_subcommand, parent=ctx)
            raise

    def main(self, *words: Any, **settings: Any) -> Any:
        ends_process = settings.get("standalone_mode", True)
        try:
            status = super().main(*words, **settings | {"standalone_mode": False})
        except (TYPERS_ERROR, PromptgraftError) as error:
            line = error.line if isinstance(error, PromptgraftError) else usage_line(error)
            print(f"promptgraft: {visible(line)}", file=sys.stderr)
            status = WRONG_USAGE
        if ends_process:
            sys.exit(status or 0)
        return status


def check_values(verb: Any, words: Sequence[str], path: str) -> None:
    """Check that no argument of a verb is empty, and that every option has a value, not the name of the next option.

    Args:
        words: what follows the verb.
        path: the words before that, for where the help is.
    Raises:
        UsageError: the first option that has none, or an empty argument.
    """
    options = [parameter for parameter in verb.params if parameter.param_type_name == "option"]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    valued = {name: option.opts[0] for option in options if not option.is_flag for name in option.opts}
    words, behind = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, ())
    for name, value, is_joined in _values(words, valued):
        is_empty = not value and valued[name] not in MAY_BE_EMPTY
        if is_empty or (value in names and not is_joined):
            raise UsageError(f"option {quoted(name)} has no value", do=f"give one, or see {path} --help")
    arguments = [_argument_name(own) for own in verb.params if own.param_type_name == "argument"]
    given = [*_arguments(words, valued), *behind]
    if arguments and "" in given:
        name = arguments[min(given.index(""), len(arguments) - 1)]
        raise UsageError(f"{name} is empty", do=f"give one, or see {path} --help")


def _values(words: Sequence[str], valued: Collection[str]) -> Iterator[tuple[str, str, bool]]:
    """The options that take a value, with the value of each and whether it is joined to the name by =."""
    left = iter(words)
    for word in left:
        name, joint, value = word.partition("=")
        if name in valued and joint:
            yield name, value, True
        elif word in valued:
            yield from ((word, value, False) for value in islice(left, 1))


def _arguments(words: Sequence[str], valued: Collection[str]) -> Iterator[str]:
    """The words that are neither options nor their values."""
    left = iter(words)
    for word in left:
        if word in valued:
            next(left, None)
        elif not word.startswith("-"):
            yield word


def _argument_name(argument: Any) -> str:
    """What the help calls an argument."""
    return str(argument.metavar or argument.name.upper())


def usage_line(error: Any) -> str:
    """What is wrong with the words of a command, as typer says it, and what to do, in one line."""
    do = f"see {'promptgraft' if error.ctx is None else error.ctx.command_path} --help"
    option, value = getattr(error, "option_name", ""), _value_given(error)
    if hasattr(error, "possibilities"):
        return _unknown_option(option, error.possibilities or (), do).line
    if value is not None:
        return _bad_value(error, value, do).line
    if option and " requires " in error.message:
        return UsageError(f"option {quoted(option)} has no value", do=f"give one, or {do}").line
    message = _as_part(error.format_message())
    if hasattr(error, "param_type") and (meaning := getattr(error.param, "help", None)):  # one that is missing
        message += f" ({_as_part(meaning)})"
    return UsageError(message, do=do).line


def _as_part(sentence: str) -> str:
    """A sentence as a part of another one."""
    words = " ".join(sentence.split()).rstrip(".")
    return words[:1].lower() + words[1:]


def _unknown_option(name: str, near: Sequence[str], do: str) -> PromptgraftError:
    """The error for an option that a verb does not have."""
    return unknown("option", name, near) if near else UsageError(f"unknown option {quoted(name)}", do=do)


def _value_given(error: Any) -> str | None:
    """The value of an option that it does not take; None where the error is of another kind."""
    problems = getattr(error.__cause__, "errors", None)  # pydantic's, by which typer reads values
    return None if problems is None else str(problems()[0]["input"])


def _bad_value(error: Any, value: str, do: str) -> PromptgraftError:
    """The error for a value that an option does not take."""
    name = error.param.opts[0] if error.param.opts[0].startswith("-") else _argument_name(error.param)
    message = error.message.removeprefix("Value error, ").removeprefix("Input ").partition(", unable to parse")[0]
    if " is not one of " in message:
        return unknown(f"value of {name}", value, NAME.findall(message.partition(" is not one of ")[2]))
    return UsageError(f"{name} {quoted(value)}: {message.rstrip('.')}", do=do)
