"""docs/architecture.md names rooms, files and classes that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "promptgraft"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_no_room_is_on_the_page_that_is_not_built() -> None:
    listed = re.findall(r"^  ([a-z]+(?:/|\.py)) ", PAGE, re.MULTILINE)
    assert len(listed) > 10
    assert [room for room in listed if not (PACKAGE / room).exists()] == []


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`([a-z_]+/[a-z_]+\.py)`", PAGE))))
def test_the_files_it_names_are_there(file: str) -> None:
    assert any((folder / file).is_file() for folder in (PACKAGE, PACKAGE / "kernels", ROOT))


@pytest.mark.parametrize(("names", "file"), re.findall(r"^\| (`[A-Z].*?) \| `(\w+/\w+\.py)` \|", PAGE, re.MULTILINE))
def test_the_contracts_are_where_it_says(names: str, file: str) -> None:
    source = (PACKAGE / file).read_text(encoding="utf-8")
    for name in re.findall(r"`(\w+)`", names):
        assert re.search(rf"^class {name}\b", source, re.MULTILINE), name
