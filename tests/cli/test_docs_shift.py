"""The page on text unlike the labelled rows is what its script makes of the results that are kept."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def shift(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(root / "scripts")
    monkeypatch.chdir(root)
    return importlib.import_module("shift")


def test_the_page_is_made_of_the_results(shift: ModuleType, root: Path) -> None:
    assert (root / "docs/results/shift.md").read_text(encoding="utf-8") == shift.page(shift.read_rows())


def test_every_model_answers_every_task(shift: ModuleType) -> None:
    answered: dict[tuple[str, str, str], set[str]] = {}
    for row in shift.read_rows():
        answered.setdefault((row["trained_on"], row["labels"], row["seed"]), set()).add(row["tested_on"])
    for (trained_on, _, _), tested_on in answered.items():
        assert tested_on == {trained_on, *shift.TARGETS[trained_on], shift.OFF[trained_on]}
    assert {labels for _, labels, _ in answered} == {str(shots) for shots in shift.SHOTS}


def test_errors_are_over_all_answers(shift: ModuleType) -> None:
    rows = [
        {"rows": "100", "coverage": "0.1", "error_at_risk": "0.5"},
        {"rows": "100", "coverage": "0.3", "error_at_risk": "0.1"},
        {"rows": "100", "coverage": "0", "error_at_risk": ""},
    ]
    assert shift.pooled(rows, "coverage", "error_at_risk") == "20.0"
    assert shift.pooled(rows[2:], "coverage", "error_at_risk") == "none given"
