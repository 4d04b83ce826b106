"""The studies of `extend` and `suggest` share a small bank, grafts, tables, and a backbone that passes a text once."""

from __future__ import annotations

import csv
import hashlib
import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor

import promptgraft.api as pg
from promptgraft.engine.predictor import Predictor
from promptgraft.model.backbone import Backbone, Batch, Read
from promptgraft.prompt.prompt import PromptStack
from promptgraft.task.task import Example, Task

PROMPTS = ("goemotions", "clinc150_domain", "dbpedia14", "boolq", "scicite", "mnli")
"""Of the starter bank that are grafted, so that a study takes an hour and not a night; none is of a studied task."""


def small_bank(work: Path, model: str, names: Sequence[str] = PROMPTS) -> Path:
    """A bank of these prompts, made in the work folder."""
    bank = work / "bank"
    for name in names:
        shutil.copytree(pg.as_bank("starter").folder / model / name, bank / name, dirs_exist_ok=True)
    return bank


def graft(task: Task, rows: tuple[Example, ...], bank: Path, backbone: Backbone) -> Predictor:
    """A graft on these rows; they stand for the validation rows too, at which graft does not look."""
    own = task.replace(splits={"train": rows, "validation": rows})
    return pg.transfer(own, backbone, bank, method="graft", baselines=False, max_length=64).predictor


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows recorded so far."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record(path: Path, columns: Sequence[str], key: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Add rows to a CSV, where a later one of a cell takes its place; several processes may do so at a time."""
    shown = [{name: f"{value:.2f}" if isinstance(value, float) else str(value) for name, value in row.items()}
             for row in rows]  # fmt: skip
    with filelock.FileLock(path.with_name(f".{path.stem}.lock")):
        table = {tuple(row[name] for name in key): row for row in (*read_table(path), *shown)}
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table[cell] for cell in sorted(table))


class Keeping:
    """A backbone that keeps the state of every text it has passed: the same texts come back with every batch."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._states: dict[tuple[object, ...], Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def forward(self, batch: Batch, prompts: PromptStack | None, read: Read, *, dropout: None = None) -> Tensor:
        tokens, owner = batch.tokens, batch.prompt_of
        starts, ids, types = tokens.starts.tolist(), tokens.ids.numpy(), tokens.types.numpy()
        values: list[object] = [None]
        if prompts is not None:
            parts = itertools.pairwise(prompts.starts.tolist())
            tables = [prompts.table[..., first:last, :].contiguous().numpy().tobytes() for first, last in parts]
            values = [hashlib.sha256(table).digest() for table in tables]
        owners = [0] * len(starts[1:]) if owner is None else owner.tolist()
        keys = [
            (ids[first:last].tobytes(), types[first:last].tobytes(), values[own], read)
            for (first, last), own in zip(itertools.pairwise(starts), owners, strict=True)
        ]
        new = list({key: place for place, key in enumerate(keys) if key not in self._states}.values())
        if new:
            places = torch.tensor(new)
            part = Batch(tokens.select(places), None if owner is None else owner[places])
            states = self._backbone.forward(part, prompts, read)
            self._states |= {keys[place]: state.clone() for place, state in zip(new, states, strict=True)}
        return torch.stack([self._states[key] for key in keys])
