"""What the benchmarks share: drawn inputs, PEFT as its users run it, our loop, turns in random order, figures.

A benchmark times paths: one is ours, the others are PEFT's. Each is a turn, a function that does so many steps. Paths
take turns in random order within a round, so that whatever else the machine does falls on all of them; a figure is the
median over rounds, a ratio is taken round by round. PEFT's paths:

- `peft default`: fp32, the model's dropout on, rows in the order they come, padded to the longest of the batch.
- `peft tuned fp32`, `peft tuned bf16`: no dropout, rows sorted by length, the attention transformers chooses (sdpa).
  A ratio to "tuned" is to whichever is faster. bf16 is run where products in it are faster than in fp32; elsewhere it
  is no competitor (on AVX2 a step takes many times as long), and would only keep the others waiting.
- the same with `eager` behind: written-out attention, whose backward is faster at the lengths of sentences. A ratio to
  "strongest" has these among the choices.

Figures belong to a class of processor: `avx2`, `avx512`, `amx`, `gpu`. `--mimic avx2` (or `avx512`) measures a lesser
class on an abler processor: our native path and torch, so PEFT too, then use no other instructions. A run replaces the
rows of its own class and settings and leaves all others.

PEFT's batches are made before the clock starts; ours are drawn and packed while it runs, as the product does it.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from keep import Row
from keep import write as write  # every benchmark ends with it
from processor import TORCH, fast_bf16, mimic, processor
from torch import Tensor

from promptgraft import api
from promptgraft.engine.local import pack_size
from promptgraft.model import paths
from promptgraft.model.backbone import Arithmetic, Backbone
from promptgraft.model.catalog import resolve
from promptgraft.model.home import models
from promptgraft.model.load import load_backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.reading import Reading
from promptgraft.prompt.reparam import parameterise
from promptgraft.readout.all import find
from promptgraft.task.task import Example, Task
from promptgraft.train.data import make_data
from promptgraft.train.loop import train
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Run

PROMPT, BATCH, ROWS = 20, 32, 1024
DEFAULT = "peft default"
TUNED = ("peft tuned fp32", "peft tuned bf16")
ARITHMETICS: tuple[Arithmetic, ...] = ("fp32", "bf16", "int8")
EAGER = tuple(f"{path} eager" for path in TUNED)
PEFT = (DEFAULT, *TUNED, *EAGER)
RESULTS = Path(__file__).parent / "results"
TARGET = Path(__file__).parents[1] / "examples/data/home_reviews"

Turn = Callable[[int], None]
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Lengths:
    """Token counts drawn from a lognormal, cut at both ends."""

    name: str
    mu: float
    sigma: float
    least: int
    most: int

    def draw(self, count: int = ROWS, seed: int = 0) -> list[int]:
        numbers = random.Random(seed)
        drawn = (round(numbers.lognormvariate(self.mu, self.sigma)) for _ in range(count))
        return [min(self.most, max(self.least, length)) for length in drawn]

    def __str__(self) -> str:
        return f"{self.name}, mean {statistics.mean(self.draw()):.1f}, {self.least} to {self.most}"


SST2 = Lengths("sst2-like", 3.06, 0.48, 5, 66)
LONG = Lengths("long", 4.345, 0.55, 16, 256)


def fixed(length: int) -> Lengths:
    """Every text as long as every other."""
    return Lengths("equal", 0.0, 0.0, length, length)


def drawn_rows(lengths: Lengths, count: int = ROWS, seed: int = 0) -> list[list[int]]:
    """Random token ids between [CLS] and [SEP]; speed does not depend on which."""
    numbers = random.Random(seed)
    middle = ([numbers.randrange(1000, 30000) for _ in range(length - 2)] for length in lengths.draw(count, seed))
    return [[101, *ids, 102] for ids in middle]


def packed(rows: Sequence[Sequence[int]]) -> Tokens:
    """Rows as the product reads them."""
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.long)
    starts = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return Tokens(ids, torch.zeros_like(ids), starts, torch.arange(len(rows) + 1))


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids padded to the longest row, and their mask."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    return ids, (ids != 0).long()


def padded_batches(rows: list[list[int]], size: int, *, sort: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches without end; sorted: neighbours in length share one.

    Their order steps through the lengths by the golden ratio, the longest first: a few steps in a row are then a fair
    sample of short and long batches, whatever their number.
    """
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row])) if sort else list(range(len(rows)))
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    made = [(*padded([rows[row] for row in group]), torch.tensor([row % 2 for row in group])) for group in groups]
    step = 0
    while True:
        yield made[int(step * 0.6180339887 % 1 * len(made))]
        step += 1


def tuned() -> tuple[str, ...]:
    """PEFT's tuned paths that are worth running here."""
    return TUNED if fast_bf16() else TUNED[:1]


