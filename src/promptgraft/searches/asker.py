"""What algorithms ask of models beside scores; every answer is counted and kept like those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError, UsageError
from promptgraft.model.backbone import Backbone, Batch, Speaks, Writes
from promptgraft.model.tokens import Tokens, concatenate
from promptgraft.prompt.reading import Reading
from promptgraft.searches.budget import SpentError
from promptgraft.searches.oracle import Oracle, Priced
from promptgraft.searches.scorer import forget
from promptgraft.task.task import Example, content_hash
from promptgraft.template.parts import Blank, Wording
from promptgraft.template.template import Template
from promptgraft.train.predict import hidden_states

LONGEST = 2000
"""Characters before and after a gap that are read."""


@dataclass(frozen=True)
class WordGap:
    """A place in a text where a word is missing.

    Attributes:
        after: what follows; a model that reads from left to right does not see it.
    """

    before: str
    after: str = ""


class Asker:
    """Asks models for words, texts and gradients, through an oracle's budget and journal.

    Attributes:
        proposer: the model that words and texts are asked of.
    """

    def __init__(self, oracle: Oracle, proposer: Backbone) -> None:
        self.oracle, self.proposer = oracle, proposer
        self._vocabulary = dict(proposer.lone_words()) if hasattr(proposer, "lone_words") else {}

    def likely_words(self, gaps: Sequence[WordGap], most: int) -> list[list[tuple[str, float]]]:
        """The likeliest words of one token for each gap, with their log-probabilities among all such words.

        Raises:
            SpentError: it costs more passes than are left.
        """
        if not gaps:
            return []
        texts = [text for gap in gaps for text in (gap.before, gap.after)]
        question = content_hash(["words", str(most), *texts])
        answer = self.oracle.ask(question, lambda: self._words_plan(gaps, most))
        return [[(word, share) for word, share in entry] for entry in answer]

    def _words_plan(self, gaps: Sequence[WordGap], most: int) -> Priced:
        tokens = concatenate([self._gap_tokens(gap) for gap in gaps])

        def ask() -> tuple[Any, int, int]:
            forget(self.proposer)
            shares = self._word_shares(hidden_states(self.proposer, tokens, None, None, "mark"))
            best = shares.topk(min(most, shares.shape[1]))
            words = list(self._vocabulary)
            answer = [
                [[words[place], value] for place, value in zip(places, values, strict=True)]
                for places, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
            return answer, tokens.sequences, len(tokens.ids)

        return Priced(tokens.sequences, ask)

    def _gap_tokens(self, gap: WordGap) -> Tokens:
        """A text with a gap as the proposer reads it; one that cannot be read is read without what stands around."""
        before, after = gap.before[-LONGEST:], gap.after[:LONGEST]
        for left, right in ((before, after), (before[-200:], after[:200]), ("", "")):
            template = Template((Wording(left or " "), Blank(), *([Wording(right)] if right else ())))
            try:
                return self._tokens(str(template), "")
            except (RunError, UsageError):
                continue
        return self._tokens("{text}{mask}", ".")

    def _tokens(self, template: str, text: str) -> Tokens:
        reading = Reading("mark", template=template)
        return self.proposer.tokenize([Example(text=text)], "text", reading)

    def _word_shares(self, states: Float[Tensor, "B E"]) -> Float[Tensor, "B V"]:
        assert isinstance(self.proposer, Speaks), "it was checked to have a head over words"
        weights, biases = self.proposer.columns(torch.tensor(list(self._vocabulary.values())))
        return (states.float() @ weights.mT + biases).log_softmax(-1)

    def texts(self, beginnings: Sequence[str], *, most: int, temperature: float, seed: int) -> list[str]:
        """What the proposer writes behind each text, to the end of a line or so many tokens.

        A text counts a pass for every token that was written and one for its end.

        Raises:
            SpentError: at their full length they would cost more passes than are left.
        """
        question = content_hash(["texts", str(most), repr(temperature), str(seed), *beginnings])
        return list(self.oracle.ask(question, lambda: self._texts_plan(beginnings, most, temperature, seed)))

    def _texts_plan(self, beginnings: Sequence[str], most: int, temperature: float, seed: int) -> Priced:
        proposer = self.proposer
        assert isinstance(proposer, Writes), "it was checked to write"
        assert isinstance(proposer, Backbone), "and it is a backbone"
        limit = max(8, proposer.max_length - most)
        reading = Reading("mark", template="{text}{mask}")
        rows = [Example(text=text) for text in beginnings]

        def ask() -> tuple[list[str], int, int]:
            forget(proposer)
            tokens = proposer.tokenize(rows, "text", reading, max_length=limit)
            generator = torch.Generator().manual_seed(seed)
            written = proposer.generate(
                Batch(tokens), None, most=most, stop=("\n",), generator=generator, temperature=temperature
            )
            read = proposer.tokenize_texts([text or "." for text in written])
            counts = (read.lengths + 1).clamp_max(most)
            return written, int(counts.sum()), len(tokens.ids) + int(counts.sum())

        return Priced(most * len(beginnings), ask)


def affordable(asked: int, passes: int, each: int) -> int:
    """How many of some questions can be paid for.

    Raises:
        SpentError: none.
    """
    count = min(asked, passes // max(1, each))
    if not count:
        raise SpentError
    return count
