"""What was predicted of a job beside what it took: `api.estimate`, then the job itself.

    python benchmarks/estimate.py [--models splade-tiny,minilm] [--target examples/data/home_reviews] [--rounds 3]

Jobs at 8 rows a class and 2 seeds: `tune`, `tune` of the whole model, `transfer` with its baselines, `compare` with all
methods. Each in a process of its own, nothing in any cache but the models: the estimate first (its calibration is in no
figure), then the job, whose seconds are those of the call, loading not counted, and whose peak memory is that of its
process; so `--rounds` times, and a ratio is that of one estimate and the job that followed.
Prints JSON and writes benchmarks/results/estimate.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import common
from common import Row

from promptgraft import api

JOBS = ("tune", "tune the model", "transfer", "compare")
SHOTS = 8


def main() -> None:
    parser = common.parser(__doc__, models="splade-tiny,minilm", rounds=3)
    parser.add_argument("--target", type=Path, default=common.TARGET)
    parser.add_argument("--bank")
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    if options.alone:
        print(json.dumps(predicted(options) if options.alone.startswith("estimate ") else actual(options)))
        return
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            bank = options.bank or common.bank_for(model, api.open_task(options.target), folder, **changes(options))
            common.write(__file__, [row(options, model, bank, job) for job in JOBS], options.out)


def changes(options: argparse.Namespace) -> dict[str, int]:
    """What a quick call changes in the recipe."""
    return {"steps": 4, "evaluations": 2} if options.quick else {}


def row(options: argparse.Namespace, model: str, bank: str, job: str) -> Row:
    """One job: predicted and done `--rounds` times, a prediction and a run at a time."""
    words = ["--models", common.model_folder(model), "--bank", bank, "--target", options.target]
    words += ["--quick"] if options.quick else []
    pairs = [
        (common.alone(__file__, *words, "--alone", f"estimate {job}"), common.alone(__file__, *words, "--alone", job))
        for _ in range(options.rounds)
    ]
    said, peak = pairs[0][0]["peak"], max(done["peak"] for _, done in pairs)
    return {
        "model": model,
        "path": "promptgraft",
        "job": job,
        **common.spread("predicted_seconds", [said["seconds"] for said, _ in pairs], 2),
        **common.spread("seconds", [done["seconds"] for _, done in pairs], 2),
        **common.spread("predicted_over_seconds", [said["seconds"] / done["seconds"] for said, done in pairs], 3),
        "predicted_mib": round(said, 1),
        "peak_memory_mib": round(peak, 1),
        "predicted_over_memory": round(said / peak, 3),
        "rounds": options.rounds,
    }


def arguments(options: argparse.Namespace, job: str) -> dict[str, Any]:
    """What a job is called with."""
    given = {"shots": SHOTS, "seeds": (0, 1), **changes(options)}
    return given | ({"method": "model-tuning"} if job == "tune the model" else {})


def predicted(options: argparse.Namespace) -> Row:
    """The estimate."""
    backbone, job = api.open_model(options.models), options.alone.removeprefix("estimate ")
    common.warm(backbone)
    bank = None if job.startswith("tune") else options.bank
    said = api.estimate(job.split()[0], options.target, backbone, bank, **arguments(options, job))
    return {"seconds": said.seconds, "peak": said.mebibytes}


def actual(options: argparse.Namespace) -> Row:
    """The job."""
    backbone, job = api.open_model(options.models), options.alone
    common.warm(backbone)
    given, task = arguments(options, job), api.open_task(options.target)
    calls = {
        "tune": lambda: api.tune(task, backbone, **given),
        "tune the model": lambda: api.tune(task, backbone, **given),
        "transfer": lambda: api.transfer(task, backbone, options.bank, **given),
        "compare": lambda: api.compare(task, backbone, options.bank, **given),
    }
    return {"seconds": common.timed(calls[job]), "peak": common.peak()}


if __name__ == "__main__":
    main()
