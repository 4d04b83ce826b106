"""Which rows a step sees: every run draws its own, and all of them are gathered at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from promptgraft.model.tokens import Tokens, concatenate
from promptgraft.train.data import Data


class Pool:
    """The training rows of all runs, end to end; rows that several runs share are there once."""

    def __init__(self, data: Sequence[Data]) -> None:
        own = {id(one.tokens): one.tokens for one in data}
        counts = torch.tensor([0, *(tokens.count for tokens in own.values())]).cumsum(0).tolist()
        first = dict(zip(own, counts, strict=False))
        self._tokens = concatenate(list(own.values()))
        self._first = {id(one): first[id(one.tokens)] for one in data}

    def gather(self, data: Sequence[Data], rows: Sequence[Int[Tensor, "_"]]) -> Tokens:
        """Rows of each run, one run after the other."""
        moved = [index + self._first[id(one)] for one, index in zip(data, rows, strict=True)]
        return self._tokens.select(torch.cat(moved))


class Order:
    """A run's rows in the order in which it sees them.

    Uniform: no row comes twice in a pass over the rows, and those left at its end, too few for a batch, are passed
    over. Packed rows of any length share a batch at no cost, so nothing is gained by grouping similar lengths, which
    would make the batches less alike than chance does.

    Attributes:
        left: the labelled rows of this pass that are still to come.
    """

    def __init__(self, data: Data, batch: int, generator: torch.Generator) -> None:
        self.left = torch.zeros(0, dtype=torch.long)
        self._labelled, self._free = data.labelled, len(data) - data.labelled
        self._batch, self._generator = batch, generator

    @property
    def size(self) -> int:
        """Rows of a step."""
        return min(self._batch, self._labelled) + min(self._batch, self._free)

    def draw(self) -> Int[Tensor, "N"]:
        """The next labelled rows, and as many unlabelled ones if there are any."""
        size = min(self._batch, self._labelled)
        if len(self.left) < size:
            self.left = torch.randperm(self._labelled, generator=self._generator)
        rows, self.left = self.left[:size], self.left[size:]
        if not self._free:
            return rows
        drawn = torch.randint(self._free, (min(self._batch, self._free),), generator=self._generator)
        return torch.cat([rows, drawn + self._labelled])
