"""The three jobs of one source and target: prompt tuning, PoT and PANDA, ours in one call against PEFT and Trainer.

    python benchmarks/panda_job.py [--models splade-tiny] [--target examples/data/home_reviews] [--steps 60]

All rows of the target, batch 16, P = 20, as many steps for each of the three, validation looked at ten times, the test
split predicted. Ours: one `api.compare` with these three rows (PANDA as released: dropout on, the teacher run at every
step), nothing cached. `peft default` is how the authors run it: padded to 128 tokens, fp32, dropout on, and in PANDA
the teacher in training mode, run and differentiated at every step. `peft tuned`: padded to the longest of the batch, no
dropout, similar lengths together, the teacher without gradient, in fp32 or bf16. Loading the model is in no figure, and
each side has done something small before; `measured` has the seconds of each job.

Each path runs in a process of its own, in random order, `--rounds` times; so its peak memory is its own.
Prints JSON and writes benchmarks/results/panda_job.json.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

import common
from common import DEFAULT, PROMPT, Row

from promptgraft import api
from promptgraft.engine.rank import candidates
from promptgraft.train.recipe import Recipe

THREE: tuple[tuple[str, dict[str, str]], ...] = (
    ("prompt-tuning", {"readout": "linear"}),
    ("pot", {"readout": "new"}),
    ("panda", {"mode": "released"}),
)
OURS = "promptgraft"
BATCH, MAX_LENGTH, EVALUATIONS = 16, 128, 10


def main() -> None:
    parser = common.parser(__doc__, models="splade-tiny", rounds=2)
    parser.add_argument("--target", type=Path, default=common.TARGET)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--bank", help="default: `starter` for minilm, for others three prompts tuned beforehand")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps = 1, 4
    if options.alone:
        print(json.dumps(ours(options) if options.alone == OURS else peers(options)))
        return
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            common.write(__file__, measured(model, folder, options), options.out)


def measured(model: str, folder: str, options: argparse.Namespace) -> list[Row]:
    """Every path so often in random order, each in its own process."""
    bank = options.bank or common.bank_for(model, api.open_task(options.target), folder)
    words = ("--models", common.model_folder(model), "--target", options.target, "--steps", options.steps)
    paths = [OURS, DEFAULT, *common.tuned()]
    order = random.Random(4)
    ran: dict[str, list[Row]] = {path: [] for path in paths}
    for _ in range(options.rounds):
        for path in order.sample(paths, len(paths)):
            ran[path].append(common.alone(__file__, *words, "--bank", bank, "--alone", path))
    seconds = {path: [sum(one["measured"].values()) for one in ran[path]] for path in paths}
    memory = {path: max(one["peak"] for one in ran[path]) for path in paths}
    known = {"model": model, "lengths": f"{options.target.name}, as it is", "steps": options.steps}
    rows = common.compared(seconds, memory)
    return [{**known, **row, "measured": ran[row["path"]][0]["measured"]} for row in rows]


def ours(options: argparse.Namespace) -> Row:
    """The three in one call."""
    backbone, task = api.open_model(options.models), api.open_task(options.target)
    common.warm(backbone)
    sources, _ = candidates(api.as_bank(options.bank), backbone, task)
    recipe = {"steps": options.steps, "batch": BATCH, "length": PROMPT, "evaluations": EVALUATIONS}
    seconds = common.timed(
        lambda: api.compare(
            task, backbone, options.bank, source=sources[0].name, shots=None, seeds=(0,), rows=THREE, **recipe
        )
    )
    return {"measured": {"the whole call": seconds}, "peak": common.peak()}


def peers(options: argparse.Namespace) -> Row:
    """The three one after the other, after a few steps to warm up."""
    from trainer_jobs import Jobs

    theirs, path = options.alone == DEFAULT, options.alone
    recipe = Recipe(steps=options.steps, batch=BATCH, length=PROMPT, max_length=MAX_LENGTH, evaluations=EVALUATIONS)
    task, short = api.open_task(options.target), recipe.changed(steps=2, evaluations=1)
    jobs = Jobs(options.models, path, task, recipe, to_maximum=theirs, live=theirs)
    Jobs(options.models, path, task, short, to_maximum=theirs).tune()
    jobs.source.eval()
    made = {}
    found = {
        "prompt tuning": common.timed(jobs.tune),
        "PoT": common.timed(lambda: made.update(teacher=jobs.carry())),
        "PANDA": common.timed(lambda: jobs.distil(made["teacher"])),
    }
    return {"measured": found, "peak": common.peak()}


if __name__ == "__main__":
    main()
