"""Rows of many tasks in one batch: ours in one packed forward against PEFT, which switches adapters.

    python benchmarks/mixed_batch.py [--models splade-tiny,minilm] [--rows 64,256] [--prompts 1,8,64] [--rounds 5]

Inference of R rows that belong to K prompts (P = 20), R / K rows each, SST-2's token counts, a linear readout a prompt.
Ours: one call over all rows, every row with its own prompt and readout, as `predict` makes it. PEFT: all K adapters in
one model; for each, `set_adapter` and its rows in batches of at most 32: default in fp32, padded, as they come; tuned
sorted by length, in fp32 or, where that is fast, bf16. `ratio_to_one_prompt` is our time with K prompts over our time
with one, round by round. Texts are tokenised, PEFT's batches padded and adapters loaded, our models put together before
the clock starts. Memory, at the largest K: of a process that does one path alone.

Prints JSON and writes benchmarks/results/mixed_batch.json.
"""

from __future__ import annotations

import json

import common
import torch
from common import BATCH, DEFAULT, PROMPT, SST2, Row, Seconds, Turn

from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.reading import Reading
from promptgraft.readout.all import find
from promptgraft.task.task import Example, Task
from promptgraft.train.predict import answer_packed, stacked
from promptgraft.train.run import Tuned


def our_turn(folder: str, count: int, rows: int, path: str = "promptgraft") -> Turn:
    """All rows with their own prompts and readouts in one call."""
    backbone = common.load_ours(folder, path)
    generator = torch.Generator().manual_seed(0)
    task = Task("bench", "classification", "accuracy", {"0": "0", "1": "1"}, {"train": (Example(label="0"),)})
    models = []
    for _ in range(count):
        prompt = initial(Init(), backbone, PROMPT, "deep", "peft", generator)
        readout = find("linear").create(task, backbone.hidden, generator, lambda texts: torch.zeros(len(texts), 1))
        models.append(Tuned(prompt, readout, Reading("cls")))
    each, tokens = [rows // count] * count, common.packed(common.drawn_rows(SST2, rows))
    asked = stacked(models, each)

    def turn(steps: int) -> None:
        for _ in range(steps):
            answer_packed(backbone, asked, tokens, each)

    return turn


def peft_turn(folder: str, path: str, count: int, rows: int) -> Turn:
    """Each adapter in turn on its own rows."""
    from peft import PrefixTuningConfig, TaskType

    model = common.peft_model(folder, path)
    names = ["default", *(f"task {number}" for number in range(1, count))]
    for name in names[1:]:
        model.add_adapter(name, PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=PROMPT))
    if "bf16" in path:
        model.to(torch.bfloat16)
    model.eval()
    work = [(name, batches(part, sort=path != DEFAULT)) for name, part in zip(names, shares(rows, count), strict=True)]

    @torch.inference_mode()
    def turn(steps: int) -> None:
        for _ in range(steps):
            for name, made in work:
                model.set_adapter(name)
                for ids, mask in made:
                    model(input_ids=ids, attention_mask=mask)

    return turn


def shares(rows: int, count: int) -> list[list[list[int]]]:
    """The rows of every prompt, as many for each."""
    drawn, each = common.drawn_rows(SST2, rows), rows // count
    return [drawn[start : start + each] for start in range(0, each * count, each)]


def batches(rows: list[list[int]], *, sort: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
    ordered = sorted(rows, key=len) if sort else rows
    return [common.padded(ordered[start : start + BATCH]) for start in range(0, len(rows), BATCH)]


def make_turn(folder: str, path: str, count: int, rows: int) -> Turn:
    if path == "promptgraft":
        return our_turn(folder, count, rows)
    return peft_turn(folder, path, count, rows)


def measured(model: str, rows: int, counts: list[int], rounds: int, *, quick: bool) -> list[Row]:
    """A row for every K and path."""
    folder = common.model_folder(model)
    paths = (DEFAULT, *common.tuned(), "promptgraft")
    turns = {f"{count}/{path}": make_turn(folder, path, count, rows) for count in counts for path in paths}
    seconds = common.interleaved(turns, rounds, seconds=0.02 if quick else 0.4)
    one = seconds[f"{counts[0]}/promptgraft"]
    found = []
    for count in counts:
        own: Seconds = {path: seconds[f"{count}/{path}"] for path in paths}
        words = ("--models", folder, "--prompts", count, "--rows", rows, "--alone")
        held = () if quick or count < max(counts) else paths
        memory = {path: common.alone(__file__, *words, path)["peak"] for path in held}
        for row in common.compared(own, memory):
            known = {"model": model, "lengths": str(SST2), "rows": rows, "prompts": count, "prompt": PROMPT}
            ours = row["path"] == "promptgraft"
            against = [mixed / single for mixed, single in zip(own["promptgraft"], one, strict=True)]
            row |= common.spread("ratio_to_one_prompt", against, 3) if ours else {"ratio_to_one_prompt": None}
            found.append({**known, **row})
    return found


def main() -> None:
    parser = common.parser(__doc__, models="splade-tiny,minilm", rounds=5)
    parser.add_argument("--rows", default="64,256", help="rows in a batch")
    parser.add_argument("--prompts", default="1,8,64", help="numbers of prompts, the first for the comparison")
    options = parser.parse_args()
    if options.alone:
        make_turn(options.models, options.alone, int(options.prompts), int(options.rows))(3)
        print(json.dumps({"peak": common.peak()}))
        return
    rows = [16] if options.quick else [int(count) for count in options.rows.split(",")]
    counts = [1, 8] if options.quick else [int(count) for count in options.prompts.split(",")]
    rounds = 1 if options.quick else options.rounds
    for model in options.models.split(","):
        for count in rows:
            common.write(__file__, measured(model, count, counts, rounds, quick=options.quick), options.out)


if __name__ == "__main__":
    main()
