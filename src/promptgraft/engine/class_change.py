"""What became of the answers to the rows of one class or label."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassChange:
    """What became of the answers to the rows of one class, or to the rows that have one of several labels.

    Attributes:
        right_before: None for a class that was not there. Of several labels: rows that got this one.
        changed: answers that are others now. Of several labels: on this label.
        to_new: of these, how many are classes that were not there. Of several labels: rows that get a new one beside.
    """

    name: str
    rows: int
    right_before: int | None
    right_after: int
    changed: int
    to_new: int
