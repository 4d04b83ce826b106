"""What a train step costs as one thing grows: prompts, prompt length, sequence length, rows, layers.

    python benchmarks/scaling.py [--models minilm] [--factors prompts,length,...] [--rounds 3]

One factor at a time; the others stay at one prompt of P = 20, sequences of 24 tokens, 32 rows, the model as it is.
With several prompts each run has 4 rows a step. Layers: models of that depth, as wide as the first, with random
weights. `peft tuned` (no dropout, all rows equally long, bf16 where that is fast, else fp32) takes turns with
ours; with several prompts one PEFT run is timed and multiplied. Tokens per second count what is read, not the prompt.

Prints JSON and writes benchmarks/results/scaling.json.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import common
from common import PROMPT, Row

from promptgraft.model.load import read_config


@dataclass(frozen=True)
class Point:
    """One train step."""

    folder: str
    prompts: int = 1
    length: int = PROMPT
    tokens: int = 24
    rows: int = 32


FACTORS = {
    "prompts": (1, 4, 16, 64),
    "length": (1, 5, 20, 50, 100),
    "tokens": (8, 16, 32, 64, 128, 256),
    "rows": (8, 32, 128, 512),
    "layers": (2, 4, 8, 12),
}
ROWS_A_PROMPT = 4
QUICK = {"prompts": (1, 2), "length": (1, 5), "tokens": (8, 16), "rows": (4, 8), "layers": (1, 2)}


def point(folder: str, factor: str, value: int) -> Point:
    """The step at one value of a factor."""
    if factor == "layers":
        width = read_config(common.Path(folder))["hidden_size"]
        return Point(common.model_folder(f"{value}x{width}"))
    if factor == "prompts":
        return Point(folder, prompts=value, rows=ROWS_A_PROMPT)
    return replace(Point(folder), **{factor: value})


def measured(at: Point, rounds: int, seconds: float) -> list[Row]:
    """Ours and PEFT's at one point."""
    rows = common.drawn_rows(common.fixed(at.tokens), max(64, 2 * at.rows))
    peer = common.tuned()[-1]
    backbone = common.load_ours(at.folder, "auto")
    turns = {
        "promptgraft": common.our_turn(backbone, rows, runs=at.prompts, batch=at.rows, prompt=at.length),
        peer: common.peft_turn(at.folder, peer, rows, batch=at.rows, prompt=at.length),
    }
    times = common.interleaved(turns, rounds, seconds=seconds)
    times[peer] = [at.prompts * value for value in times[peer]]
    read = at.prompts * at.rows * at.tokens
    found = common.compared(times)
    return [{**row, "tokens_per_second": round(1000 * read / row["milliseconds"])} for row in found]


def main() -> None:
    parser = common.parser(__doc__, models="minilm", rounds=3)
    parser.add_argument("--factors", default=",".join(FACTORS))
    options = parser.parse_args()
    rounds, seconds = (1, 0.02) if options.quick else (options.rounds, 0.5)
    for model in options.models.split(","):
        folder = common.model_folder(model)
        for factor in options.factors.split(","):
            for value in (QUICK if options.quick else FACTORS)[factor]:
                at = point(folder, factor, value)
                known = {"model": model, "lengths": f"all {at.tokens}", "factor": factor, "value": value}
                rows = [{**known, **row} for row in measured(at, rounds, seconds)]
                common.write(__file__, rows, options.out)


if __name__ == "__main__":
    main()
