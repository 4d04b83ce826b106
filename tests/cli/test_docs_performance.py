"""The page on performance is what its script makes of the results that are kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_page_is_current(root: Path) -> None:
    command = [sys.executable, "scripts/performance_page.py"]
    made = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    page = (root / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page == made, "remake it: python scripts/performance_page.py > docs/performance.md"
