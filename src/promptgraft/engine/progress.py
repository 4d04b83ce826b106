"""Progress events say what is done, what runs now, and which share of the whole cost each is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from promptgraft.engine.share import characters
from promptgraft.method.all import find
from promptgraft.method.job import Job
from promptgraft.method.method import Trains, steps_of
from promptgraft.task.task import Example, Task

CHARACTERS = 5
"""A token of ordinary text, the space included."""
OVERHEAD = 100
"""Tokens that pass in the time that a job takes for other things, or a probe for its fit; of the encoders that most
people tune."""
PASSES: Mapping[Trains, int] = {"prompt": 3, "dropout": 4, "weights": 8}
"""Forward passes that a step over a batch is worth: a backward is two, and each pass is dearer when weights learn."""
MOVING = 2000
"""Tokens that pass in the time it takes to move all of a model's weights, at each step, and to put them in their place
for each look at validation."""


@dataclass(frozen=True)
class Event:
    """A report of how far the work is.

    Attributes:
        done, jobs: pieces of work that are done, of all there are.
        label: what runs now.
        step, steps, loss: of what trains now.
        unit: what the pieces are.
        behind: share of the whole cost that is done; 0 where costs are not known.
        running: the same of the pieces that run now, from their first step to their last.
    """

    done: int
    jobs: int
    label: str
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    unit: str = "jobs"
    behind: float = 0.0
    running: float = 0.0

    @property
    def share(self) -> float:
        """The share of the whole cost that is done, counting the steps of what runs now."""
        return self.behind + (self.running * self.step / self.steps if self.steps else 0.0)


Progress = Callable[[Event], None]


class Teller:
    """Calls a callback with an `Event` whenever the work has moved.

    Args:
        progress: the callback; None for none.
    """

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self._costs: dict[str, float] = {}
        self._at = Event(0, 0, "")

    def begin(self, costs: Mapping[str, float], unit: str = "jobs") -> None:
        """Start over with these pieces of work by name, and what each should cost against the others (0: not known)."""
        total = sum(costs.values())
        self._costs = {name: cost / total if total else 0.0 for name, cost in costs.items()}
        self._at = Event(0, len(costs), "", unit=unit)

    def now(self, label: str, running: Sequence[str] | None = None) -> None:
        """Report what runs now, and which pieces that is; None: the same ones as before."""
        share = self._at.running if running is None else sum(self._costs.get(name, 0.0) for name in running)
        self._tell(replace(self._at, label=label, step=0, steps=0, running=share))

    @contextmanager
    def part(self, label: str) -> Iterator[None]:
        """Add a label to what runs now while a part of it is done."""
        before = self._at
        self._tell(replace(before, label=f"{before.label}: {label}" if before.label else label))
        yield
        self._tell(before)

    def step(self, step: int, steps: int, loss: float = 0.0) -> None:
        """Report how many steps of what runs now are done."""
        self._tell(replace(self._at, step=step, steps=steps, loss=loss))

    def scoring(self, label: str) -> None:
        """Report that what has run is being scored; its steps count as done."""
        self._tell(replace(self._at, label=label))

    def finish(self, name: str) -> None:
        """Report that a piece is done."""
        cost = self._costs.get(name, 0.0)
        behind, running = self._at.behind + cost, max(0.0, self._at.running - cost)
        self._tell(replace(self._at, done=self._at.done + 1, behind=behind, running=running))

    def _tell(self, event: Event) -> None:
        self._at = event
        if self.progress is not None:
            self.progress(event)


def cost(job: Job, task: Task) -> float:
    """Estimate a job's cost in tokens of a forward pass: a rough figure, good for shares of a whole only.

    Args:
        task: the job's, its splits drawn.
    """
    work = find(job.method).work(job)
    train, validation, test = (_tokens(task.splits.get(split, ())) for split in ("train", "validation", "test"))
    total = OVERHEAD + validation + test + work.probes * OVERHEAD + work.passes(len(task.train)) * train
    if work.trains is None:
        return total
    rows = max(1, len(task.train))
    batch = train / rows * min(job.recipe.batch, rows)
    swap = MOVING if work.trains == "weights" else 0
    step = (PASSES[work.trains] + work.teachers) * batch + swap
    return total + steps_of(job, work, rows) * step + job.recipe.evaluations * (validation + swap)


def _tokens(examples: Sequence[Example]) -> float:
    return sum(map(characters, examples)) / CHARACTERS + 2 * len(examples)
