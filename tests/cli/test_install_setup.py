"""What `make` says before it sets up .venv, on Pythons that can and that cannot."""

from __future__ import annotations

import ast
import runpy
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Version = namedtuple("Version", "major minor micro")


@pytest.fixture
def script(root: Path) -> Path:
    return root / "scripts" / "before_setup.py"


@pytest.fixture
def begin(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The script in an empty folder, on Linux on x86-64, with a GPU that shows or none."""

    def run(flags: str = "", *, gpu: bool = False) -> None:
        monkeypatch.chdir(tmp_path)
        given: dict[str, Any] = runpy.run_path(str(script))
        main = given["main"]
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(given["platform"], "machine", lambda: "x86_64")
        monkeypatch.setitem(main.__globals__, "has_gpu", lambda: gpu)
        main(flags, "test")

    return run


def test_an_old_python_can_read_it(script: Path) -> None:
    """So that it, and not a syntax error, says which Python is wanted."""
    assert ast.parse(script.read_text(encoding="utf-8"), feature_version=(3, 4)).body


def test_an_old_python_is_one_line(begin: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", Version(3, 10, 1))
    monkeypatch.setattr("platform.python_version", lambda: "3.10.1")
    with pytest.raises(SystemExit) as ended:
        begin()
    line = (
        "promptgraft needs Python 3.11 or newer, and this is 3.10.1; name another Python: make PYTHON=python3.12 test"
    )
    assert ended.value.code == line


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_is_one_line(
    module: str, begin: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match=rf"^this Python has no {module} .*python3-venv.*make PYTHON=.* test$"):
        begin()


def test_without_a_gpu_the_small_build_is_named_first(
    begin: Callable[..., None], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin()
    said = capsys.readouterr().out
    command = said.splitlines()[-1].strip()
    assert "torch for\nCUDA" in said
    assert command.startswith("make PIP_FLAGS=")
    assert command.endswith(" test")
    assert command.removesuffix(" test") in (root / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(("flags", "gpu"), [("", True), ("--extra-index-url somewhere", False)])
def test_whoever_wants_cuda_or_has_chosen_hears_the_size(
    flags: str, gpu: bool, begin: Callable[..., None], script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(flags, gpu=gpu)
    size = runpy.run_path(str(script))["SIZE_WITH_CUDA" if gpu else "SIZE"]
    assert capsys.readouterr().out == f"Setting up .venv, once: {size}, some minutes.\n"


def test_what_is_there_is_brought_up_to_date(
    begin: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    begin()
    assert capsys.readouterr().out == "Bringing .venv up to date.\n"
