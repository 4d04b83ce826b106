"""What people run first works: the demo and the first example from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command import Command


def test_the_demo_is_a_whole_script(root: Path) -> None:
    subprocess.run(["bash", "-n", root / "examples" / "demo.sh"], check=True)


@pytest.mark.slow
def test_the_first_example(root: Path, pg: Command, home: Path, minilm: Path) -> None:
    if pg("bank", "list", "starter").status:
        pytest.skip("the starter bank is not built yet: run the script that does")
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
