"""Where promptgraft keeps what may be deleted at any time: models and caches."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from promptgraft.untrusted import at_home


def home() -> Path:
    """`$PROMPTGRAFT_HOME`, else the platform's cache folder for promptgraft; it need not exist yet."""
    chosen = os.environ.get("PROMPTGRAFT_HOME")
    return at_home(chosen) if chosen else platformdirs.user_cache_path("promptgraft", appauthor=False)


def models() -> Path:
    """The folder that has one folder for every pulled model."""
    return home() / "models"
