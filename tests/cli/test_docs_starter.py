"""docs/starter.md says what is in the starter banks, and scripts/build_starter.py what is to be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from promptgraft.bank.bank import Summary, open_bank


def test_the_page_is_made_from_the_cards(root: Path) -> None:
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), *sys.path])}
    script = root / "scripts" / "starter_page.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=surroundings)
    kept = (root / "docs" / "starter.md").read_text(encoding="utf-8")
    assert made.stdout == kept, "python scripts/starter_page.py > docs/starter.md"


def test_every_prompt_of_the_banks_is_on_the_page(root: Path) -> None:
    page = (root / "docs" / "starter.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    tables = {text.split("\n", 1)[0]: re.findall(r"^\| `([a-z0-9_]+)` \|", text, re.MULTILINE) for text in sections}
    held: dict[str, list[str]] = {}
    for path in sorted((root / "src/promptgraft/bank/starter").glob("*/*/card.json")):
        held.setdefault(path.parent.parent.name, []).append(path.parent.name)
    assert {model: sorted(names) for model, names in tables.items() if names} == held


def shipped() -> list[Summary]:
    return open_bank("starter").list()


def test_there_are_prompts_for_three_models_and_many_are_chinese() -> None:
    models = Counter(entry.card.backbone.name for entry in shipped())
    assert models["minilm"] >= 28
    assert models["e5-small"] >= 16
    assert models["bge-small-en"] >= 12
    assert sum(entry.card.task.language == "zh" for entry in shipped()) >= 8


def test_every_prompt_says_what_its_labels_mean_whose_data_it_is_and_how_well_it_does() -> None:
    for entry in shipped():
        task = entry.card.task
        assert entry.name == f"{entry.card.backbone.name}/{task.name}"
        assert task.licence, entry.name
        assert not re.search(r"\bNC\b|[Tt]witter's terms|Yelp|Quora|Yahoo|^not stated", task.licence), entry.name
        assert entry.card.scores["test"].low is not None, entry.name
        assert all(task.labels.values()), entry.name


@pytest.mark.slow
def test_every_prompt_is_stored_in_16_bits_and_whole() -> None:
    bank = open_bank("starter")
    assert bank.verify() == ()
    assert all(bank.load(name).half for name in bank.names())
