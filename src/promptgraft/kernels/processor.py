"""The processor's name and instructions are read from the system."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

LIST = Path("/proc/cpuinfo")
"""Where Linux has it, on x86-64 with the sets of instructions."""


def name() -> str:
    """The processor's name, as far as the system says."""
    return _facts(LIST).get("model name", "") or platform.processor()


def instructions() -> frozenset[str]:
    """The sets of instructions that the processor and the system have, by Linux's names; empty on other systems."""
    return frozenset(_facts(LIST).get("flags", "").split())


@cache
def _facts(file: Path) -> dict[str, str]:
    """The facts about the first processor in the system's list."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    return facts
