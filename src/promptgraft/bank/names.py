"""Checks the names of a bank's artefacts, which must be safe as folder names on every system."""

from __future__ import annotations

import unicodedata

from promptgraft.errors import BankError
from promptgraft.untrusted import file_name

DEFAULT = "prompt"
"""The name of an artefact whose task's name has no letter."""


def check_name(name: str) -> str:
    """The name in Unicode's composed form.

    Raises:
        BankError: it could not be a file's name everywhere.
    """
    plain, safe = unicodedata.normalize("NFC", name), file_name(name, DEFAULT)
    if plain != safe:
        raise BankError(f"{name!r} cannot be a name in a bank", do=f"{safe!r} could be (letters, digits, _ . @ + = -)")
    return plain
