"""What the system says of this machine's processor."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

LIST = Path("/proc/cpuinfo")
"""Where Linux has it, on x86-64 with the sets of instructions."""


def name() -> str:
    """The processor's name, as far as the system says."""
    return _listed(LIST).get("model name", "") or platform.processor()


def instructions() -> frozenset[str]:
    """The sets of instructions that the processor and the system have, by Linux's names; empty on other systems."""
    return frozenset(_listed(LIST).get("flags", "").split())


@cache
def _listed(file: Path) -> dict[str, str]:
    """What the list says of the first processor."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found
