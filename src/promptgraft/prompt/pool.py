"""A pool of labelled rows, of which every row is shown those that are nearest to it as demonstrations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import ArtefactError
from promptgraft.prompt.reading import Pooling
from promptgraft.prompt.tensors import check_numbers, tensor_hash
from promptgraft.untrusted import visible

FORM: dict[str, int] = {"texts": 1, "groups": 1, "features": 2}
"""The number of axes of each tensor that an artefact keeps of a pool."""
POOLINGS: tuple[Pooling, ...] = ("cls", "mean", "pooler")
DECIMALS = 4
"""Of similarities that are compared: what two batches make of one text differs further behind."""
DO = "tune it again"


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """Labelled rows as demonstrations, with what tells which of them are near a row.

    Pools of equal content are equal.

    Attributes:
        lines: each row with its answer, in the words of a template.
        keys: a hash of each row's own texts: no row is shown itself.
        groups: the class of each row, by number; all alike where there are no classes.
        features: pooled states of the rows alone, without a prompt, at unit length.
        pooling: of these.
    """

    lines: tuple[str, ...]
    keys: tuple[str, ...]
    groups: Int[Tensor, "N"]
    features: Float[Tensor, "N H"]
    pooling: Pooling

    @cached_property
    def digest(self) -> str:
        """A hash of all that it holds."""
        return tensor_hash(self.state())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelledPool) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def nearest(self, features: Float[Tensor, "B H"], keys: Sequence[str], count: int) -> list[list[int]]:
        """Of each row the numbers of its nearest labelled rows, nearest first, as evenly over the classes as can be.

        The nearest of every class come before the second nearest of any.

        Args:
            features: of the rows, at unit length.
            keys: of the rows.
        """
        similarity = (features.float() @ self.features.float().T).double()
        order = similarity.round(decimals=DECIMALS).argsort(dim=1, descending=True, stable=True)
        return [
            self._balanced([place for place in places if self.keys[place] != key], count)
            for places, key in zip(order.tolist(), keys, strict=True)
        ]

    def _balanced(self, ranked: Sequence[int], count: int) -> list[int]:
        """So many rows of a ranking, of each class as many as of any other or one more; in the order of the ranking."""
        seen: Counter[int] = Counter()
        turns = []
        for rank, place in enumerate(ranked):
            group = self._group_of[place]
            turns.append((seen[group], rank, place))
            seen[group] += 1
        return [place for _, _, place in sorted(sorted(turns)[:count], key=lambda turn: turn[1])]

    @cached_property
    def _group_of(self) -> list[int]:
        return self.groups.tolist()

    def state(self) -> dict[str, Tensor]:
        """Its content as tensors."""
        texts = json.dumps({"lines": self.lines, "keys": self.keys, "pooling": self.pooling}).encode("ascii")
        return {
            "texts": torch.tensor(list(texts), dtype=torch.uint8),
            "groups": self.groups,
            "features": self.features,
        }

    @classmethod
    def load(cls, state: Mapping[str, Tensor], where: str) -> Self:
        """A pool from what `state()` gave, checked.

        Raises:
            ArtefactError: it is no pool of labelled rows.
        """
        names = {name: tensor.ndim for name, tensor in state.items()}
        if names != FORM or state["groups"].is_floating_point():
            found = ", ".join(f"{visible(name)} {list(tensor.shape)}" for name, tensor in sorted(state.items()))
            raise ArtefactError(f"its pool of labelled rows is odd ({found})", where=where, do=DO)
        check_numbers("pool.features", state["features"], where)
        lines, keys, pooling = _texts(state["texts"], where)
        if not len(lines) == len(keys) == len(state["groups"]) == len(state["features"]) or not lines:
            raise ArtefactError("its pool's labelled rows and their features differ in number", where=where, do=DO)
        return cls(lines, keys, state["groups"], state["features"], pooling)


def _texts(stored: Tensor, where: str) -> tuple[tuple[str, ...], tuple[str, ...], Pooling]:
    """The lines, the keys and the pooling of a stored pool."""
    try:
        content = json.loads(bytes(stored.tolist()))
        lines, keys = (tuple(content[name]) for name in ("lines", "keys"))
        pooling = next(known for known in POOLINGS if known == content["pooling"])
        if not all(isinstance(text, str) for text in (*lines, *keys)):
            raise ValueError("these are no texts")
    except (ValueError, TypeError, KeyError, RecursionError, StopIteration):
        raise ArtefactError("its pool of labelled rows cannot be read", where=where, do=DO) from None
    return lines, keys, pooling
