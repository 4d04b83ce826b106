"""`promptgraft --help` answers at once because it imports nothing heavy."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "pyarrow", "datasets")


def imported_by(module: str) -> list[str]:
    """The heavy packages that a fresh interpreter has loaded after importing a module."""
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    "module", ["promptgraft", "promptgraft.cli.main", "promptgraft.errors", "promptgraft.task.task"]
)
def test_imports_nothing_heavy(module: str) -> None:
    package = module.rpartition(".")[0]
    if package and (importlib.util.find_spec(package) is None or importlib.util.find_spec(module) is None):
        pytest.skip(f"{module} is not written yet")
    assert imported_by(module) == []