def eager() -> tuple[str, ...]:
    """The same with written-out attention."""
    return EAGER if fast_bf16() else EAGER[:1]


def is_random(name: str) -> bool:
    """Whether a model is given by its size."""
    return re.fullmatch(r"\d+x\d+", name) is not None


def model_folder(name: str) -> str:
    """Folder of a model: of the catalog, a path, or LAYERSxWIDTH with random weights and minilm's tokenizer."""
    if not is_random(name):
        return str(resolve(name).path)
    from transformers import BertConfig, BertModel

    layers, width = map(int, name.split("x"))
    folder = Path(tempfile.mkdtemp(prefix="promptgraft-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.manual_seed(0)
    heads = width // (64 if width > 384 else 32)  # as BERT and minilm have them
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width
    )
    BertModel(config).save_pretrained(folder)
    for file in resolve("minilm").path.glob("*token*"):
        shutil.copy(file, folder)
    return str(folder)


def peft_model(folder: str, path: str, prompt: int = PROMPT) -> Any:
    """PEFT's prefix tuning on transformers' own classifier, as the path says."""
    from peft import PrefixTuningConfig, TaskType, get_peft_model

    model = get_peft_model(
        classifier(folder, path), PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=prompt)
    )
    return model.to(torch.bfloat16) if "bf16" in path else model


def classifier(folder: str, path: str, classes: int = 2) -> Any:
    """transformers' classifier; without dropout unless the path is the default."""
    from transformers import AutoConfig, BertForSequenceClassification
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    config = AutoConfig.from_pretrained(folder, num_labels=classes)
    if path != DEFAULT:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    torch.manual_seed(0)
    attention = "eager" if path.endswith("eager") else "sdpa"
    return BertForSequenceClassification.from_pretrained(folder, config=config, attn_implementation=attention)


def peft_turn(folder: str, path: str, rows: list[list[int]], *, batch: int = BATCH, prompt: int = PROMPT) -> Turn:
    """Training steps of one PEFT prefix: forward, loss, backward, AdamW."""
    model = peft_model(folder, path, prompt)
    model.train()
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    batches = padded_batches(rows, batch, sort=path != DEFAULT)

    def turn(steps: int) -> None:
        for _ in range(steps):
            ids, mask, labels = next(batches)
            model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    return turn


def our_turn(
    backbone: Backbone, rows: list[list[int]], *, runs: int = 1, batch: int = BATCH, prompt: int = PROMPT
) -> Turn:
    """Training steps of so many runs by the product's own loop, in packs as `tune` and `compare` have them."""
    examples = tuple(Example(label=str(row % 2)) for row in range(len(rows)))
    task = Task("bench", "classification", "accuracy", {"0": "0", "1": "1"}, {"train": examples})
    tokens = packed(rows)

    def begun(seed: int, recipe: Recipe) -> Run:
        generator = torch.Generator().manual_seed(seed)
        readout = find("linear").create(task, backbone.hidden, generator, lambda texts: torch.zeros(len(texts), 1))
        data, nothing = (
            make_data(task, some, packed_, readout, len(some))
            for some, packed_ in ((examples, tokens), ((), packed([])))
        )
        values = parameterise("direct", initial(Init(), backbone, prompt, "deep", "peft", generator), generator)
        return Run(f"bench {seed}", seed, recipe, values, "peft", readout, Reading("cls"), data, nothing)

    pack = pack_size(backbone)

    def turn(steps: int) -> None:
        recipe = Recipe(steps=steps, batch=batch, length=prompt, placement="peft", evaluations=1)
        for first in range(0, runs, pack):
            train(backbone, [begun(seed, recipe) for seed in range(first, min(runs, first + pack))])

    return turn


def load_ours(folder: str, path: str) -> Backbone:
    """The backbone of one of our paths, in the arithmetic that ends its name, else in what is fastest here."""
    return load_backbone(folder, dtype=next((name for name in ARITHMETICS if path.endswith(name)), "auto"))


def interleaved(turns: dict[str, Turn], rounds: int, *, seconds: float = 0.5, least: int = 2) -> Seconds:
    """Seconds a step of every path in every round; a turn has as many steps as fill `seconds`, `least` or more."""
    steps = {path: max(least, min(50, round(seconds / _warm(turn)))) for path, turn in turns.items()}
    order = random.Random(2)
    found: Seconds = {path: [] for path in turns}
    for _ in range(rounds):
        for path in order.sample(list(turns), len(turns)):
            began = time.perf_counter()
            turns[path](steps[path])
            found[path].append((time.perf_counter() - began) / steps[path])
    return found


def _warm(turn: Turn) -> float:
    """Seconds of a step once the first is done."""
    turn(1)
    began = time.perf_counter()
    turn(1)
    return time.perf_counter() - began


