"""Train step of a deep prompt: promptgraft against PEFT prefix tuning, its defaults and tuned, in one run.

    python benchmarks/train_step.py [--models minilm,splade-tiny] [--rounds 9] [--steps 6]

One step is forward, loss, backward and AdamW on the prompt and the head: P = 20 key/value pairs a layer, batch 32,
token counts drawn as SST-2's (lognormal, mean 24, 5 to 66), real weights, the first token read by a linear head
(PEFT's model class puts BERT's pooler, 32 rows of one small product, before it). Paths take turns in random order,
some steps a turn; the figures are medians over turns and their ratios turn by turn. PEFT's defaults: fp32, dropout,
padded to the longest of the batch. PEFT tuned: no dropout, rows sorted by length, fp32 or bf16, whichever is faster,
with the attention transformers chooses (sdpa). PEFT strongest: the same, and eager attention among the choices, whose
backward is faster at these lengths. Peak memory is that of a process that runs one path alone.

Prints JSON and writes benchmarks/results/train_step.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from promptgraft.model.catalog import resolve
from promptgraft.model.load import load_backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.reparam import parameterise
from promptgraft.readout.readout import find
from promptgraft.task.task import Example, Task
from promptgraft.train.data import make_data
from promptgraft.train.loop import train
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Run

PROMPT, BATCH, ROWS = 20, 32, 1024
OURS = ("promptgraft fp32", "promptgraft bf16")
TUNED = ("peft tuned fp32", "peft tuned bf16")
PEFT = ("peft default", *TUNED, *(f"{path} eager" for path in TUNED))
RESULTS = Path(__file__).parent / "results"
Turn = Callable[[int], None]


def drawn_lengths(seed: int) -> list[int]:
    """Token counts like SST-2's."""
    numbers = random.Random(seed)
    return [min(66, max(5, round(numbers.lognormvariate(3.06, 0.48)))) for _ in range(ROWS)]


def drawn_rows(vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Random token ids between [CLS] and [SEP]; speed does not depend on which."""
    numbers = random.Random(seed)
    return [[101, *(numbers.randrange(1000, vocabulary) for _ in range(n - 2)), 102] for n in drawn_lengths(seed)]


def peft_turn(model_name: str, path: str) -> Turn:
    """PEFT prefix tuning on transformers' own classifier."""
    from peft import PrefixTuningConfig, TaskType, get_peft_model
    from transformers import AutoConfig, BertForSequenceClassification

    folder = resolve(model_name).path
    config = AutoConfig.from_pretrained(folder, num_labels=2)
    tuned = path != "peft default"
    if tuned:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    torch.manual_seed(0)
    attention = "eager" if path.endswith("eager") else "sdpa"
    base = BertForSequenceClassification.from_pretrained(folder, config=config, attn_implementation=attention)
    model = get_peft_model(base, PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=PROMPT))
    model = model.to(torch.bfloat16) if "bf16" in path else model
    model.train()
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    batches = padded_batches(drawn_rows(config.vocab_size), sort=tuned)

    def turn(steps: int) -> None:
        for _ in range(steps):
            ids, mask, labels = next(batches)
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    return turn


def padded_batches(rows: list[list[int]], *, sort: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches padded to their longest row; sorted: neighbours in length share one, batches in random order."""
    numbers = random.Random(1)
    order = sorted(range(len(rows)), key=lambda row: len(rows[row])) if sort else list(range(len(rows)))
    groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    while True:
        numbers.shuffle(groups)
        for group in groups:
            longest = max(len(rows[row]) for row in group)
            ids = torch.tensor([rows[row] + [0] * (longest - len(rows[row])) for row in group])
            yield ids, (ids != 0).long(), torch.tensor([row % 2 for row in group])


def our_turn(model_name: str, path: str) -> Turn:
    """The product's own loop, as `tune` runs it."""
    backbone = load_backbone(model_name, dtype="bf16" if path.endswith("bf16") else "fp32")
    rows = drawn_rows(len(backbone.weights["embeddings.word_embeddings.weight"]))
    examples = tuple(Example(label=str(row % 2)) for row in range(len(rows)))
    task = Task("bench", "classification", "accuracy", {"0": "0", "1": "1"}, {"train": examples})
    generator = torch.Generator().manual_seed(0)
    readout = find("linear").create(task, backbone.hidden, generator, lambda texts: torch.zeros(len(texts), 1))
    data = make_data(task, examples, packed(rows), readout, len(rows))
    nothing = make_data(task, (), packed([]), readout, 0)
    prompt = initial(Init(), backbone, PROMPT, "deep", "peft", generator)
    started = parameterise("direct", prompt, generator)

    def turn(steps: int) -> None:
        recipe = Recipe(steps=steps, batch=BATCH, length=PROMPT, placement="peft", evaluations=1)
        run = Run("bench", 0, recipe, started, "peft", readout, "cls", "cross", data, nothing)
        train(backbone, [run])

    return turn


def packed(rows: list[list[int]]) -> Tokens:
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.long)
    starts = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return Tokens(ids, torch.zeros_like(ids), starts, torch.arange(len(rows) + 1))


