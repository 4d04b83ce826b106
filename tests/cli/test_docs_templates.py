"""docs/templates.md has the library as it is, and its Python works."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest


def test_the_table_is_the_library(root: Path) -> None:
    made = runpy.run_path(str(root / "docs" / "templates.py"))
    text = (root / "docs" / "templates.md").read_text(encoding="utf-8")
    assert made["page"](text) == text, "python docs/templates.py makes it anew"


def test_the_python_works(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(root)
    text = (root / "docs" / "templates.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(code, {})
    assert "It was [mask]." in capsys.readouterr().out
