"""Causal language models: scoring, training and writing with prompts, beside plain transformers and PEFT.

    python benchmarks/language_models.py [--models smollm2-135m] [--what score_demos,...] [--rows 500] [--rounds 5]

What is measured, all over random tokens with SST-2's token counts in a template of six more:

- `score_demos`: rows behind an instruction and 8 demonstrations, read at their last token. transformers is given padded
  batches, each row with its demonstrations, and computes logits of the last token alone; ours computes what the rows
  share once a job, counted in. transformers' batches are alike, so some are timed and counted up to all rows.
- `score`: the same rows alone.
- `train_step`: a step of one deep prompt (P = 20, 16 rows), beside PEFT's prefix tuning as its users run it: fp32, rows
  in the order they come. `train_step_tuned`: beside the faster of PEFT in fp32 and bf16 with rows sorted by length.
- `many_prompts`: a step of 16 prompts with 4 rows each, beside 16 steps of PEFT (one is timed, and counted).
- `generate`: 64 rows with 16 prompts get 16 tokens each; PEFT switches adapters, 4 rows at a time.

Ours uses the arithmetic that the product chooses. `ratio` is the peer's time over ours, round by round. bf16 peers run
where products in bf16 are faster. Prints JSON and writes benchmarks/results/language_models.json.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from typing import Any

import common
import torch
from common import PROMPT, SST2, Row, Turn
from processor import fast_bf16
from torch import Tensor

from promptgraft.model.backbone import Batch
from promptgraft.model.catalog import resolve
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.load import load_backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.train.loop import pieces, step_tokens

INSTRUCTION, DEMONSTRATIONS = 24, 8
BATCH, TRAIN, PROMPTS, EACH, WRITTEN = 32, 16, 16, 4, 16
OURS, PLAIN, HALF = "promptgraft", "peer fp32", "peer bf16"
TARGETS = {
    "score_demos": 8.0,
    "score": 1.5,
    "train_step": 2.5,
    "train_step_tuned": 1.3,
    "many_prompts": 5.0,
    "generate": 8.0,
}


def texts(count: int, seed: int = 0) -> list[list[int]]:
    """Rows of random tokens, in a template of six."""
    return [[11, 12, 13, *row[1:-1], 14, 15, 16] for row in common.drawn_rows(SST2, count, seed)]


@functools.cache
def beginning() -> tuple[int, ...]:
    """An instruction and its demonstrations."""
    parts = [texts(1, 7)[0] * 2, *texts(DEMONSTRATIONS, 8)]
    return tuple(token for part in (parts[0][:INSTRUCTION], *parts[1:]) for token in part)


def ours(model: str) -> CausalBackbone:
    backbone = load_backbone(resolve(model).path, dtype="auto")
    assert isinstance(backbone, CausalBackbone)
    return backbone


def theirs(model: str, path: str) -> Any:
    """transformers' model, in the arithmetic of the path."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning)
    kind = torch.bfloat16 if path == HALF else torch.float32
    return AutoModelForCausalLM.from_pretrained(resolve(model).path, dtype=kind).eval()


def peft_model(model: str, path: str, prompts: int = 1) -> Any:
    """PEFT's prefix tuning, with so many adapters."""
    from peft import PrefixTuningConfig, TaskType, get_peft_model

    config = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=PROMPT)
    found = get_peft_model(theirs(model, path), config, adapter_name="0")
    for number in range(1, prompts):
        found.add_adapter(str(number), config)
    return found.to(torch.bfloat16) if path == HALF else found


def left_padded(rows: list[list[int]]) -> dict[str, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    return {"input_ids": ids, "attention_mask": torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows])}


def score_turn(model: str, path: str, rows: list[list[int]]) -> tuple[Turn, float]:
    """Read rows at their last token; also how often the turn has to be counted for all of them."""
    if path == OURS:
        backbone, order = ours(model), sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        sorted_rows = [rows[row] for row in order]

        def turn(steps: int) -> None:
            for _ in range(steps):
                backbone.forget()
                with torch.no_grad():
                    for first in range(0, len(rows), BATCH):
                        part = common.packed(sorted_rows[first : first + BATCH])
                        states = backbone.forward(Batch(part), None, "mark")
                        states @ backbone.columns(torch.tensor([100, 200]))[0].T.to(states)

        return turn, 1.0
    network, batch = theirs(model, path), left_padded(rows[:BATCH])

    def padded_turn(steps: int) -> None:
        with torch.no_grad():
            for _ in range(steps):
                network(**batch, logits_to_keep=1).logits[:, -1, [100, 200]]

    return padded_turn, len(rows) / len(batch["input_ids"])


def answered(rows: list[list[int]]) -> Tokens:
    """Rows whose last token is the answer."""
    tokens = common.packed(rows)
    answers = torch.zeros(len(tokens.ids), dtype=torch.bool)
    answers[tokens.starts[1:] - 1] = True
    return Tokens(tokens.ids, tokens.types, tokens.starts, tokens.rows, answers=answers)


def our_train_turn(model: str, prompts: int, each: int, *, sort: bool) -> Turn:
    """Steps of so many deep prompts: forward, loss, backward, AdamW; with one prompt over the batches that PEFT has.

    A step is cut between prompts into the pieces that the training loop makes of it.
    """
    backbone, rows = ours(model), texts(64 * prompts * each)
    shape = (backbone.prompt_layers, 2, PROMPT, backbone.key_width)
    values = [torch.randn(shape).mul_(0.1).requires_grad_() for _ in range(prompts)]
    optimiser, most = torch.optim.AdamW(values, lr=1e-3), step_tokens(backbone)
    batches = common.padded_batches(rows, prompts * each, sort=sort)

    def turn(steps: int) -> None:
        for _ in range(steps):
            ids, mask, _ = next(batches)
            part = [row[: int(length)].tolist() for row, length in zip(ids, mask.sum(1), strict=True)]
            own = [part[first : first + each] for first in range(0, len(part), each)]
            for members in pieces([float(sum(map(len, rows))) for rows in own], most):
                owner = torch.arange(len(members)).repeat_interleave(each)
                together = stack([Prompt(values[member], "peft") for member in members])
                tokens = answered([row for member in members for row in own[member]])
                found = backbone.forward(Batch(tokens, owner), together, "answer")
                (-found.sum() / each).backward()
            optimiser.step()
            optimiser.zero_grad()

    return turn


