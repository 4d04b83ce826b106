"""What is built installs into a clean environment, with a C++ compiler and without, and works there.

The environment has an interpreter of its own and this one's other packages, so that nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from command import Tuned
from promptgraft.kernels.native.build import compiler, is_made_for_this_machine
from promptgraft.kernels.native.library import SWITCH, able

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUESTIONS = ("退货", "物流", "发票", "商品咨询")
OLD_COMPILER = """#!/bin/sh
case "$*" in *-mavx512*) echo "cc: error: unrecognized command line option '-mavx512f'" >&2; exit 1;; esac
exec {compiler} "$@"
"""
RUN = tuple(name for name, can in able().items() if can and is_made_for_this_machine())

"""The variants that this processor can run, the ablest first."""

ABLEST = {SWITCH: RUN[0]} if RUN else {}


@dataclass(frozen=True)
class Environment:
    """A clean environment, and what its commands see: only its own programs."""

    folder: Path
    surroundings: dict[str, str]

    def install(self, archive: Path, **more: str) -> None:
        """pip install ARCHIVE, without a network; `more` is added to the environment variables."""
        words = ["install", "--no-index", "--no-build-isolation", "--disable-pip-version-check", str(archive)]
        pip = [sys.executable, "-m", "pip", "--python", str(self.folder / "bin" / "python"), *words]
        done = subprocess.run(pip, env=self.surroundings | more, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def call(self, *words: object, **more: str) -> str:
        """promptgraft WORDS..., from a folder where the repository is out of sight; gives what it printed."""
        command = [str(self.folder / "bin" / "promptgraft"), *map(str, words)]
        surroundings = self.surroundings | more
        done = subprocess.run(command, cwd=self.folder, env=surroundings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def doctor(self, **more: str) -> dict[str, str]:
        """What `promptgraft doctor` found, by its subject."""
        rows: list[dict[str, Any]] = json.loads(self.call("doctor", "--json", **more))
        return {row["what"]: row["state"] for row in rows}

    def prediction(self, tuned: Tuned, model: Path) -> str:
        """What `promptgraft predict` labels a question."""
        words = ("predict", tuned.run, "--text", "买的杯子碎了，可以退款吗？", "--model", model, "--json")
        [row] = json.loads(self.call(*words))
        return str(row["prediction"])


@pytest.fixture
def environment(tmp_path: Path, home: Path) -> Environment:
    """A clean environment without a compiler; its other packages are those of the one that runs the tests."""
    others = tmp_path / "others"
    others.mkdir()
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "promptgraft" not in path.name:
            (others / path.name).symlink_to(path)
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{others}\n", encoding="utf-8")
    left_out = ("CXX", "PYTHONPATH", SWITCH)
    kept = {name: value for name, value in os.environ.items() if name not in left_out and not name.startswith("PIP_")}
    own = {"PATH": str(folder / "bin"), "PROMPTGRAFT_HOME": str(home), "PIP_CONFIG_FILE": os.devnull}
    return Environment(folder, kept | own)


@pytest.fixture(scope="module")
def archives(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what `make wheel` makes."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    whole = {name: value for name, value in os.environ.items() if name != SWITCH}
    subprocess.run(command, cwd=root, env=whole, check=True, capture_output=True, text=True)
    return folder


@pytest.fixture
def wheel(archives: Path) -> Path:
    [path] = archives.glob("*.whl")
    return path


@pytest.fixture
def sdist(archives: Path) -> Path:
    [path] = archives.glob("*.tar.gz")
    return path


def test_the_wheel_works_without_a_compiler(
    environment: Environment, wheel: Path, minilm: Path, splade_tiny: Path, reviews: Path, tuned: Tuned
) -> None:
    environment.install(wheel)
    found = environment.doctor(**ABLEST)
    assert found["promptgraft"] in wheel.name
    if compiler() and RUN:
        assert found["native path"].startswith(RUN[0])
        assert "native path without" not in found
    words = ("rank", reviews, "--model", minilm, "--bank", "starter", "--shots", 2, "--json")
    ranked = json.loads(environment.call(*words, **ABLEST))["rows"]
    assert f"{len(ranked)} for minilm" in found["starter bank"]
    assert environment.prediction(tuned, splade_tiny) in QUESTIONS


def test_the_sdist_installs_without_a_compiler(
    environment: Environment, sdist: Path, splade_tiny: Path, tuned: Tuned
) -> None:
    environment.install(sdist)
    line = environment.doctor()["native path"]
    assert line.startswith("no, plain torch instead: ")
    if RUN:
        assert "not compiled when promptgraft was installed" in line
        assert "with a C++ compiler (g++) there, python -m promptgraft.kernels.native.build does that" in line
    assert environment.prediction(tuned, splade_tiny) in QUESTIONS


@pytest.mark.skipif(not RUN or not compiler(), reason="needs a C++ compiler, on Linux on x86-64")
def test_the_sdist_is_compiled_by_what_compiler_there_is(
    environment: Environment, sdist: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path
) -> None:
    old = tmp_path / "cc"
    program = [shutil.which(compiler()[0]), *compiler()[1:]]
    old.write_text(OLD_COMPILER.format(compiler=" ".join(map(str, program))), encoding="utf-8")
    old.chmod(0o755)
    environment.install(sdist, CXX=str(old), PATH=os.environ["PATH"])
    found = environment.doctor(**{SWITCH: "avx2"})
    assert found["native path"].startswith("avx2")
    if RUN != ("avx2",):
        assert found["native path without"].startswith(", ".join(name for name in RUN if name != "avx2"))
    assert environment.prediction(tuned, splade_tiny) in QUESTIONS
