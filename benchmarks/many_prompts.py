"""Many prompts trained together: K runs in one call of our loop against K PEFT prefix tunings, default and tuned.

    python benchmarks/many_prompts.py [--models splade-tiny,minilm] [--prompts 1,4,16,64] [--batch 4] [--rounds 5]

A step is one step of all K runs: batch 4 each, P = 20, SST-2's token counts, every run with its own prompt, head, rows,
optimiser and schedule. PEFT trains one prefix at a time; its K runs are all alike, so the steps of one are timed, in
turn with ours, and multiplied by K (`counted`). Ours uses the arithmetic that the product chooses, and trains as the
product does, in packs: of minilm eight runs, of splade-tiny 32. Memory: ours over the whole of it, beside a PEFT
process with one run.

Prints JSON and writes benchmarks/results/many_prompts.json.
"""

from __future__ import annotations

import json

import common
from common import DEFAULT, PROMPT, SST2, Row, Turn


def make_turn(folder: str, path: str, batch: int) -> Turn:
    """`promptgraft K`, or one of PEFT's paths."""
    rows = common.drawn_rows(SST2)
    if not path.startswith("promptgraft"):
        return common.peft_turn(folder, path, rows, batch=batch)
    backbone = common.load_ours(folder, path)
    return common.our_turn(backbone, rows, runs=int(path.split()[1]), batch=batch)


def measured(model: str, counts: list[int], batch: int, rounds: int, *, quick: bool) -> list[Row]:
    """A row for every K and path."""
    folder = common.model_folder(model)
    peers = [DEFAULT, *common.tuned(), *(() if quick else common.eager())]
    ours = [f"promptgraft {count}" for count in counts]
    turns = {path: make_turn(folder, path, batch) for path in (*peers, *ours)}
    seconds = common.interleaved(turns, rounds, seconds=0.05 if quick else 0.6)
    words = ("--models", folder, "--batch", batch, "--alone")
    paths = [] if quick else [DEFAULT, *common.tuned(), *ours]
    memory = {path: common.alone(__file__, *words, path)["peak"] for path in paths}
    found = []
    for count, own in zip(counts, ours, strict=True):
        times = {path: [count * value for value in seconds[path]] for path in peers}
        held = {"promptgraft" if path == own else path: mib for path, mib in memory.items()}
        for row in common.compared({**times, "promptgraft": seconds[own]}, held):
            counted = 1 if row["path"] == "promptgraft" else count
            found.append({"model": model, "lengths": str(SST2), "prompts": count, **row, "counted": counted})
            found[-1] |= {"batch": batch, "prompt": PROMPT}
    return found


def main() -> None:
    parser = common.parser(__doc__, models="splade-tiny,minilm", rounds=5)
    parser.add_argument("--prompts", default="1,4,16,64", help="numbers of runs")
    parser.add_argument("--batch", type=int, default=4, help="rows a step of each run")
    options = parser.parse_args()
    if options.alone:
        make_turn(options.models, options.alone, options.batch)(5)
        print(json.dumps({"peak": common.peak()}))
        return
    counts = [1, 4] if options.quick else [int(count) for count in options.prompts.split(",")]
    rounds = 1 if options.quick else options.rounds
    for model in options.models.split(","):
        rows = measured(model, counts, options.batch, rounds, quick=options.quick)
        common.write(__file__, rows, options.out)


if __name__ == "__main__":
    main()
