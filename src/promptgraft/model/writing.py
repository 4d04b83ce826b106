"""Answers are written token by token: the likeliest or a drawn one, to an end, a stop word or one of given texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError

Decode = Callable[[Sequence[int]], str]
HALF_A_CHARACTER = "\ufffd"
"""What a tokenizer of bytes gives for a character of which some bytes are not there yet."""


@dataclass(frozen=True)
class Rules:
    """How answers are written.

    Attributes:
        most: tokens of an answer, where it is not one of given texts.
        ends: tokens that end an answer.
        last: the token that stands last where an answer reaches its full length; None: any.
        stop: texts at which an answer ends; they are left out of it.
        temperature: 0: the likeliest token; else what scores are divided by before one is drawn.
        generator: draws.
    """

    most: int
    ends: Collection[int]
    last: int | None = None
    stop: Sequence[str] = ()
    temperature: float = 0.0
    generator: torch.Generator | None = None

    def check(self) -> None:
        """Raise a RunError where no answer can be written by them."""
        if self.most < 1:
            raise RunError(f"an answer of {self.most} tokens cannot be written", do="give 1 or more")
        if self.temperature < 0:
            raise RunError(f"temperature {self.temperature} is below 0", do="give 0 for the likeliest words, or more")
        if not all(self.stop):
            raise RunError("a stop word is empty", do="leave it out")


class Writing:
    """The answers of S sequences while they are written.

    Attributes:
        texts: the answers; None where one is not finished yet.
    """

    def __init__(
        self,
        count: int,
        rules: Rules,
        decode: Decode,
        among: Sequence[Sequence[str]] | None = None,
        encode: Callable[[str], list[int]] = lambda _: [],
    ) -> None:
        """Begin empty answers.

        Args:
            decode: from the tokens of an answer to its text.
            among: of each sequence the texts of which one is to be written.
            encode: from such a text to its tokens, the end among them.

        Raises:
            RunError: rules by which nothing can be written, or a sequence without texts to choose among.
        """
        rules.check()
        self.texts: list[str | None] = [None] * count
        self._rules, self._decode, self._among = rules, decode, among
        self._tokens: list[list[int]] = [[] for _ in range(count)]
        self._left: list[list[tuple[list[int], str]]] = [[(encode(text), text) for text in row] for row in among or ()]
        if among is not None and (len(among) != count or not all(among)):
            raise RunError("a row has no texts to choose among", do="give each row one text or more")
        for row, left in enumerate(self._left):
            self._settle(row, left)

    @property
    def done(self) -> bool:
        """Whether all answers are finished."""
        return None not in self.texts

    def add(self, scores: Float[Tensor, "S V"]) -> Int[Tensor, "S"]:
        """Choose the next token of each answer; that of a finished one is of no matter."""
        chosen = self._chosen(self._allowed(scores.float()))
        for row, token in enumerate(chosen.tolist()):
            if self.texts[row] is None:
                self._tokens[row].append(token)
                self._finish(row, token)
        return chosen

    def _allowed(self, scores: Tensor) -> Tensor:
        """The scores with all words shut out that cannot stand next."""
        if self._among is None:
            longest = max(map(len, self._tokens), default=0)
            if self._rules.last is not None and longest == self._rules.most - 1:
                return _only(scores, [[self._rules.last]] * len(scores))
            return scores
        return _only(scores, [sorted({tokens[0] for tokens, _ in left if tokens}) or [0] for left in self._left])

    def _chosen(self, scores: Tensor) -> Tensor:
        if self._rules.temperature == 0:
            return scores.argmax(dim=1)
        shares = (scores / self._rules.temperature).softmax(dim=1)
        generator = self._rules.generator
        if generator is not None:
            shares = shares.to(generator.device)
        return torch.multinomial(shares, 1, generator=generator)[:, 0].to(scores.device)

    def _finish(self, row: int, token: int) -> None:
        """Note the text of an answer where its newest token finishes it."""
        if self._among is not None:
            self._left[row] = [(tokens[1:], text) for tokens, text in self._left[row] if tokens[:1] == [token]]
            self._settle(row, self._left[row])
            return
        tokens = self._tokens[row]
        if token in self._rules.ends:
            self.texts[row] = self._decode(tokens[:-1])
            return
        if self._rules.stop:
            text = self._decode(tokens)
            places = [text.find(word) for word in self._rules.stop if word in text]
            if places:
                self.texts[row] = text[: min(places)]
                return
        if len(tokens) >= self._rules.most:
            self.texts[row] = self._decode(tokens).rstrip(HALF_A_CHARACTER)

    def _settle(self, row: int, left: Sequence[tuple[list[int], str]]) -> None:
        """Finish a chosen answer where the tokens so far leave only one text."""
        if len({tuple(tokens) for tokens, _ in left}) == 1:
            self.texts[row] = left[0][1]


def _only(scores: Tensor, allowed: Sequence[Sequence[int]]) -> Tensor:
    """Scores that are minus infinity but for each row's allowed words."""
    row = torch.tensor([number for number, words in enumerate(allowed) for _ in words], device=scores.device)
    word = torch.tensor([word for words in allowed for word in words], device=scores.device)
    kept = torch.full_like(scores, -torch.inf)
    kept[row, word] = scores[row, word]
    return kept
