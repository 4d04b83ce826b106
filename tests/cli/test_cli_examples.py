"""What people run first works: the demo and the first example from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_demo_is_a_whole_script(root: Path) -> None:
    read = subprocess.run(["bash", "-n", root / "examples" / "demo.sh"], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.slow
def test_the_first_example(root: Path, home: Path, minilm: Path) -> None:
    environment = os.environ | {"PROMPTGRAFT_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "examples/quickstart.py"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *ranked, result = done.stdout.splitlines()
    assert len(ranked) == 3
    assert result.endswith(("['negative']", "['positive']"))
