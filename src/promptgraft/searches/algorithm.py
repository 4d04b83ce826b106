"""The contract of an algorithm that searches for prompts, and the registry of all."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.race import Raced
from promptgraft.searches.space import Space

Skill = Literal["words", "text", "spans", "gradients", "vectors"]
"""What an algorithm asks of models beside scores: likely words, text that goes on, spans in gaps of a text, gradients
at words, prompts of vectors."""


class Algorithm(ABC):
    """A way to search: it proposes candidates and is shown how good they are, until the budget is spent.

    It is deterministic: all it draws comes from the generator that it is given, all it knows of rows and models from
    the space, the asker and what it observes. So a search that was killed goes on by asking the same questions again.

    Attributes:
        needs: what it asks of models beside scores.
        races: whether candidates race, so that hopeless ones are scored on some rows only; else all on all rows.
        of_labels: whether it varies the words of labels, so that a task whose rows have their own answers has nothing
            for it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[frozenset[Skill]] = frozenset()
    races: ClassVar[bool] = True
    of_labels: ClassVar[bool] = False

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        self.space, self.asker, self.random = space, asker, generator

    @abstractmethod
    def propose(self) -> Sequence[Candidate]:
        """What to score next; nothing where nothing is left to try.

        Raises:
            SpentError: a question to a model costs more than is left.
        """

    def observe(self, scored: Sequence[Raced]) -> None:  # noqa: B027
        """Take note of how good the proposed candidates are; those that could not be paid for are left out."""


ALGORITHMS: dict[str, type[Algorithm]] = {}


def register(algorithm: type[Algorithm]) -> type[Algorithm]:
    """Class decorator: make an algorithm known by its name."""
    ALGORITHMS[algorithm.name] = algorithm
    return algorithm
