"""What this machine's processor is called."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def name() -> str:
    """The processor's name, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
