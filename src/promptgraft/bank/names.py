"""Names that artefacts of a bank may have: safe as folder names everywhere."""

from __future__ import annotations

import re
import unicodedata

from promptgraft.errors import BankError

SAFE = re.compile(r"\w[\w.@+=-]*")
LONGEST = 120  # bytes; leaves room for the ends that atomic writes add (file systems allow 255)


def check_name(name: str) -> str:
    """The name in Unicode's composed form.

    Raises:
        BankError: letters, digits and `_ . @ + = -` only, no dot or sign first, not too long.
    """
    plain = unicodedata.normalize("NFC", name)
    if not SAFE.fullmatch(plain) or plain.endswith(".") or len(plain.encode()) > LONGEST:
        do = f"use letters, digits and _ . @ + = -, beginning with a letter or digit, at most {LONGEST} bytes"
        raise BankError(f"{name!r} cannot be a name in a bank", do=do)
    return plain


def name_from(text: str) -> str:
    """A name made from free text (a task's name); what is not allowed becomes a hyphen."""
    plain = re.sub(r"[^\w.@+=-]+", "-", unicodedata.normalize("NFC", text)).strip(".@+=-")
    return plain.encode()[:LONGEST].decode(errors="ignore").rstrip(".") or "prompt"
