"""A sequence-to-sequence model fills the gaps around a label's word: templates as LM-BFF generates them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from promptgraft.searches.algorithm import Algorithm, Skill, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.phrases import cleaned
from promptgraft.searches.space import Space
from promptgraft.task.task import Example
from promptgraft.template.parts import Blank, Field, TemplatePart, Wording
from promptgraft.template.template import Template

AT_ONCE = 8
"""Rows whose gaps are filled at once."""
MOST_TOKENS = 12
MOST_WORDS = 8
"""Tokens that are written for a row's gaps, and words of a gap that are kept."""
SHOWN = 200
TEMPERATURES = (0.0, 1.0)

Spans = tuple[str, str]


@register
class SpanTemplates(Algorithm):
    """Automatic generation of templates (Gao et al. 2021, LM-BFF, section 5.2).

    Rows with their label's word between two gaps are given to a T5, which fills the gaps: `<S> <X> word <Y>`, and
    `<X> word <Y> <S>` where the model that answers sees what stands behind the answer. The paper decodes with a beam of
    a hundred the template that is likeliest over all rows; here every row is filled by itself, first with the likeliest
    words and then with drawn ones, and what most rows gave is tried first. As in the paper, the labelled rows choose.
    """

    name: ClassVar[str] = "lm-bff"
    summary: ClassVar[str] = "templates whose gaps a sequence-to-sequence model fills"
    needs: ClassVar[frozenset[Skill]] = frozenset({"spans"})

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        self._rounds = 0

    def propose(self) -> Sequence[Candidate]:
        if not self._rounds:
            self._rounds = 1
            return [self.space.start]
        rows = self.random.sample(self.space.rows, min(AT_ONCE, len(self.space.rows)))
        is_behind = not self.space.left_to_right and rows[0].pair is None and self.random.random() < 0.5
        texts = [self._with_gaps(row, is_behind=is_behind) for row in rows]
        temperature = TEMPERATURES[min(self._rounds - 1, 1)]
        self._rounds += 1
        filled = self.asker.spans(texts, most=MOST_TOKENS, temperature=temperature, seed=self.random.getrandbits(31))
        counts = Counter((cleaned(before, MOST_WORDS), cleaned(after, MOST_WORDS)) for before, after in filled)
        spans = [pair for pair, _ in counts.most_common() if any(pair)]
        return [self._candidate(pair, rows[0], is_behind=is_behind) for pair in spans] or [self.space.start]

    def _with_gaps(self, row: Example, *, is_behind: bool) -> tuple[str, str, str]:
        """A row's texts and what its label says, with gaps between."""
        word = self.space.start.answer_of(row, self.space.task)[:SHOWN]
        text = row.text[:SHOWN]
        if row.pair is not None:
            return text, word, row.pair[:SHOWN]
        return ("", word, text) if is_behind else (text, word, "")

    def _candidate(self, spans: Spans, row: Example, *, is_behind: bool) -> Candidate:
        """The template of two spans."""
        space = "" if self.space.is_chinese else " "
        before, after = (Wording(f"{space}{span}{space}" if span else space) for span in spans)
        parts: tuple[TemplatePart, ...]
        if row.pair is not None:
            fields: tuple[TemplatePart, ...] = (Field("text_a"), before, Blank(), after, Field("text_b"))
            behind = (Field("text_a"), before, Field("text_b"), Wording(space), Blank())
            parts = behind if self.space.left_to_right else fields
        elif is_behind:
            parts = (Wording(before.text.lstrip()), Blank(), after, Field("text"))
        else:
            parts = (Field("text"), before, Blank(), Wording(after.text.rstrip()))
        return replace(self.space.start, template=str(Template(parts)), origin="spans of a sequence-to-sequence model")
