"""docs/architecture.md names every room there is, and draws the layers that are checked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def page(root: Path) -> str:
    return (root / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_drawn_layers_are_the_checked_ones(root: Path) -> None:
    contracts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    checked = [re.sub(r"[()]", "", layer) for layer in contracts["contracts"][0]["layers"]]
    assert "\n".join(["```", *checked, "```"]) in page(root)


def test_every_room_is_on_the_page(root: Path) -> None:
    package = root / "src" / "promptgraft"
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    rooms |= {path.name for path in package.glob("[!_]*.py")}
    listed = set(re.findall(r"^  ([a-z]+(?:/|\.py)) ", page(root), flags=re.MULTILINE))
    assert len(rooms) > 10
    assert rooms <= listed