def peft_train_turn(model: str, path: str, batch: int, *, sort: bool) -> Turn:
    """Steps of one PEFT prefix."""
    network = peft_model(model, path)
    network.train()
    optimiser = torch.optim.AdamW([value for value in network.parameters() if value.requires_grad], lr=1e-3)
    batches = common.padded_batches(texts(64 * batch), batch, sort=sort)

    def turn(steps: int) -> None:
        for _ in range(steps):
            ids, mask, _ = next(batches)
            labels = torch.full_like(ids, -100)
            last = (torch.arange(len(ids)), mask.sum(1) - 1)
            labels[last] = ids[last]
            network(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    return turn


def our_writing_turn(model: str) -> Turn:
    backbone, rows = ours(model), common.packed(texts(PROMPTS * EACH))
    backbone.ends = frozenset()  # every answer gets as many tokens as any other
    shape = (backbone.prompt_layers, 2, PROMPT, backbone.key_width)
    prompts = stack([Prompt(torch.randn(shape) * 0.1, "peft") for _ in range(PROMPTS)])
    batch = Batch(rows, torch.arange(PROMPTS).repeat_interleave(EACH))

    def turn(steps: int) -> None:
        for _ in range(steps):
            backbone.forget()
            backbone.generate(batch, prompts, most=WRITTEN)

    return turn


def peft_writing_turn(model: str, path: str) -> Turn:
    """The rows of one adapter, switched to first."""
    network, batch, turns = peft_model(model, path, 2), left_padded(texts(EACH)), iter(range(1 << 30))

    def turn(steps: int) -> None:
        for _ in range(steps):
            network.set_adapter(str(next(turns) % 2))
            with torch.no_grad():
                network.generate(**batch, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False)

    return turn


def turns_of(what: str, model: str, rows: int) -> dict[str, tuple[Turn, float]]:
    """The paths of what is measured, each with how often its turn counts."""
    peers = [PLAIN, *([HALF] if fast_bf16() else [])]
    if what in ("score", "score_demos"):
        drawn = texts(rows)
        if what == "score_demos":
            drawn = [[*beginning(), *row] for row in drawn]
        return {path: score_turn(model, path, drawn) for path in (OURS, *peers)}
    if what == "train_step":
        peer = peft_train_turn(model, PLAIN, TRAIN, sort=False)
        return {OURS: (our_train_turn(model, 1, TRAIN, sort=False), 1.0), PLAIN: (peer, 1.0)}
    if what == "train_step_tuned":
        tuned = {path: (peft_train_turn(model, path, TRAIN, sort=True), 1.0) for path in peers}
        return {OURS: (our_train_turn(model, 1, TRAIN, sort=True), 1.0), **tuned}
    if what == "many_prompts":
        many = {path: (peft_train_turn(model, path, EACH, sort=True), float(PROMPTS)) for path in peers}
        return {OURS: (our_train_turn(model, PROMPTS, EACH, sort=False), 1.0), **many}
    writing = {path: (peft_writing_turn(model, path), float(PROMPTS)) for path in peers}
    return {OURS: (our_writing_turn(model), 1.0), **writing}


def measured(what: str, model: str, rows: int, rounds: int, *, quick: bool) -> list[Row]:
    """A row for every path."""
    turns = turns_of(what, model, rows)
    seconds = common.interleaved(
        {path: turn for path, (turn, _) in turns.items()}, rounds, seconds=0.05 if quick else 0.5, least=1
    )
    scaled = {path: [value * turns[path][1] for value in values] for path, values in seconds.items()}
    memory = {} if quick else {path: common.alone(__file__, *_words(what, model, rows, path))["peak"] for path in turns}
    found = []
    for path, values in scaled.items():
        row: Row = {"what": what, "model": model, "lengths": str(SST2), "rows": rows, "prompt": PROMPT, "path": path}
        row |= common.spread("milliseconds", [1000 * value for value in values], 1)
        ratios = [peer / own for peer, own in zip(values, scaled[OURS], strict=True)]
        row |= common.spread("ratio", ratios, 2) if path != OURS else {"ratio": None}
        row |= {"aim": TARGETS[what], "counted": turns[path][1], "rounds": rounds, "peak_memory_mib": memory.get(path)}
        found.append(row)
    return found


def _words(what: str, model: str, rows: int, path: str) -> tuple[object, ...]:
    return ("--models", model, "--what", what, "--rows", rows, "--alone", path)


def main() -> None:
    parser = common.parser(__doc__, models="smollm2-135m", rounds=5)
    parser.add_argument("--what", default=",".join(TARGETS), help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--rows", type=int, default=500, help="rows that are scored")
    options = parser.parse_args()
    if options.alone:
        path: Callable[[int], None] = turns_of(options.what, options.models, options.rows)[options.alone][0]
        path(1)
        print(json.dumps({"peak": round(common.peak(), 1)}))
        return
    rounds, rows = (1, 8) if options.quick else (options.rounds, options.rows)
    for model in options.models.split(","):
        for what in options.what.split(","):
            common.write(__file__, measured(what, model, rows, rounds, quick=options.quick), options.out)


if __name__ == "__main__":
    main()
