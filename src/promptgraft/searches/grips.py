"""GrIPS edits the phrases of an instruction: delete, swap, paraphrase and add; the best edit is the next start."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from promptgraft.searches.algorithm import Algorithm, Skill, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.contexts import Place, filled
from promptgraft.searches.phrases import Phrases, edited
from promptgraft.searches.race import Raced
from promptgraft.searches.space import Space

AT_ONCE = 8
"""Candidates of a round (m; the paper takes 5)."""
MOST_EDITS = 2
"""Edits of a candidate at most (l; the paper takes 1)."""
LONGEST_PHRASE = 3


@register
class Grips(Algorithm):
    """Gradient-free, edit-based instruction search (Prasad et al. 2023, section 3 and algorithm 1).

    Of the present best template candidates are made by edits at phrases; the best of them takes its place if it is
    better. Phrases are one to three words side by side, where the paper has the constituents of a parser; paraphrases
    are words that the model finds likely there, where it has a paraphrasing model's; what is added is, as there, a
    phrase that was deleted before, or, where none was, a likely word.
    """

    name: ClassVar[str] = "grips"
    summary: ClassVar[str] = "edits of phrases: delete, swap, paraphrase, add"
    needs: ClassVar[frozenset[Skill]] = frozenset({"words"})

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self.best: Raced | None = None
        self.deleted: list[str] = []

    def propose(self) -> Sequence[Candidate]:
        if self.best is None:
            return [self.space.start, *self.space.library[:AT_ONCE]]
        base = self.best.candidate
        drafts = [Phrases.of(base.template, is_chinese=self.space.is_chinese)] * AT_ONCE
        origins = [""] * AT_ONCE
        for number in range(MOST_EDITS):
            kinds = [self._kind(draft) if number == 0 or self.random.random() < 0.5 else "" for draft in drafts]
            drafts, done = self._edited(base, drafts, kinds)
            origins = [", ".join(filter(None, pair)) for pair in zip(origins, done, strict=True)]
        candidates = (edited(base, *pair) for pair in zip(drafts, origins, strict=True))
        return [candidate for candidate in candidates if candidate is not None]

    def observe(self, scored: Sequence[Raced]) -> None:
        best = min(scored, key=lambda entry: entry.rank, default=None)
        if best is not None and best.scores and (self.best is None or best.rank < self.best.rank):
            self.best = best

    def _kind(self, draft: Phrases) -> str:
        """An edit at random, of those that can be made."""
        return self.random.choice(["delete", "swap", "paraphrase", "add"] if draft.words else ["add"])

    def _edited(
        self, base: Candidate, drafts: Sequence[Phrases], kinds: Sequence[str]
    ) -> tuple[list[Phrases], list[str]]:
        """An edit of each draft, and what it was; the model is asked once for all of them."""
        places = [self._place(base, draft, kind) for draft, kind in zip(drafts, kinds, strict=True)]
        asked = [place for place in places if place is not None]
        words = iter(filled(asked, self.space, self.asker, self.random))
        results, origins = [], []
        for draft, kind, place in zip(drafts, kinds, places, strict=True):
            word = "" if place is None else next(words)
            result, origin = self._edit(draft, kind, place, word)
            results.append(result)
            origins.append(origin)
        return results, origins

    def _place(self, base: Candidate, draft: Phrases, kind: str) -> Place | None:
        """Where the model is to fill a gap; None for edits that need no model."""
        if kind == "paraphrase":
            return Place(base, draft, *self.random.choice(draft.spans(LONGEST_PHRASE)))
        if kind == "add" and not self.deleted:
            place = self.random.choice(draft.places(self.space.left_to_right))
            return Place(base, draft, place, place)
        return None

    def _edit(self, draft: Phrases, kind: str, place: Place | None, word: str) -> tuple[Phrases, str]:
        if place is not None and not word:
            return draft, ""
        if kind == "paraphrase" and place is not None:
            before = draft.text(place.first, place.last)
            return draft.replaced(place.first, place.last, word), f"paraphrase: {before} -> {word}"
        if kind == "add":
            phrase = word or self.random.choice(self.deleted)
            at = self.random.choice(draft.places(self.space.left_to_right)) if place is None else place.first
            return draft.inserted(at, phrase), f"add: {phrase}"
        return self._without_model(draft, kind)

    def _without_model(self, draft: Phrases, kind: str) -> tuple[Phrases, str]:
        spans = draft.spans(LONGEST_PHRASE)
        if kind == "delete":
            first, last = self.random.choice(spans)
            phrase = draft.text(first, last)
            self.deleted.append(phrase)
            return draft.replaced(first, last, ""), f"delete: {phrase}"
        if kind == "swap":
            earlier, later = sorted(self.random.choice(spans) for _ in range(2))
            if earlier[1] <= later[0]:
                return draft.swapped(earlier, later), f"swap: {draft.text(*earlier)} <-> {draft.text(*later)}"
        return draft, ""
