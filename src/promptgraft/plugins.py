"""Loads what other packages register through entry points, when a registry is first used."""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points

LOADED: set[str] = set()


def load(group: str) -> None:
    """Import the entry points of a group from all installed packages, once.

    A registry calls this when it is first used, not when it is imported: a module that registers a method, a readout
    and a measure imports all three rooms itself. One that cannot be imported is left out, with a warning.
    """
    if group in LOADED:
        return
    LOADED.add(group)
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:  # whatever another package's module does when it is imported
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            warnings.warn(f"{group}: {entry.name} ({entry.value}) is left out: {reason}", stacklevel=2)
