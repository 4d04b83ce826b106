"""The loop reads a split as rows with their tokens and gold labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from promptgraft.model.tokens import Tokens, gather
from promptgraft.readout.readout import Readout
from promptgraft.task.task import Example, Task


@dataclass(frozen=True)
class Data:
    """The rows of a split with their tokens and gold labels.

    Attributes:
        gold: `[U, ...]` as the readout wants it; -100 where a unit has no label.
        units: row b has units `units[b]:units[b + 1]`.
        labelled: rows from this index on carry no label (text for distillation alone).
    """

    task: Task
    examples: tuple[Example, ...]
    tokens: Tokens
    gold: Tensor
    units: Int[Tensor, "B_plus_1"]
    labelled: int

    def __len__(self) -> int:
        return self.tokens.count

    @cached_property
    def unit_is_row(self) -> bool:
        """Whether every row is one unit."""
        return torch.equal(self.units, torch.arange(len(self) + 1))

    def unit_index(self, rows: Int[Tensor, "N"]) -> Int[Tensor, "M"]:
        """The indices of these rows' units, in order."""
        return rows if self.unit_is_row else gather(self.units, rows)[0]


def make_data(task: Task, examples: Sequence[Example], tokens: Tokens, readout: Readout, labelled: int) -> Data:
    """Pair rows with the gold labels of a readout.

    Args:
        labelled: how many rows, from the first on, carry a label.
    """
    gold = readout.gold(examples, tokens, task)
    units = tokens.row_words if readout.unit == "word" else torch.arange(tokens.count + 1)
    return Data(task, tuple(examples), tokens, gold, units, labelled)