def compared(seconds: Seconds, memory: dict[str, float] | None = None) -> list[Row]:
    """A row a path: its time, its ratios to PEFT round by round, its peak memory beside PEFT's; null: not measured."""
    tuned = fastest(seconds, TUNED)
    strongest = fastest(seconds, (*TUNED, *EAGER))
    memory = memory or {}
    rows = []
    for path, values in seconds.items():
        row: Row = {"path": path, **spread("milliseconds", [1000 * value for value in values], 2)}
        for name, peer in (("default", DEFAULT), ("tuned", tuned), ("strongest", strongest)):
            ratios = [b / a for a, b in zip(values, seconds.get(peer, ()), strict=peer in seconds)]
            row |= spread(f"ratio_to_peft_{name}", ratios, 2) if ratios else {f"ratio_to_peft_{name}": None}
        row |= {"peft_tuned": tuned, "peft_strongest": strongest, "rounds": len(values)}
        row["peak_memory_mib"] = round(memory[path], 1) if path in memory else None
        row["peak_memory_ratio"] = _over(memory, path, DEFAULT)
        row["peak_memory_ratio_to_tuned"] = _over(memory, path, alike(path, tuned))
        rows.append(row)
    return rows


def fastest(seconds: Seconds, paths: Sequence[str]) -> str:
    """The path with the smallest median among those that were run."""
    return min((path for path in paths if path in seconds), key=lambda path: statistics.median(seconds[path]))


def alike(path: str, tuned: str) -> str:
    """The tuned path of PEFT whose memory is the measure of a path's: that of the same arithmetic, else the faster."""
    return next((one for one in TUNED if set(one.split()) & set(path.split()) & {"fp32", "bf16"}), tuned)


def spread(name: str, values: Sequence[float], digits: int) -> Row:
    """The median of a figure, and its range beside it."""
    ends = [round(min(values), digits), round(max(values), digits)]
    return {name: round(statistics.median(values), digits), f"{name}_range": ends}


def _over(memory: dict[str, float], path: str, peer: str) -> float | None:
    return round(memory[path] / memory[peer], 3) if path in memory and peer in memory else None


def bank_for(model: str, task: Task, folder: str, **recipe: object) -> str:
    """A bank of source prompts for a job, made outside the clock: three, each tuned on a third of the task's rows.

    For minilm the one that ships.
    """
    if model == "minilm":
        return "starter"
    backbone = api.open_model(model)
    for part in range(3):
        splits = {name: rows[part::3] for name, rows in task.splits.items() if name != "validation"}
        source = task.replace(name=f"source-{part}", splits=splits)
        api.tune(source, backbone, bank=folder, **{"steps": 20, **recipe})
    return folder


def timed(job: Callable[[], object]) -> float:
    """Seconds of a job."""
    began = time.perf_counter()
    job()
    return round(time.perf_counter() - began, 4)


def warm(backbone: Backbone) -> None:
    """A small comparison of something else first, so that what loads late is there; PEFT's jobs are warmed up too."""
    rows = tuple(Example(text=f"text {n}", label="ab"[n % 2]) for n in range(12))
    task = Task("warm", "classification", "accuracy", {"a": "a", "b": "b"}, {"train": rows, "test": rows})
    api.compare(task, backbone, seeds=(0,), rows=(("linear-probe", {}), ("prompt-tuning", {})), steps=2)


def alone(script: str, *words: object) -> Row:
    """What a process of its own prints in its last line; it finds the models and the choice of paths, and no cache."""
    command = [sys.executable, script, *map(str, words)]
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "models").symlink_to(models().resolve(), target_is_directory=True)
        if (kept := models().parent / paths.KEPT_IN).exists():
            shutil.copy(kept, home)  # all processes take the same paths
        surroundings = {**os.environ, "PROMPTGRAFT_HOME": home}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=surroundings)
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def peak() -> float:
    """MiB at the peak of this process."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held when it started this process
        return float(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


class Parser(argparse.ArgumentParser):
    """Of what was asked, the class of processor comes first: the program may have to start anew for it."""

    def parse_args(self, *given: Any, **named: Any) -> Any:
        found = super().parse_args(*given, **named)
        if found.mimic:
            mimic(found.mimic)
        processor()  # says what is wrong before hours have passed
        return found


def parser(about: str | None, *, models: str, rounds: int) -> argparse.ArgumentParser:
    """The options all benchmarks have."""
    made = Parser(description=(about or "").splitlines()[0])
    made.add_argument("--models", default=models, help="catalog names, folders, or LAYERSxWIDTH for random weights")
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--mimic", choices=list(TORCH), help="measure as on a lesser class of processor")
    made.add_argument("--quick", action="store_true", help="one short round, no memory: whether it runs, not how fast")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    made.add_argument("--alone", help="used by the script itself: do this one path and print what it took")
    return made
