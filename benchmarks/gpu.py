"""Train step of deep prompts on a GPU: promptgraft against PEFT prefix tuning, its defaults and tuned, in one run.

    python benchmarks/gpu.py [--models minilm,bert-base,splade-tiny] [--settings 32,256,8x16] [--rounds 7]

One step is forward, loss, backward and AdamW on the prompt and the head, P = 20 key/value pairs a layer, token counts
drawn as SST-2's (lognormal, mean 24, 5 to 66). Models have the shapes of those they are named after and random weights,
which speed does not depend on. Settings: batch 32, batch 256, and 16 runs of batch 8, which promptgraft trains together
and PEFT one after the other (its step of batch 8, times 16). Paths take turns in random order, some steps a turn; the
figures are medians over turns and their ratios turn by turn, the GPU waited for at both ends of a turn.

PEFT's defaults: fp32, dropout, padded to the longest of the batch, sdpa. PEFT tuned: bf16, no dropout, rows sorted by
length, the fused AdamW, the faster of sdpa and eager. `--paths` takes torch.compile too (`peft tuned compile`, dynamic
shapes; `peft tuned compile graphs`, padded to multiples of 32). It is no default: PEFT's model of 6 layers was not
compiled after 80 seconds where this was tried (torch 2.11, 16 processors), nor one of 2 layers. Memory is the peak a
path adds to what lay on the GPU before it was set up.

The figures that are kept: 5 turns of 8 to 20 steps.

Prints JSON and writes benchmarks/results/gpu.json, where settings that were not asked for keep their figures; says so
and does nothing where there is no GPU.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from keep import commit, write
from torch import Tensor

from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_folder
from promptgraft.model.resolved import Resolved
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.reading import Reading
from promptgraft.prompt.reparam import parameterise
from promptgraft.readout.all import find
from promptgraft.readout.readout import on_device
from promptgraft.task.task import Example, Task
from promptgraft.train.data import make_data
from promptgraft.train.loop import train
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Run

SHAPES = {
    "minilm": (6, 384, 12, 1536),
    "bert-base": (12, 768, 12, 3072),
    "splade-tiny": (2, 128, 2, 512),
}
VOCABULARY, PROMPT, ROWS = 30522, 20, 1024
OURS = ("promptgraft fp32", "promptgraft bf16")
COMPILED = ("peft tuned compile", "peft tuned compile graphs")
TUNED = ("peft tuned sdpa", "peft tuned eager", *COMPILED)
PATHS = ("peft default", "peft tuned sdpa", "peft tuned eager", *OURS)
RESULTS = Path(__file__).parent / "results"
Turn = Callable[[int], None]


@dataclass(frozen=True)
class Setting:
    """Rows of a batch, and how many runs are trained."""

    batch: int
    runs: int = 1


SETTINGS = {"32": Setting(32), "256": Setting(256), "8x16": Setting(8, 16)}


def drawn_lengths() -> list[int]:
    """Token counts like SST-2's."""
    numbers = random.Random(0)
    return [min(66, max(5, round(numbers.lognormvariate(3.06, 0.48)))) for _ in range(ROWS)]


def drawn_rows() -> list[list[int]]:
    """Random token ids between [CLS] and [SEP]; speed does not depend on which."""
    numbers = random.Random(0)
    return [[2, *(numbers.randrange(1000, VOCABULARY) for _ in range(n - 2)), 3] for n in drawn_lengths()]


def packed(rows: list[list[int]]) -> Tokens:
    """The rows end to end."""
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.long)
    starts = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return Tokens(ids, torch.zeros_like(ids), starts, torch.arange(len(rows) + 1))