def make_turn(model: str, path: str) -> Turn:
    return our_turn(model, path) if path in OURS else peft_turn(model, path)


def timed(model: str, paths: list[str], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds a step of every path in every round."""
    turns = {path: make_turn(model, path) for path in paths}
    for turn in turns.values():
        turn(3)
    order = random.Random(2)
    found: dict[str, list[float]] = {path: [] for path in paths}
    for _ in range(rounds):
        for path in order.sample(paths, len(paths)):
            began = time.perf_counter()
            turns[path](steps)
            found[path].append((time.perf_counter() - began) / steps)
    return found


def peak_memory(model: str, path: str) -> float:
    """MiB at the peak of a process that runs one path alone."""
    command = [sys.executable, __file__, "--alone", path, "--models", model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def rows_of(model: str, seconds: dict[str, list[float]], memory: dict[str, float]) -> list[dict[str, object]]:
    """A result a path, with medians, spread and ratios round by round."""
    tuned = min(TUNED, key=lambda path: statistics.median(seconds[path]))
    strongest = min(PEFT[1:], key=lambda path: statistics.median(seconds[path]))
    mean_tokens = sum(drawn_lengths(0)) / ROWS
    made = []
    for path, values in seconds.items():
        to_default = [theirs / ours for ours, theirs in zip(values, seconds["peft default"], strict=True)]
        to_tuned = [theirs / ours for ours, theirs in zip(values, seconds[tuned], strict=True)]
        to_strongest = [theirs / ours for ours, theirs in zip(values, seconds[strongest], strict=True)]
        made.append(
            {
                "model": model,
                "lengths": f"sst2-like, mean {mean_tokens:.1f}, 5 to 66",
                "path": path,
                "milliseconds": round(1000 * statistics.median(values), 1),
                "milliseconds_range": [round(1000 * min(values), 1), round(1000 * max(values), 1)],
                "examples_per_second": round(BATCH / statistics.median(values), 1),
                "ratio_to_peft_default": round(statistics.median(to_default), 2),
                "ratio_to_peft_default_range": [round(min(to_default), 2), round(max(to_default), 2)],
                "ratio_to_peft_tuned": round(statistics.median(to_tuned), 2),
                "ratio_to_peft_tuned_range": [round(min(to_tuned), 2), round(max(to_tuned), 2)],
                "ratio_to_peft_strongest": round(statistics.median(to_strongest), 2),
                "ratio_to_peft_strongest_range": [round(min(to_strongest), 2), round(max(to_strongest), 2)],
                "peft_tuned": tuned,
                "peft_strongest": strongest,
                "peak_memory_mib": round(memory[path], 1),
                "peak_memory_ratio": round(memory[path] / memory["peft default"], 3),
                "peak_memory_ratio_to_tuned": round(memory[path] / memory[tuned], 3),
            }
        )
    return made


def machine() -> dict[str, object]:
    """What the figures belong to."""
    names = [line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "bf16": torch.cpu._is_avx512_bf16_supported(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="minilm,splade-tiny")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--alone", help="run this one path and print its peak memory")
    options = parser.parse_args()
    if options.alone:
        make_turn(options.models, options.alone)(8)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    paths = [*PEFT, *OURS]
    found: list[dict[str, object]] = []
    models = options.models.split(",")
    # Before anything is loaded here: a child's peak counts from what its parent held when it was started.
    memory = {model: {path: peak_memory(model, path) for path in paths} for model in models}
    for model in models:
        seconds = timed(model, paths, options.rounds, options.steps)
        found += [{**row, "machine": machine(), "commit": commit()} for row in rows_of(model, seconds, memory[model])]
    text = json.dumps(found, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "train_step.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
