"""What takes no search: the library's templates, and no template; every search has them beside it."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from promptgraft.searches.algorithm import Algorithm, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.space import Space


class Fixed(Algorithm):
    """An algorithm that proposes a list once."""

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self._rest = list(self.listed())

    @abstractmethod
    def listed(self) -> Sequence[Candidate]:
        """The candidates."""

    def propose(self) -> Sequence[Candidate]:
        rest, self._rest = self._rest, []
        return rest


@register
class Library(Fixed):
    """The library's templates that fit the task, and the one that edits begin with."""

    name: ClassVar[str] = "library"
    summary: ClassVar[str] = "the library's templates, and the one that is given"

    def listed(self) -> Sequence[Candidate]:
        return [self.space.start, *self.space.library]


@register
class NoTemplate(Fixed):
    """The row alone, with the answer on the next line."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "no template: the row alone"

    def listed(self) -> Sequence[Candidate]:
        return [self.space.plain]
