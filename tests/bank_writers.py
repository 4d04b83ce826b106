"""What processes do to a bank in test_bank_kills.py; in a module of its own so that they start fast."""

from __future__ import annotations

import random
from multiprocessing.synchronize import Event
from pathlib import Path

from banks import small_artefact
from promptgraft.bank.bank import Bank
from promptgraft.prompt import atomic

NAMES = ("a", "b", "c")


def write_without_end(folder: Path, seed: int, swaps: bool, started: Event) -> None:
    """Add, replace and remove until killed; `keep` is only ever replaced."""
    if not swaps:
        atomic.exchange = lambda one, other: False
    bank, dice = Bank(folder), random.Random(seed)
    started.set()
    while True:
        bank.add(small_artefact(dice.randrange(100)), "keep", replace=True)
        name = dice.choice(NAMES)
        if name in bank.names() and dice.random() < 0.4:
            bank.remove(name)
        else:
            bank.add(small_artefact(dice.randrange(100)), name, replace=True)
        bank.list()


def write_some(folder: Path, writer: int) -> None:
    """Eight artefacts of its own, and one that another writer replaces too."""
    bank = Bank(folder)
    for turn in range(8):
        bank.add(small_artefact(turn), f"own-{writer}-{turn}")
        bank.add(small_artefact(10 * writer + turn), "shared", replace=True)
