"""A calibration is what work costs on this machine with one backbone, measured on small sample work.

It is kept until the machine or the code changes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from statistics import median
from typing import Self

import torch

from promptgraft.engine.cache import Cache, key_of
from promptgraft.engine.identity import code, machine
from promptgraft.engine.local import LocalEngine
from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.method import Trains
from promptgraft.model.backbone import Backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.reading import Reading
from promptgraft.prompt.reparam import parameterise
from promptgraft.readout.all import find
from promptgraft.readout.readout import Given, on_device
from promptgraft.task.task import Example, Task
from promptgraft.train.data import make_data
from promptgraft.train.loop import train
from promptgraft.train.predict import pooled
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Run
from promptgraft.train.teacher import Recorded
from promptgraft.train.terms import Distill
from promptgraft.train.weights import Weights

SHORT, LONG = 16, 64
"""Tokens of the made-up texts: attention makes a token of a long text cost more."""
ROWS = 64
FEW, MANY = 4, 32
LONG_ENOUGH = 0.5
"""Seconds of two steps that need not be measured again."""
LABELS = {"a": "the first kind", "b": "the second kind"}


@dataclass(frozen=True)
class CostLine:
    """The seconds of a pass or step: `fixed + run * runs + tokens * (token + longer * length)`."""

    fixed: float
    run: float
    token: float
    longer: float

    def __call__(self, runs: int, tokens: float, length: float) -> float:
        return self.fixed + self.run * runs + tokens * (self.token + self.longer * length)


@dataclass(frozen=True)
class Calibration:
    """The measured seconds of each kind of work.

    Attributes:
        forward: a pass without gradient.
        prompt, dropout, weights: a training step of runs of that kind; weights' are one run each.
        term: what a distillation term adds to a run's step.
        job: of a job beside its steps and passes: setting up, judging, intervals.
        probe: a probe with its cross-validation.
        swap: putting trained weights in the backbone's place for a pass.
    """

    forward: CostLine
    prompt: CostLine
    dropout: CostLine
    weights: CostLine
    term: float
    job: float
    probe: float
    swap: float

    def step(self, kind: Trains) -> CostLine:
        """The cost of a training step of that kind."""
        lines: dict[Trains, CostLine] = {"prompt": self.prompt, "dropout": self.dropout, "weights": self.weights}
        return lines[kind]

    def numbers(self) -> torch.Tensor:
        """All figures as one vector."""
        flat = [number for part in astuple(self) for number in (part if isinstance(part, tuple) else (part,))]
        return torch.tensor(flat, dtype=torch.float64)

    @classmethod
    def of(cls, numbers: torch.Tensor) -> Self:
        """The calibration that `numbers` came from."""
        values = iter(numbers.tolist())
        width = len(fields(CostLine))
        forward, prompt, dropout, weights = (CostLine(*(next(values) for _ in range(width))) for _ in range(4))
        return cls(forward, prompt, dropout, weights, *values)


def calibrated(backbone: Backbone, cache: Cache) -> Calibration:
    """Read the calibration from the cache, or measure it now, which takes some seconds."""
    parts = (backbone.fingerprint, backbone.arithmetic, machine(backbone.device), code("kernels", "model", "train"))
    key = key_of([*parts, code("engine", "method", "readout")])
    entry = cache.read("calibration", key)
    if entry is not None:
        return Calibration.of(entry["numbers"])
    calibration = measure(backbone)
    cache.keep("calibration", key, {"numbers": calibration.numbers()}, seconds=None)
    return calibration


def passes(backbone: Backbone, cache: Cache) -> CostLine:
    """Read from the cache what a pass costs, or measure it now: of a model that nothing is trained on."""
    parts = ("passes", backbone.fingerprint, backbone.arithmetic, machine(backbone.device), code("kernels", "model"))
    key = key_of([*parts, code("engine", "train")])
    entry = cache.read("calibration", key)
    if entry is not None:
        return CostLine(*entry["numbers"].tolist())
    sample = _SampleWork(backbone)
    sample.warm()
    line = sample.forward_line()
    cache.keep("calibration", key, {"numbers": torch.tensor(astuple(line), dtype=torch.float64)}, seconds=None)
    return line


def measure(backbone: Backbone) -> Calibration:
    """Measure some work of each kind."""
    sample = _SampleWork(backbone)
    if not backbone.learns:
        return sample.without_gradients()
    sample.step("prompt", 1, FEW, SHORT)  # what loads late is there afterwards
    forward = sample.forward_line()
    prompt = sample.line("prompt")
    dropout = sample.dropout(prompt)
    weights = sample.like(prompt, "weights")
    term = max(0.0, sample.step("prompt", 8, FEW, SHORT, term=True) - sample.step("prompt", 8, FEW, SHORT)) / 8
    job, probe = sample.jobs("prompt-tuning", prompt, forward)
    return Calibration(forward, prompt, dropout, weights, term, job, probe, sample.swap())


class _SampleWork:
    """Small sample rows, runs and jobs on one backbone, and how long they take."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._seconds: dict[tuple[object, ...], float] = {}
        self._words = len(backbone.weights[backbone.words])
        self._long = min(LONG, backbone.max_length - 2 * SHORT)

    def without_gradients(self) -> Calibration:
        """Measure passes and probes alone, for an arithmetic in which nothing can be trained."""
        self.warm()
        forward, nothing = self.forward_line(), CostLine(0, 0, 0, 0)
        job, probe = self.jobs("zero-shot", nothing, forward)
        return Calibration(forward, nothing, nothing, nothing, 0.0, job, probe, self.swap())

    def warm(self) -> None:
        """Make a pass, after which there is what loads late."""
        self._forward(FEW, SHORT)

    def forward_line(self) -> CostLine:
        """Measure a pass without gradient at three sizes."""
        small, large, longer = (self._forward(*size) for size in ((FEW, SHORT), (ROWS, SHORT), (ROWS, self._long)))
        return _line(small, small, large, longer, FEW, ROWS, self._long)

    def line(self, kind: Trains) -> CostLine:
        """Measure a training step at four sizes."""
        single, eight = self.step(kind, 1, FEW, SHORT), self.step(kind, 8, FEW, SHORT)
        large, longer = self.step(kind, 1, MANY, SHORT), self.step(kind, 1, MANY, self._long)
        return _line(single, eight, large, longer, FEW, MANY, self._long)

    def like(self, reference: CostLine, kind: Trains) -> CostLine:
        """Measure a step of a kind at two sizes; it grows with length and runs as the reference does."""
        small, large = self.step(kind, 1, FEW, SHORT), self.step(kind, 1, MANY, SHORT)
        token = max(0.0, large - small) / ((MANY - FEW) * SHORT)
        scale = token / max(1e-12, reference.token + reference.longer * SHORT)
        fixed = max(0.0, small - reference.run - token * FEW * SHORT)
        return CostLine(fixed, reference.run, reference.token * scale, reference.longer * scale)

    def dropout(self, reference: CostLine) -> CostLine:
        """Measure a step with dropout; nothing where the backbone has none, since no run has such a step then."""
        try:
            self.step("dropout", 1, FEW, SHORT)
        except RunError:
            return CostLine(0, 0, 0, 0)
        return self.like(reference, "dropout")

    def step(self, kind: Trains, runs: int, batch: int, length: int, *, term: bool = False) -> float:
        """Seconds of one step: what seven take longer than two, a fifth of it; the better of two tries.

        Where two steps take long, what is beside them is little, and they are enough.
        """
        key = (kind, runs, batch, length, term)
        if key not in self._seconds:
            two = self._train(key, 2)
            spans = [] if two > LONG_ENOUGH else [self._train(key, 7) - again for again in (two, self._train(key, 2))]
            self._seconds[key] = max(1e-6, min(spans) / 5) if spans else two / 2
        return self._seconds[key]

    def _train(self, key: tuple[Trains, int, int, int, bool], steps: int) -> float:
        kind, count, batch, length, term = key
        runs = [self._run(kind, seed, batch, length, steps, term=term) for seed in range(count)]
        return _seconds(lambda: train(self.backbone, runs))

    def _run(self, kind: Trains, seed: int, batch: int, length: int, steps: int, *, term: bool) -> Run:
        generator = torch.Generator().manual_seed(seed)
        task, tokens = _task(ROWS), self._tokens(ROWS, length)
        width = self.backbone.hidden
        readout = find("linear").create(task, width, generator, Given(lambda texts: torch.zeros(len(texts), 1)))
        data = make_data(task, task.train, tokens, readout, ROWS)
        weights = Weights.of(self.backbone, tokens) if kind == "weights" else None
        if weights is not None:
            data = make_data(task, task.train, weights.numbered(tokens), readout, ROWS)
        recipe = Recipe(steps=steps, batch=batch, evaluations=1, depth="deep" if self.backbone.deep else "shallow")
        start = initial(Init(), self.backbone, recipe.length, recipe.depth, recipe.placement, generator)
        prompt = None if kind == "weights" else parameterise("direct", start.to(self.backbone.device), generator)
        terms = (Distill(Recorded(torch.zeros(ROWS, len(LABELS))), 1.0, 2.0),) if term else ()
        nothing = make_data(task, (), self._tokens(0, length), readout, 0)
        placed_readout = on_device(readout, self.backbone.device)
        return Run(
            f"made up {seed}", seed, recipe, prompt, recipe.placement, placed_readout, Reading("mean"), data, nothing,
            terms=terms, weights=weights, dropout=0.1 if kind == "dropout" else 0.0,
        )  # fmt: skip

    def _forward(self, rows: int, length: int) -> float:
        tokens = self._tokens(rows, length)
        return median(_seconds(lambda: pooled(self.backbone, None, tokens, "mean")) for _ in range(3))

    def _tokens(self, rows: int, length: int) -> Tokens:
        """Rows of random words of the vocabulary."""
        seed = torch.Generator().manual_seed(length)
        ids = torch.randint(min(5, self._words - 1), min(900, self._words), (rows * length,), generator=seed)
        return Tokens(ids, torch.zeros_like(ids), torch.arange(rows + 1) * length, torch.arange(rows + 1))

    def swap(self) -> float:
        """Seconds it takes to put trained weights in the backbone's place, beyond the pass itself."""
        tokens = self._tokens(FEW, SHORT)
        trained = Weights.of(self.backbone, tokens)
        swapped = median(
            _seconds(lambda: pooled(self.backbone.with_weights(trained.whole()), None, tokens, "mean"))
            for _ in range(3)
        )
        return max(0.0, swapped - self._forward(FEW, SHORT))

    def jobs(self, method: str, step: CostLine, forward: CostLine) -> tuple[float, float]:
        """Seconds of a one-step job beside its step and passes, and seconds of a probe."""
        train_rows, test_rows = 16, 64
        words = random.Random(0)
        splits = {
            name: tuple(
                Example(text=" ".join(words.choices(("good", "bad", "plain", "text"), k=8)), label="ab"[row % 2])
                for row in range(rows)
            )
            for name, rows in (("train", train_rows), ("validation", train_rows), ("test", test_rows))
        }
        task = Task("made up", "classification", "accuracy", LABELS, splits)
        recipe = Recipe(
            steps=1,
            evaluations=1,
            depth="deep" if self.backbone.deep else "shallow",
            arithmetic=self.backbone.arithmetic,
        )

        def seconds(method: str, count: int) -> float:
            jobs = [Job(task, self.backbone.fingerprint, method, seed, recipe) for seed in range(count)]
            return _seconds(lambda: list(LocalEngine(self.backbone).run(jobs))) / count

        seconds(method, 1)
        rows = [len(split) * 10 for split in splits.values()]
        passes = 2 * forward(1, rows[1], 10) + forward(1, rows[2], 10)
        job = max(0.0, seconds(method, 4) - step(1, rows[0], 10) - passes)
        probe = max(0.0, seconds("linear-probe", 4) - job - passes)
        return job, probe


def _line(single: float, eight: float, large: float, longer: float, few_rows: int, rows: int, length: int) -> CostLine:
    """Fit a line to the seconds of one run of few rows, eight such runs, one of many rows, one of many longer rows."""
    short = max(0.0, large - single) / ((rows - few_rows) * SHORT)
    long = max(short, (longer - large + short * rows * SHORT) / (rows * length))
    slope = (long - short) / max(1, length - SHORT)
    run = max(0.0, (eight - single) / 7 - few_rows * SHORT * short)
    return CostLine(max(0.0, single - run - few_rows * SHORT * short), run, max(0.0, short - slope * SHORT), slope)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _task(rows: int) -> Task:
    examples = tuple(Example(text=f"text {row}", label="ab"[row % 2]) for row in range(rows))
    return Task("made up", "classification", "accuracy", LABELS, {"train": examples})
