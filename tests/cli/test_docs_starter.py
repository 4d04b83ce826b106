"""docs/starter.md says what is in the starter bank."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_the_page_is_made_from_the_cards(root: Path) -> None:
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), *sys.path])}
    script = root / "scripts" / "starter_page.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=surroundings)
    kept = (root / "docs" / "starter.md").read_text(encoding="utf-8")
    assert made.stdout == kept, "python scripts/starter_page.py > docs/starter.md"


def test_every_prompt_of_the_bank_is_on_the_page(root: Path) -> None:
    page = (root / "docs" / "starter.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z0-9_]+)` \|", page, re.MULTILINE)
    held = sorted(path.parent.name for path in (root / "src/promptgraft/bank/starter").glob("*/card.json"))
    assert sorted(listed) == held
    assert len(held) >= 16
