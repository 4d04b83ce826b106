"""AutoPrompt swaps trigger words for those that the gradient says lower the loss most."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from promptgraft.searches.algorithm import Algorithm, Skill, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.phrases import Phrases, edited, with_words
from promptgraft.searches.race import Raced
from promptgraft.searches.space import Space

TRIGGERS = 3
"""Words that are put before the answer, to be swapped (the paper has 3 to 10)."""
FILLER = {"zh": "的"}
ROWS = 16
"""Search rows of a gradient, at most."""
AT_ONCE = 16
"""Candidates of a round (the paper's k is 10 to 100)."""


@register
class AutoPrompt(Algorithm):
    """Gradient-guided swaps of trigger words (Shin et al. 2020, section 2.2, equation 2).

    A word of the template is drawn. The change of the loss when it is swapped for another is, to first order, the
    product of its gradient and the difference of their embeddings; the words with the lowest are tried, on the rows
    themselves, and the best is taken if it is better. Words of the model's vocabulary that are a single token are
    tried, so that what is found is text that is read as the same tokens.
    """

    name: ClassVar[str] = "autoprompt"
    summary: ClassVar[str] = "trigger words swapped as the gradient says"
    needs: ClassVar[frozenset[Skill]] = frozenset({"gradients"})

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self.best: Raced | None = None
        self._tried: set[str] = set()

    def propose(self) -> Sequence[Candidate]:
        if self.best is None:
            return [self.space.start, self._with_triggers()]
        base = self.best.candidate
        phrases = Phrases.of(base.template, is_chinese=self.space.is_chinese)
        rows = self.random.sample(range(len(self.space.rows)), min(ROWS, len(self.space.rows)))
        slopes = self.asker.slopes(base, phrases, rows, 4 * AT_ONCE)
        if not slopes:
            return []
        place = self.random.choice(sorted(slopes))
        swaps = (
            edited(base, phrases.replaced(place, place + 1, word), f"{phrases.text(place, place + 1)} -> {word}")
            for word, _ in slopes[place]
        )
        fresh = [swap for swap in swaps if swap is not None and swap.key not in self._tried][:AT_ONCE]
        self._tried |= {swap.key for swap in fresh}
        return fresh or [base]

    def _with_triggers(self) -> Candidate:
        """The start with words before its answer that are there to be swapped."""
        return (
            with_words(self.space, [FILLER.get(self.space.language, "the")] * TRIGGERS, "triggers") or self.space.start
        )

    def observe(self, scored: Sequence[Raced]) -> None:
        best = min(scored, key=lambda entry: entry.rank, default=None)
        if self.best is None:  # triggers that say nothing may cost more than the start, and are what is swapped
            usable = [entry for entry in scored if entry.scores]
            self.best = usable[-1] if usable else None
        elif best is not None and best.rank < self.best.rank:
            self.best = best
