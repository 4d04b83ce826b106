"""The registry of measures is looked up here, plugins included; no module that registers a measure imports this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import get_type_hints

from pydantic import TypeAdapter, ValidationError

from promptgraft.errors import UsageError, unknown
from promptgraft.measure import label_text, probe, task_embedding
from promptgraft.measure.measure import MEASURES, Measure
from promptgraft.plugins import load

__all__ = ["find", "label_text", "make", "measures", "probe", "task_embedding"]


def measures() -> Mapping[str, type[Measure]]:
    """All measures by name."""
    load("promptgraft.measures")
    return MEASURES


def make(text: str) -> Measure:
    """Make a measure from `NAME` or `NAME:OPTION=VALUE:...`; the options are the fields of its dataclass.

    Raises:
        UsageError: a name, an option or a value that does not exist.
    """
    name, *settings = text.split(":")
    kind = find(name)
    kinds = get_type_hints(kind)
    names = {field.name: kinds[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {}
    for entry in settings:
        option, sign, value = entry.partition("=")
        if option not in names:
            raise unknown(f"option of measure {name!r}", option, names)
        try:
            values[option] = TypeAdapter(names[option]).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"].partition(", unable to parse")[0] if sign else "it has no '='"
            do = f"write {name}:{option}=VALUE"
            raise UsageError(f"option {entry!r} of measure {name!r}: {message}", do=do) from None
    return kind(**values)


def find(name: str) -> type[Measure]:
    """Look up a measure's class by name; an unknown name raises an error with the nearest one."""
    if name not in measures():
        raise unknown("measure", name, MEASURES)
    return MEASURES[name]
