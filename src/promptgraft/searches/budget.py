"""One budget counts what every algorithm asks of models: passes of rows, and the tokens in them."""

from __future__ import annotations

from dataclasses import dataclass

GRADIENT = 3
"""Passes that a row with a gradient counts: its backward is two."""


class SpentError(Exception):
    """What was asked for costs more passes than are left."""


@dataclass
class Budget:
    """Passes that may be made; what does not fit whole is refused, so that not one pass too many is made.

    A pass is one sequence through a model. A row with its gradient is three (`GRADIENT`), and every token that a model
    writes is one, since the model is called for each.

    Attributes:
        passes: how many there are.
        spent, tokens: how many were made, and of how many tokens.
    """

    passes: int
    spent: int = 0
    tokens: int = 0

    @property
    def left(self) -> int:
        """How many passes may still be made."""
        return self.passes - self.spent

    def check(self, passes: int) -> None:
        """Make sure that so many passes are left.

        Raises:
            SpentError: they are not.
        """
        if passes > self.left:
            raise SpentError

    def spend(self, passes: int, tokens: int) -> None:
        """Count passes.

        Raises:
            SpentError: they are not left.
        """
        self.check(passes)
        self.spent += passes
        self.tokens += tokens
