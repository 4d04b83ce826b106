"""All formats, in the order in which they are tried."""

from __future__ import annotations

from promptgraft.task.formats.contract import Format

FORMATS: dict[str, Format] = {}
