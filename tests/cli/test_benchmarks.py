"""Every benchmark runs in its quick form and says what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from promptgraft.kernels.native.library import SWITCH, able

KEYS = {
    "processor",
    "mimicked",
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
TORCH = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
ABLER = pytest.mark.skipif(
    not any(can for variant, can in able().items() if variant != "avx2"),
    reason="this processor has no more than AVX2, so there is none that it could mimic",
)


def surroundings(**given: str) -> dict[str, str]:
    """This process's, with nothing that chooses instructions but what is given."""
    return {name: value for name, value in os.environ.items() if name not in {SWITCH, *TORCH}} | given


def helper(root: Path, program: str, **given: str) -> subprocess.CompletedProcess[str]:
    """A program of one line beside the benchmarks' own modules."""
    command = [sys.executable, "-c", program]
    found = surroundings(PYTHONPATH=str(root / "benchmarks"), **given)
    return subprocess.run(command, capture_output=True, text=True, check=False, env=found)


def row(kind: str, model: str, path: str, figure: float, *, mimicked: bool = False) -> dict[str, Any]:
    return {"processor": kind, "mimicked": mimicked, "model": model, "path": path, "milliseconds": figure}


def test_a_run_replaces_the_rows_of_its_own_class_and_settings(root: Path) -> None:
    kept = [
        row("amx", "small", "ours", 1),
        row("amx", "small", "theirs", 2),
        row("avx2", "small", "ours", 3),
        row("avx2", "small", "ours", 4, mimicked=True),
        row("amx", "large", "ours", 5),
    ]
    new = [row("avx2", "small", "ours", 6, mimicked=True), row("avx2", "large", "ours", 7, mimicked=True)]
    done = helper(root, f"import json, keep; print(json.dumps(keep.merged({kept}, {new})))")
    assert json.loads(done.stdout) == [kept[0], kept[1], kept[2], new[0], kept[4], new[1]]


@ABLER
@pytest.mark.parametrize("native", ["avx2", "0"])
def test_a_lesser_class_is_mimicked_whole(native: str, root: Path) -> None:
    done = helper(root, "import processor; print(*processor.processor())", **TORCH, **{SWITCH: native})
    assert done.stdout.split() == ["avx2", "True"]


@ABLER
@pytest.mark.parametrize(
    "part",
    [
        {SWITCH: "avx2"},
        TORCH,
        {"ATEN_CPU_CAPABILITY": "avx2", SWITCH: "avx2"},
        {**TORCH, "ONEDNN_MAX_CPU_ISA": "SSE41"},
    ],
    ids=["ours alone", "torch alone", "a part of torch", "two classes"],
)
def test_what_is_mimicked_in_part_is_refused_in_one_line(part: dict[str, str], root: Path) -> None:
    done = helper(root, "import processor; processor.processor()", **part)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "--mimic avx2" in done.stderr


@ABLER
@SLOW
@pytest.mark.timeout(900)
def test_a_mimicked_run_stands_beside_a_real_one(root: Path, tmp_path: Path, splade_tiny: Path) -> None:
    command = [sys.executable, "benchmarks/many_prompts.py", "--quick", "--models", str(splade_tiny), "--out"]
    for more in ([], ["--mimic", "avx2"]):
        words = [*command, str(tmp_path), *more]
        subprocess.run(words, cwd=root, check=True, capture_output=True, text=True, env=surroundings())
    rows = json.loads((tmp_path / "many_prompts.json").read_text(encoding="utf-8"))
    assert {(one["processor"], one["mimicked"]) for one in rows} > {("avx2", True)}


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
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=surroundings())
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
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=surroundings())
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
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=surroundings())
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
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=surroundings())
    [row] = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert row["what"] == "rank"
    assert row["seconds"] > 0
    assert row["processor"]


@pytest.mark.slow
def test_a_small_run_of_the_large_model_has_every_path(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/large.py", "--small", "--repeats", "1", "--out", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=surroundings())
    rows = json.loads((tmp_path / "large.json").read_text(encoding="utf-8"))
    for path in ("bf16", "int8", "int4"):
        whats = {row["what"] for row in rows if row["path"] == path}
        assert whats >= {"take", "train", "train again", "many", "score", "generate"}
    assert {row["what"] for row in rows if "peft" in row["path"]} == {"train", "many", "generate"}
    assert next(row["cosine"] for row in rows if row["what"] == "agreement") > 0.98
