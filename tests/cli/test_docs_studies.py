"""The pages on extending and on choosing rows say what their tables of results hold."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["extend", "suggest"])
def test_the_page_is_made_of_the_figures(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root / "scripts")
    study = importlib.import_module(f"{name}_study")
    kept = (root / "docs" / "results" / f"{name}.md").read_text(encoding="utf-8")
    assert kept == study.page(study.read_rows()), f"remake it: python scripts/{name}_study.py write"
