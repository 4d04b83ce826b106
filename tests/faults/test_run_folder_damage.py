"""A run folder that lost a file, or holds a damaged one: the same command makes it anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from command import call

ROWS = "text,label\n" + "fine pan,good\nawful pan,bad\n" * 6


def lost(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def nested(file: Path) -> None:
    file.write_text("[" * 3000 + "]" * 3000)


def long_number(file: Path) -> None:
    file.write_text('{"a": ' + "9" * 5000 + "}")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((f"{place}/{name}", lost) for place in ("jobs/*/artefact", "artefact") for name in (
            "card.json", "prompt.safetensors"
        )),
        *((name, damage) for name in (
            "jobs/*/result.json", "jobs/*/artefact/card.json", "artefact/card.json"
        ) for damage in (cut, nested, long_number)),
        ("jobs/*/result.json", lost),
    ],
)  # fmt: skip
def test_the_same_command_makes_it_anew(
    name: str, damage: Callable[[Path], None], splade_tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text(ROWS)
    words = ["tune", tmp_path / "data.csv", "--model", splade_tiny, "--method", "linear-probe", "--shots", 2]
    words += ["--out", tmp_path / "run", "--quiet"]
    first = call(*words)
    assert first.status == 0, first.err
    [file] = (tmp_path / "run").glob(name)
    damage(file)
    again = call(*words)
    assert (again.status, again.err) == (0, "")
    assert file.is_file()
    assert call("predict", tmp_path / "run", "--text", "fine pan", "--model", splade_tiny).status == 0