@cache
def folder_of(model: str) -> Path:
    """A model of that shape with random weights, written down once."""
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertModel

    layers, hidden, heads, wide = SHAPES[model]
    config = BertConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=wide,
    )
    torch.manual_seed(0)
    folder = Path(tempfile.mkdtemp(prefix=f"{model}-"))
    BertModel(config).save_pretrained(folder)
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])}
    Tokenizer(models.WordPiece(words, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    return folder


def our_turn(model: str, setting: Setting, path: str) -> Turn:
    """The product's own loop, as `tune` runs it."""
    arithmetic = "bf16" if path.endswith("bf16") else "fp32"
    found = Resolved(model, folder_of(model), "", None, False)
    backbone: Backbone = load_folder(found, dtype=arithmetic, device="cuda")
    rows = drawn_rows()
    examples = tuple(Example(label=str(row % 2)) for row in range(len(rows)))
    task = Task("bench", "classification", "accuracy", {"0": "0", "1": "1"}, {"train": examples})

    def run_of(seed: int) -> Callable[[int], Run]:
        generator = torch.Generator().manual_seed(seed)
        made = find("linear").create(task, backbone.hidden, generator, lambda texts: torch.zeros(len(texts), 1))
        readout = on_device(made, backbone.device)
        data, nothing = make_data(task, examples, packed(rows), readout, len(rows)), packed([])
        prompt = initial(Init(), backbone, PROMPT, "deep", "peft", generator).to(backbone.device)
        started = parameterise("direct", prompt, generator)
        none = make_data(task, (), nothing, readout, 0)

        def of_steps(steps: int) -> Run:
            recipe = Recipe(steps=steps, batch=setting.batch, length=PROMPT, placement="peft", evaluations=1)
            return Run(f"bench-{seed}", seed, recipe, started, "peft", readout, Reading("cls"), data, none)

        return of_steps

    runs = [run_of(seed) for seed in range(setting.runs)]
    return lambda steps: void(train(backbone, [run(steps) for run in runs]))


def void(_: object) -> None:
    """A turn gives nothing."""


def peft_turn(model: str, setting: Setting, path: str) -> Turn:
    """One PEFT prefix tuning of transformers' own classifier."""
    from peft import PrefixTuningConfig, TaskType, get_peft_model
    from transformers import AutoConfig, BertForSequenceClassification

    config = AutoConfig.from_pretrained(folder_of(model), num_labels=2)
    tuned = path != "peft default"
    if tuned:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    torch.manual_seed(0)
    attention = "eager" if path.endswith("eager") else "sdpa"
    base = BertForSequenceClassification.from_pretrained(folder_of(model), config=config, attn_implementation=attention)
    wrapped = get_peft_model(base, PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=PROMPT))
    wrapped = wrapped.to("cuda", torch.bfloat16 if tuned else torch.float32).train()
    optimiser = torch.optim.AdamW([one for one in wrapped.parameters() if one.requires_grad], lr=1e-3, fused=tuned)
    graphs = path.endswith("graphs")
    call: Any = wrapped
    if "compile" in path:
        call = torch.compile(
            wrapped, **({"mode": "reduce-overhead", "dynamic": False} if graphs else {"dynamic": True})
        )
    batches = padded_batches(setting.batch, sort=tuned, multiple=32 if graphs else 8 if "compile" in path else 1)

    def turn(steps: int) -> None:
        for _ in range(steps):
            ids, mask, labels = (one.to("cuda", non_blocking=True) for one in next(batches))
            if graphs:
                torch.compiler.cudagraph_mark_step_begin()
            call(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    return turn


def padded_batches(size: int, *, sort: bool, multiple: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches padded to their longest row; sorted: neighbours in length share one, batches in random order."""
    numbers, rows = random.Random(1), drawn_rows()
    order = sorted(range(len(rows)), key=lambda row: len(rows[row])) if sort else list(range(len(rows)))
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    made = []
    for group in groups:
        longest = -(-max(len(rows[row]) for row in group) // multiple) * multiple
        ids = torch.tensor([rows[row] + [0] * (longest - len(rows[row])) for row in group])
        tensors = (ids, (ids != 0).long(), torch.tensor([row % 2 for row in group]))
        made.append(tuple(one.pin_memory() for one in tensors))
    while True:
        numbers.shuffle(made)
        yield from made


@dataclass
class Measured:
    """A path that was set up: its turn, the peak it added, and how many of its steps make one."""

    turn: Turn
    mebibytes: float
    times: int


def set_up(model: str, setting: Setting, path: str) -> Measured:
    """Make the turn, warm it up, and see how much memory it takes."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    turn = (our_turn if path in OURS else peft_turn)(model, setting, path)
    turn(60 if path in OURS else 40)
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    return Measured(turn, peak, 1 if path in OURS else setting.runs)


def timed(paths: dict[str, Measured], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds a step of every path in every round."""
    order = random.Random(2)
    found: dict[str, list[float]] = {path: [] for path in paths}
    for _ in range(rounds):
        for path in order.sample(list(paths), len(paths)):
            torch.cuda.synchronize()
            began = time.perf_counter()
            paths[path].turn(steps)
            torch.cuda.synchronize()
            found[path].append(paths[path].times * (time.perf_counter() - began) / steps)
    return found


def rows_of(
    model: str, setting: Setting, seconds: dict[str, list[float]], paths: dict[str, Measured]
) -> Iterator[dict[str, object]]:
    """A result a path, with medians, spread and ratios round by round."""
    strongest = min((path for path in TUNED if path in seconds), key=lambda path: statistics.median(seconds[path]))
    lengths = f"sst2-like, mean {statistics.mean(drawn_lengths()):.1f}, 5 to 66"
    for path, values in seconds.items():
        row: dict[str, object] = {"model": model, "batch": setting.batch, "runs": setting.runs, "lengths": lengths}
        row |= {"path": path, "milliseconds": round(1000 * statistics.median(values), 3)}
        row |= {"milliseconds_range": [round(1000 * min(values), 3), round(1000 * max(values), 3)]}
        row["examples_per_second"] = round(setting.batch * setting.runs / statistics.median(values), 1)
        for name, other in (("default", "peft default"), ("tuned", strongest)):
            ratios = [theirs / ours for ours, theirs in zip(values, seconds[other], strict=True)]
            row[f"ratio_to_peft_{name}"] = round(statistics.median(ratios), 2)
            row[f"ratio_to_peft_{name}_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
        row |= {"peft_tuned": strongest, "peak_memory_mib": round(paths[path].mebibytes, 1)}
        row["peak_memory_ratio"] = round(paths[path].mebibytes / paths["peft default"].mebibytes, 3)
        row["peak_memory_ratio_to_tuned"] = round(paths[path].mebibytes / paths[strongest].mebibytes, 3)
        yield row


def compared(model: str, setting: Setting, wanted: list[str], rounds: int, steps: int) -> list[dict[str, object]]:
    """All paths at one setting."""
    paths: dict[str, Measured] = {}
    torch.compiler.reset()
    for path in wanted:
        began = time.perf_counter()
        try:
            paths[path] = set_up(model, setting, path)
        except Exception as error:  # torch.compile does not take every version of transformers and PEFT
            first = str(error).splitlines()[0] if str(error) else ""
            print(f"{model} {setting} {path}: left out, {type(error).__name__}: {first}", file=sys.stderr, flush=True)
            continue
        print(f"{model} {setting} {path}: set up in {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return list(rows_of(model, setting, timed(paths, rounds, steps), paths))


def machine() -> dict[str, object]:
    """What the figures belong to."""
    return {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--settings", default=",".join(SETTINGS), help="rows of a batch, or rows x runs")
    parser.add_argument("--paths", default=",".join(PATHS), help="of: " + ", ".join((*PATHS, *COMPILED)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--commit", default=commit(), help="what the figures were made with (default: git's answer)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here: benchmarks/gpu.py did nothing", file=sys.stderr)
        return
    for model in options.models.split(","):
        for name in options.settings.split(","):
            rows = compared(model, SETTINGS[name], options.paths.split(","), options.rounds, options.steps)
            belongs = {"processor": "gpu", "mimicked": False, "machine": machine(), "commit": options.commit}
            write(__file__, [{**row, **belongs} for row in rows], RESULTS)


if __name__ == "__main__":
    main()
