"""The command line as a user calls it, in this process where that is enough and in one of its own where not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command import QUICK, Command, Said, Tuned, call


@pytest.fixture(scope="session")
def pg() -> Command:
    """promptgraft WORDS..., in this process."""
    return call


@pytest.fixture(scope="session")
def done() -> Command:
    """The same; fails with what was said where the status is not 0."""

    def run(*words: object) -> Said:
        said = call(*words)
        assert said.status == 0, said.err
        return said

    return run


@pytest.fixture
def process(home: Path) -> Callable[..., subprocess.Popen[str]]:
    """promptgraft WORDS... as a process of its own, not yet waited for; `input`: with something to read."""

    def start(
        *words: object, before: Callable[[], None] | None = None, input: bool = False, **variables: str
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "promptgraft", *map(str, words)]
        own = {"PROMPTGRAFT_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
        surroundings = os.environ | own | variables
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE if input else None}
        return subprocess.Popen(command, text=True, env=surroundings, preexec_fn=before, **pipes)

    return start


@pytest.fixture(scope="session")
def reviews(root: Path) -> Path:
    """The English sample task."""
    return root / "examples/data/home_reviews"


@pytest.fixture(scope="session")
def questions(root: Path) -> Path:
    """The Chinese sample task."""
    return root / "examples/data/shop_questions_zh"


@pytest.fixture(scope="session")
def tuned(done: Command, splade_tiny: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned")
    run, bank = folder / "run", folder / "bank"
    said = done("tune", questions, "--model", splade_tiny, "--out", run, "--bank", bank, *QUICK)
    return Tuned(run, bank, said)
