"""What other packages register: their entry points, loaded when a registry is first asked."""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points

LOADED: set[str] = set()


def load(group: str) -> None:
    """Import what installed packages name in a group of entry points, once.

    When it is asked for, not when the registry is imported: a module that registers a method, a readout and a measure
    imports all three rooms itself. One that cannot be imported is said, and left out.
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
