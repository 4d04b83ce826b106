"""The registry of readouts is looked up here, plugins included; no module that registers a readout imports this one."""

from __future__ import annotations

from collections.abc import Mapping

from promptgraft.errors import unknown
from promptgraft.plugins import load
from promptgraft.readout import (
    choice,
    completion,
    detector,
    direction,
    label_text,
    linear,
    multilabel,
    option_prior,
    prototype,
    regression,
    soft_verbalizer,
    span,
    tagging,
    verbalizer,
    written,
)
from promptgraft.readout.readout import READOUTS, Readout

__all__ = [
    "choice",
    "completion",
    "detector",
    "direction",
    "find",
    "label_text",
    "linear",
    "multilabel",
    "option_prior",
    "prototype",
    "readouts",
    "regression",
    "soft_verbalizer",
    "span",
    "tagging",
    "verbalizer",
    "written",
]


def readouts() -> Mapping[str, type[Readout]]:
    """All readouts by name."""
    load("promptgraft.readouts")
    return READOUTS


def find(name: str) -> type[Readout]:
    """Look up a readout by name; an unknown name raises an error with the nearest one."""
    if name not in readouts():
        raise unknown("readout", name, READOUTS)
    return READOUTS[name]
