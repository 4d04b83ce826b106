"""Every run draws the rows of its next step; the rows of all runs are gathered into one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from promptgraft.model.tokens import Tokens, concatenate
from promptgraft.train.data import Data


class Pool:
    """The training rows of all runs, end to end; rows that several runs share are stored once."""

    def __init__(self, data: Sequence[Data]) -> None:
        distinct = {id(split.tokens): split.tokens for split in data}
        counts = torch.tensor([0, *(tokens.count for tokens in distinct.values())]).cumsum(0).tolist()
        first = dict(zip(distinct, counts, strict=False))
        self._tokens = concatenate(list(distinct.values()))
        self._first = {id(split): first[id(split.tokens)] for split in data}

    def gather(self, data: Sequence[Data], rows: Sequence[Int[Tensor, "_"]]) -> Tokens:
        """Gather the drawn rows of all runs, one run after the other."""
        places = [index + self._first[id(split)] for split, index in zip(data, rows, strict=True)]
        return self._tokens.select(torch.cat(places))


class Order:
    """Draws a run's rows in random order.

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
        """The number of rows in a step."""
        return min(self._batch, self._labelled) + min(self._batch, self._free)

    def draw(self) -> Int[Tensor, "N"]:
        """Draw the next labelled rows, and as many unlabelled ones if there are any."""
        size = min(self._batch, self._labelled)
        if len(self.left) < size:
            self.left = torch.randperm(self._labelled, generator=self._generator)
        rows, self.left = self.left[:size], self.left[size:]
        if not self._free:
            return rows
        unlabelled = torch.randint(self._free, (min(self._batch, self._free),), generator=self._generator)
        return torch.cat([rows, unlabelled + self._labelled])
