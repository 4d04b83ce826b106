"""config.json of a model folder is read within limits, and its numbers are checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptgraft.errors import ModelError
from promptgraft.untrusted import read_bytes, read_json, visible

LARGEST_FILE = 64 << 20
"""Bytes of a model's JSON beside its weights; the largest index of shards known has some two million."""
MOST = 1 << 24
"""Of a size: the largest table of words known has 1.2 million rows."""
MOST_LAYERS = 1000


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a model folder.

    Raises:
        ModelError: it is missing, or no JSON object.
    """
    path = folder / "config.json"
    config = read_json(read_bytes(path, LARGEST_FILE, ModelError), path, ModelError)
    if not isinstance(config, dict):
        raise ModelError("is not a JSON object", where=path)
    return config


def read_optional(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file that may be missing; empty if it is.

    Raises:
        ModelError: it is there and no JSON.
    """
    if not path.is_file():
        return {}
    content = read_json(read_bytes(path, LARGEST_FILE, ModelError), path, ModelError)
    return content if isinstance(content, dict) else {}


def whole(
    config: Mapping[str, Any], name: str, where: str, default: int | None = None, *, least: int = 1, most: int = MOST
) -> int:
    """Read a whole number of config.json.

    Raises:
        ModelError: it is missing and has no default, no whole number, or out of range.
    """
    value = config.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise _unusable(name, value, where)
    return value


def positive(config: Mapping[str, Any], name: str, where: str, default: float) -> float:
    """Read a number of config.json that must be above zero and finite.

    Raises:
        ModelError: it is not.
    """
    value = config.get(name, default)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise _unusable(name, value, where)
    return float(value)


def _unusable(name: str, value: object, where: str) -> ModelError:
    shown = visible(repr(value))[:60]
    return ModelError(f"config.json lacks a usable {name!r} (it has {shown})", where=where)
