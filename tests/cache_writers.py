"""What writes into a cache without end, in a process of its own that a test kills."""

from __future__ import annotations

import random
from multiprocessing.synchronize import Event
from pathlib import Path

import torch

from promptgraft.engine.cache import Cache

COUNT = 20


def value_of(number: int) -> torch.Tensor:
    """What belongs under a key."""
    return torch.arange(1000) * number


def write_without_end(folder: Path, seed: int, started: Event) -> None:
    """Entries in any order; older ones are forgotten all the while."""
    cache, dice = Cache(folder, 60_000), random.Random(seed)
    while True:
        number = dice.randrange(COUNT)
        cache.keep("states", str(number), {"states": value_of(number)}, 1.0)
        started.set()
