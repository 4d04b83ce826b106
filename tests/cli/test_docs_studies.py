"""Pages of results say what their tables of results hold; no study trains on its targets."""

from __future__ import annotations

import csv
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


def test_the_pages_on_searches_are_made_of_the_figures(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root / "scripts")
    search, bank = (importlib.import_module(name) for name in ("search", "search_bank_page"))
    made = {
        "search": search.page(search.read_rows()),
        "search-bank": bank.page(bank.read_rows(), bank.read_rows("search-bank-sources.csv")),
    }
    for name, page in made.items():
        kept = (root / "docs" / "results" / f"{name}.md").read_text(encoding="utf-8")
        assert kept == page, f"remake it: python scripts/{name.replace('-', '_')}.py write"


def test_no_banked_prompt_has_seen_what_is_searched_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root / "scripts")
    targets, sources = (importlib.import_module(name) for name in ("search", "search_bank_page"))
    assert len(sources.SOURCES) >= 10
    assert not set(targets.ENGLISH) & set(sources.SOURCES)
    with (root / "scripts" / "labels_left_out.csv").open(newline="", encoding="utf-8") as file:
        left_out = {(row["task"], row["source"]) for row in csv.DictReader(file)}
    assert not left_out & {(target, source) for target in targets.ENGLISH for source in sources.SOURCES}
