"""Rows that an artefact remembers, found again among others by their features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from promptgraft.readout.evidence import directions
from promptgraft.task.compare import count_rows
from promptgraft.task.draws import Array

SAME = 1e-4
"""Squared distance, at most, of a row's features from those that are remembered of it in half precision."""


def known_places(features: Float[Array, "U D"], sample: Float[Tensor, "N D"], widths: Sequence[int]) -> Int[Array, "U"]:
    """Which remembered row each row is; -1 where it is none.

    Args:
        features: of the rows, those of all members side by side.
        sample: features of the remembered rows likewise.
        widths: how many features each member has.
    """
    if not len(sample) or not len(features):
        return np.full(len(features), -1)
    own, known = side_by_side(features, widths), side_by_side(sample.double().numpy(), widths)
    squares = (own**2).sum(1)[:, None] + (known**2).sum(1) - 2 * own @ known.T
    nearest = squares.argmin(1)
    return np.where(squares[np.arange(len(own)), nearest] <= SAME, nearest, -1)


def given_again(places: Int[Array, "U"], says_same: Bool[Array, "U"]) -> list[str]:
    """Notes on rows that are remembered and are given again, with the same labels or with others.

    Args:
        places: as `known_places` gives them.
    """
    notes = []
    if says_same.any():
        notes.append(f"left out: {count_rows(int(says_same.sum()))} that it was tuned on")
    changed = int(((places >= 0) & ~says_same).sum())
    if changed:
        notes.append(f"{count_rows(changed)} that it was tuned on: the new labels replace the remembered ones")
    return notes


def side_by_side(features: Float[Array, "U D"], widths: Sequence[int]) -> Float[Array, "U D"]:
    """The directions of each member's features, together at unit length."""
    parts = np.split(features, np.cumsum(widths)[:-1], axis=1)
    return np.asarray(np.concatenate([directions(part) for part in parts], axis=1) / np.sqrt(len(parts)))
