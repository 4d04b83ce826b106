"""python -m promptgraft VERB ..."""

from __future__ import annotations

from promptgraft.cli.main import app

app(prog_name="promptgraft")
