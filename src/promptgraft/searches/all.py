"""The registry of algorithms is looked up here, plugins included; no module that registers one imports this one."""

from __future__ import annotations

from collections.abc import Mapping

from promptgraft.errors import unknown
from promptgraft.plugins import load
from promptgraft.searches import (
    autoprompt,
    demonstrated,
    evolution,
    fixed,
    grips,
    label_words,
    proposed,
    random_search,
    reinforced,
    spans,
    vectors,
)
from promptgraft.searches.algorithm import ALGORITHMS, Algorithm

__all__ = [
    "PLACEBOS",
    "algorithms",
    "autoprompt",
    "demonstrated",
    "evolution",
    "find",
    "fixed",
    "grips",
    "label_words",
    "proposed",
    "random_search",
    "reinforced",
    "spans",
    "vectors",
]

PLACEBOS = ("none", "library", "random")
"""What stands beside every search, at the same budget."""


def algorithms() -> Mapping[str, type[Algorithm]]:
    """All algorithms by name."""
    load("promptgraft.algorithms")
    return ALGORITHMS


def find(name: str) -> type[Algorithm]:
    """Look up an algorithm by name; an unknown name raises an error with the nearest one."""
    if name not in algorithms():
        raise unknown("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
