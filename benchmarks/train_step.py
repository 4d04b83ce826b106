"""Train step of a deep prompt: promptgraft against PEFT prefix tuning, its defaults and tuned, in one run.

    python benchmarks/train_step.py [--models minilm,splade-tiny,12x768,minilm:long] [--rounds 7]

One step is forward, loss, backward and AdamW on the prompt and the head: P = 20 key/value pairs a layer, batch 32, the
first token read by a linear head (PEFT's model class puts BERT's pooler, 32 rows of one small product, before it).
Token counts are drawn as SST-2's (lognormal, mean 24, 5 to 66), or, with `:long`, with a mean of 90 up to 256. `12x768`
is a model of BERT-base's shape with random weights. Paths and turns: see common.py; ours `plain` is without its native
kernels, what runs where there is no compiler. bf16, ours as PEFT's, is run only where it is faster than fp32. Peak
memory is that of a process that runs one path alone.

The roofline: `gemm_flops` are those of the products with weights that one step cannot do without (of each layer
forward and for the gradient of its input; none for the input of the first, and in the last only the rows that are read
beyond keys and values); `gemm_rate` is what torch reaches here, in this run, on one large product in the arithmetic of
the path; `roofline` is the time that would take, and `roofline_share` its share of the time it took.

Prints JSON and writes benchmarks/results/train_step.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import common
import torch
from common import BATCH, DEFAULT, LONG, PEFT, PROMPT, SST2, Lengths, Row, Turn, fast_bf16

from promptgraft.model.load import read_config

PLAIN = "promptgraft plain"
GEMM = (4096, 1536, 1536)


def ours(kind: str = "promptgraft") -> list[str]:
    """Our paths, in every arithmetic that is worth running here."""
    return [f"{kind} {name}" for name in (("fp32", "bf16") if fast_bf16() else ("fp32",))]


def make_turn(folder: str, path: str, lengths: Lengths) -> Turn:
    rows = common.drawn_rows(lengths)
    if path in PEFT:
        return common.peft_turn(folder, path, rows)
    return common.our_turn(common.load_ours(folder, path), rows)


def plain_turn(folder: str, path: str, lengths: Lengths) -> Turn:
    """Steps in a process of its own, in which the native kernels are off."""
    command = [sys.executable, __file__, "--models", f"{folder}:{lengths.name}", "--alone", path, "--serve"]
    surroundings = {**os.environ, "PROMPTGRAFT_NATIVE": "0"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings)
    assert process.stdin is not None
    assert process.stdout is not None
    asked, answers = process.stdin, process.stdout
    answers.readline()

    def turn(steps: int) -> None:
        print(steps, file=asked, flush=True)
        answers.readline()

    return turn


def serve(turn: Turn) -> None:
    """Do as many steps as each line of the input says, and say so."""
    print("ready", flush=True)
    for line in sys.stdin:
        turn(int(line))
        print("done", flush=True)


def gemm_flops(folder: str, tokens: float) -> float:
    """FLOPs of the products with weights that a step cannot do without."""
    config = read_config(common.Path(folder))
    layers, width, wide = (config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    square, outside = 2.0 * width * width, 4.0 * width * wide  # a token's, in a projection and in the wide part
    after = square + outside  # behind the attention
    inner = tokens * (3 * square + after)
    last = tokens * 2 * square + BATCH * (square + after)
    read = BATCH if layers == 1 else tokens
    forward = (layers - 1) * inner + last
    backward = forward - (tokens * 2 * square + read * square)  # below the first layer's prompt nothing is wanted
    return forward + backward


def gemm_rates() -> dict[str, float]:
    """FLOPs a second of torch on one large product, best of several, in each arithmetic."""
    rows, into, out = GEMM
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x, weight = torch.randn(rows, into).to(dtype), torch.randn(out, into).to(dtype)
        best = min(_timed(x, weight) for _ in range(7))
        rates[name] = 2.0 * rows * into * out / best
    return rates


@torch.no_grad()
def _timed(x: torch.Tensor, weight: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.nn.functional.linear(x, weight)
    return time.perf_counter() - began


def roofline(folder: str, lengths: Lengths, row: Row, rates: dict[str, float]) -> Row:
    """How near a path is to the products alone."""
    tokens = BATCH * statistics.mean(lengths.draw())
    flops, rate = gemm_flops(folder, tokens), rates["bf16" if "bf16" in row["path"] else "fp32"]
    least = 1000 * flops / rate
    return {
        "gemm_flops": round(flops),
        "gemm_rate": round(rate),
        "roofline": round(least, 3),
        "roofline_share": round(least / row["milliseconds"], 3),
        "examples_per_second": round(1000 * BATCH / row["milliseconds"], 1),
        "tokens_per_second": round(1000 * tokens / row["milliseconds"]),
    }


def case(model: str) -> tuple[str, Lengths]:
    """`NAME` or `NAME:long`."""
    name, _, kind = model.partition(":")
    return name, LONG if kind == "long" else SST2


def measured(model: str, rounds: int, *, quick: bool) -> list[Row]:
    """All paths on one model and one kind of lengths."""
    name, lengths = case(model)
    folder = common.model_folder(name)
    peers = [DEFAULT, *common.tuned()]
    paths = [*peers, *(() if quick else common.eager()), *ours()]
    turns = {path: make_turn(folder, path, lengths) for path in paths}
    turns |= {path: plain_turn(folder, path, lengths) for path in ours(PLAIN)}
    seconds = common.interleaved(turns, rounds, seconds=0.05 if quick else 0.6)
    words = ("--models", f"{folder}:{lengths.name}", "--alone")
    held = [] if quick else [*peers, *ours()]
    memory = {path: common.alone(__file__, *words, path)["peak"] for path in held}
    rates = gemm_rates()
    rows = common.compared(seconds, memory)
    known = {"model": name, "lengths": str(lengths), "batch": BATCH, "prompt": PROMPT}
    return [{**known, **row, **roofline(folder, lengths, row, rates)} for row in rows]


def main() -> None:
    parser = common.parser(__doc__, models="minilm,splade-tiny,12x768,minilm:long", rounds=7)
    parser.add_argument("--serve", action="store_true", help="used by the script itself")
    options = parser.parse_args()
    if options.alone:
        folder, lengths = case(options.models)
        turn = make_turn(folder, options.alone, lengths)
        if options.serve:
            serve(turn)
            return
        turn(5)
        print(json.dumps({"peak": common.peak()}))
        return
    rounds = 1 if options.quick else options.rounds
    for model in options.models.split(","):
        common.write(__file__, measured(model, rounds, quick=options.quick), options.out)


if __name__ == "__main__":
    main()
