"""Keys and values of beginnings that many batches share are kept by content, a few at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

MOST_KEPT, MOST_BYTES = 16, 512 << 20
# What is shorter is computed again sooner than it is looked for.
LEAST_KEPT = 16


@dataclass(frozen=True)
class Beginning:
    """The keys and values of a beginning, in every layer.

    Attributes:
        codes: its elements; vectors of a prompt counted from the prompt's first.
    """

    codes: Int[Tensor, "A"]
    keys_values: Float[Tensor, "L 2 A K"]

    @property
    def bytes(self) -> int:
        return self.keys_values.numel() * self.keys_values.element_size()


class Beginnings:
    """A small memory of beginnings; those used last stay. Threads may share it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[bytes, Beginning]] = OrderedDict()
        self._lock, self._next = threading.Lock(), 0

    def longest(self, prompt: bytes, codes: Int[Tensor, "N"]) -> tuple[int, Beginning | None]:
        """The kept beginning that agrees longest with `codes` under a prompt of this content, and how long."""
        best, length, number = None, 0, -1
        with self._lock:
            for key, (owner, beginning) in self._kept.items():
                if owner != prompt:
                    continue
                room = min(len(codes), len(beginning.codes))
                alike = int((codes[:room] == beginning.codes[:room]).long().cumprod(0).sum())
                if alike > length:
                    best, length, number = beginning, alike, key
            if best is not None and length >= LEAST_KEPT:
                self._kept.move_to_end(number)
                return length, best
        return 0, None

    def keep(self, prompt: bytes, beginning: Beginning) -> None:
        """Keep a beginning; the longest unused ones go."""
        with self._lock:
            self._kept[self._next] = (prompt, beginning)
            self._next += 1
            while len(self._kept) > MOST_KEPT or (len(self._kept) > 1 and self._bytes() > MOST_BYTES):
                self._kept.popitem(last=False)

    def _bytes(self) -> int:
        return sum(beginning.bytes for _, beginning in self._kept.values())


def joined(parts: list[Float[Tensor, "L 2 _ K"]]) -> Float[Tensor, "L 2 A K"]:
    """Kept keys and values of several beginnings end to end."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)
