"""promptgraft keeps models and caches in a home folder; all of it may be deleted at any time."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from promptgraft.untrusted import at_home


def home() -> Path:
    """The home folder: `$PROMPTGRAFT_HOME`, else the platform's cache folder; it need not exist yet."""
    chosen = os.environ.get("PROMPTGRAFT_HOME")
    return at_home(chosen) if chosen else platformdirs.user_cache_path("promptgraft", appauthor=False)


def models() -> Path:
    """The folder that holds the folders of pulled models."""
    return home() / "models"
