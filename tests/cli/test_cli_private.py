"""What leaves the machine names the model, and never where it lies."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from command import QUICK, Command, Tuned

ROWS = "text,label\n" + "fine pan,good\nawful pan,bad\n" * 6
SECRET = "home-of-alice"


@pytest.fixture
def model(splade_tiny: Path, tmp_path: Path) -> Path:
    """A model in a folder that is no one's business."""
    folder = tmp_path / SECRET / "mymodel"
    shutil.copytree(splade_tiny, folder, ignore=shutil.ignore_patterns("source.json"))
    return folder


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_what_is_exported_names_no_folder(done: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(ROWS)
    words = ["--placement", "peft", "--pooling", "mean", "--readout", "linear", "--shots", 2, *QUICK]
    bank = tmp_path / "bank"
    done("tune", tmp_path / "data.csv", "--model", model, "--out", tmp_path / "run", "--bank", bank, *words)
    done("bank", "export", bank, "data", tmp_path / "data.zip")
    done("bank", "export", bank, "data", tmp_path / "peft", "--peft", "--differing")
    with zipfile.ZipFile(tmp_path / "data.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    for folder in (tmp_path / "run/artefact", bank, tmp_path / "unpacked", tmp_path / "peft"):
        assert SECRET.encode() not in contents(folder), folder
        assert b"mymodel" in contents(folder), folder


def test_a_page_names_no_folder(
    done: Command, model: Path, tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / SECRET / "data.csv"
    data.write_text(ROWS)
    out = tmp_path / "out"
    words = ["compare", data, f"--model={model}", "--bank", tuned.bank, "--methods", "linear-probe", "--out", out]
    words += ["--shots", 2, "--seeds", 2, "--source", "shop_questions_zh"]
    monkeypatch.setattr(sys, "argv", ["promptgraft", *map(str, words)])
    done(*words)
    page = (out / "report.html").read_text()
    assert str(tmp_path) not in page + (out / "results.csv").read_text()
    assert "promptgraft compare data.csv --model=mymodel" in page
