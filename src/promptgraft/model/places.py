"""The folders of models outside the catalog are remembered on this machine, by fingerprint.

What is given away (cards, pages, archives) names a model and never its folder; so the folder is remembered here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from promptgraft.errors import ModelError, PromptgraftError
from promptgraft.model.home import home
from promptgraft.prompt.atomic import write_text
from promptgraft.untrusted import read_bytes

LONGEST = 1 << 16
"""Bytes of a path, far more than any system allows."""


def remember(fingerprint: str, folder: Path) -> None:
    """Remember a model's folder; if the home cannot be written, a user only has to name the folder again."""
    file = _file(fingerprint)
    if file is None or place_of(fingerprint) == folder.resolve():
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, str(folder.resolve()))


def place_of(fingerprint: str) -> Path | None:
    """The folder of a model that was used here, if it is still there."""
    file = _file(fingerprint)
    if file is None:
        return None
    try:
        folder = Path(read_bytes(file, LONGEST, ModelError).decode())
    except (PromptgraftError, UnicodeDecodeError):
        return None
    return folder if (folder / "config.json").is_file() else None


def _file(fingerprint: str) -> Path | None:
    """The file that remembers a model; None for what is no fingerprint, since a card may say anything."""
    return home() / "places" / fingerprint if re.fullmatch("[0-9a-f]{64}", fingerprint) else None
