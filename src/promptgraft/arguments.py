"""What a public function is given is held against its type hints, so that a wrong type is one line of error."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Iterator, Mapping, Sized
from functools import cache, wraps
from inspect import signature
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from promptgraft.errors import UsageError, shortened

P = ParamSpec("P")
R = TypeVar("R")
FLAGS = ("bool", "bool_")
"""What Python and numpy call their types of True and False."""
WORDS: Mapping[Any, str] = {
    str: "a text", Path: "a path", bool: "True or False", int: "a whole number", float: "a number", NoneType: "None",
}  # fmt: skip
SEVERAL: Mapping[Any, str] = {
    str: "texts", int: "whole numbers", float: "numbers", str | Path: "names or paths", Path: "paths",
}  # fmt: skip


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which is called only if its arguments are of the types that its hints name.

    Raises:
        UsageError: one is not.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check_arguments(function, signature(function).bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    return call


def check_arguments(function: Callable[..., object], given: Mapping[str, object]) -> None:
    """Check the types of arguments by the hints of a function; words of a `Literal` are only checked to be text.

    Raises:
        UsageError: one is of another type, or holds what is.
    """
    hints = _hints(function)
    for name, value in given.items():
        hint = hints.get(name, Any)
        if _fits(value, hint):
            continue
        kept = next(iter(_wrong_parts(value, hint)), None)
        wrong = f"{name} is {_shown(value)}" if kept is None else f"{name} holds {_shown(kept[0])}"
        where = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
        raise UsageError(wrong, where=where, do=f"give {in_words(hint)}")


@cache
def _hints(function: Callable[..., object]) -> dict[str, Any]:
    """The types of a function's arguments; one that is imported for type checkers only is not looked at."""
    absent: dict[str, Any] = {}
    while True:
        try:
            return {**get_type_hints(function, localns=absent or None), "return": Any}
        except NameError as error:
            if not error.name or error.name in absent:
                raise
            absent[error.name] = object


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type. True is no number, and a text is no list of its letters."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is not None:
        return _is_container(value, origin, parts) and not any(_wrong_parts(value, hint))
    if hint in (Any, object):
        return True
    if hint is bool:
        return type(value).__name__ in FLAGS
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    if Protocol in hint.__bases__:  # its properties would be computed if Python checked it
        methods = [name for name, member in vars(hint).items() if name[0] != "_" and callable(member)]
        return all(callable(getattr(type(value), name, None)) for name in methods)
    return isinstance(value, hint)


def _is_container(value: object, origin: Any, parts: tuple[Any, ...]) -> bool:
    """Whether a value is what holds the parts of a type; that of a Literal is a text, that of a function is one."""
    if origin is Literal:
        return isinstance(value, str)
    if origin is collections.abc.Callable:
        return callable(value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(value, str | bytes | Mapping) or not hasattr(type(value), "__iter__"):
        return False
    if origin is tuple:
        return isinstance(value, tuple | list) and len(value) == len(parts)
    return origin is collections.abc.Iterable or isinstance(value, Sized)


def _wrong_parts(value: object, hint: Any) -> Iterator[tuple[object]]:
    """What a container holds that is of another type than its hint says; nothing if it is no container of the hint's.

    What can be read once only is not looked into.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        fitting = [
            part for part in parts if get_origin(part) and _is_container(value, get_origin(part), get_args(part))
        ]
        hint = fitting[0] if fitting else None
        origin, parts = get_origin(hint), get_args(hint)
    if origin in (None, Literal, collections.abc.Callable) or not _is_container(value, origin, parts):
        return
    if isinstance(value, Mapping):
        pairs = [(part, parts[side]) for item in value.items() for side, part in enumerate(item)]
    elif isinstance(value, Sized):
        held: list[Any] = list(value)  # type: ignore[call-overload]
        pairs = list(zip(held, parts if origin is tuple else parts * len(held), strict=True))
    else:
        return
    yield from ((part,) for part, wanted in pairs if not _fits(part, wanted))


def _shown(value: object) -> str:
    """A short value as it is, of any other its type."""
    if value is None or isinstance(value, str | Path | bool | int | float):
        return shortened(repr(value))
    name = type(value).__name__
    return f"{_article(name)} {name}"


def in_words(hint: Any) -> str:
    """What a type asks for, in words: 'a text, a path or None'."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words = dict.fromkeys(_part_in_words(part) for part in parts)
    if {"a text", "a path"} <= words.keys():
        words = {"a name": None} | {word: None for word in words if word != "a text"}
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _part_in_words(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        *first, last = map(repr, parts)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is collections.abc.Callable:
        return "a function"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a dictionary"
    if origin is not None:
        return f"a list of {SEVERAL[parts[0]]}" if parts[0] in SEVERAL else "a list"
    return WORDS[hint] if hint in WORDS else f"{_article(hint.__name__)} {hint.__name__}"


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOUaeiou" else "a"
