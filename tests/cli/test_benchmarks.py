"""Every benchmark runs in its quick form and says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = {
    "model",
    "lengths",
    "path",
    "ratio_to_peft_default",
    "ratio_to_peft_tuned",
    "peak_memory_ratio",
    "machine",
    "commit",
}
SLOW = pytest.mark.slow


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        "many_prompts",
        *(pytest.param(name, marks=SLOW) for name in ("train_step", "mixed_batch", "panda_job", "compare_job")),
        pytest.param("scaling", marks=SLOW),
    ],
)
def test_a_quick_run_has_the_promised_figures(name: str, root: Path, tmp_path: Path, splade_tiny: Path) -> None:
    command = [sys.executable, f"benchmarks/{name}.py", "--quick", "--models", str(splade_tiny), "--out", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    rows = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert rows
    assert all(row.keys() >= KEYS for row in rows)
    assert any(row["path"].startswith("promptgraft") for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_says_what_was_predicted_and_what_it_took(root: Path, tmp_path: Path, splade_tiny: Path) -> None:
    command = [
        sys.executable,
        "benchmarks/estimate.py",
        "--quick",
        "--models",
        str(splade_tiny),
        "--out",
        str(tmp_path),
    ]
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    rows = json.loads((tmp_path / "estimate.json").read_text(encoding="utf-8"))
    assert [row["job"] for row in rows] == ["tune", "tune the model", "transfer", "compare"]
    for row in rows:
        assert row["predicted_seconds"] > 0
        assert row["seconds"] > 0
        assert 0.3 < row["predicted_over_memory"] < 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_says_what_int8_gives_up(root: Path, tmp_path: Path, splade_tiny: Path) -> None:
    command = [sys.executable, "benchmarks/int8.py", "--quick", "--models", str(splade_tiny), "--out", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    rows = json.loads((tmp_path / "int8.json").read_text(encoding="utf-8"))
    ours = [row for row in rows if row["path"] == "promptgraft int8"]
    assert [row["job"] for row in ours] == ["forward", "prompt", "linear probe"]
    assert ours[0]["ratio_to_fp32"] > 0
    assert 0 <= ours[1]["same_as_fp32"] <= 1
    assert all(0 <= row["score"] <= 100 for row in ours[1:])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_ranks_as_a_user_does(root: Path, tmp_path: Path, minilm: Path) -> None:
    assert minilm.is_dir()
    command = [sys.executable, "benchmarks/demo.py", "--quick", "--models", "minilm", "--out", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    [row] = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert row["what"] == "rank"
    assert row["seconds"] > 0
    assert row["processor"]
