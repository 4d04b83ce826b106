"""Reads text as text alone: no special token comes of it, and it may go on where other tokens stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from tokenizers import Encoding as Encoded
from tokenizers import Tokenizer as Engine

from promptgraft.model.tokenize import UNKNOWN, Tokenizer

ANCHORS = (".", "1", "a", "\n")
"""What a text that goes on is read behind, and then without: the first that does not grow together with it.

Some tokenizers begin every text as if a space stood before it; behind a sign they read what goes on as it is.
"""
ROUNDS = 8
"""How often what came out as a special token is broken up before it becomes the unknown token."""


@dataclass(frozen=True, slots=True)
class TextTokens:
    """The tokens of a text, and where in it each begins and ends."""

    ids: list[int]
    spans: list[tuple[int, int]]


@dataclass(frozen=True)
class PlainReader:
    """A model's tokenizer for text that is never more than text, such as "[MASK]" in a user's row."""

    tokenizer: Tokenizer

    @property
    def engine(self) -> Engine:
        """The tokenizer proper, blind to the spellings of special tokens."""
        return self.tokenizer.plain_engine

    @cached_property
    def special(self) -> frozenset[int]:
        """The tokens that no text may become; a vocabulary may hold their spellings as words."""
        added = self.tokenizer.engine.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special) - {self.unknown}

    @cached_property
    def unknown(self) -> int | None:
        """The token of what the vocabulary lacks; None where it lacks nothing."""
        return next((number for name in UNKNOWN if (number := self.engine.token_to_id(name)) is not None), None)

    @cached_property
    def anchors(self) -> tuple[tuple[str, list[int]], ...]:
        """The texts to read others behind, with their own tokens."""
        read = self.engine.encode_batch(list(ANCHORS), add_special_tokens=False)
        return tuple((text, encoded.ids) for text, encoded in zip(ANCHORS, read, strict=True) if encoded.ids)

    def read(self, texts: Sequence[str], *, goes_on: bool = False) -> list[TextTokens]:
        """The tokens of each text.

        Args:
            goes_on: the texts stand behind other tokens, with no new beginning of their own.
        """
        changed = [self._changed(text) for text in texts]
        tokens = self._going_on(changed) if goes_on else list(map(_tokens, self._encoded(changed)))
        return [
            self._broken_up(text, read, goes_on=goes_on) if not self.special.isdisjoint(read.ids) else read
            for text, read in zip(changed, tokens, strict=True)
        ]

    def _encoded(self, texts: Sequence[str]) -> list[Encoded]:
        return self.engine.encode_batch(list(texts), add_special_tokens=False) if texts else []

    def _going_on(self, texts: Sequence[str]) -> list[TextTokens]:
        """The tokens of texts that stand behind others, each read behind the first anchor that stays apart from it."""
        tokens: dict[int, TextTokens] = {number: TextTokens([], []) for number, text in enumerate(texts) if not text}
        for anchor, own in self.anchors:
            remaining = [number for number in range(len(texts)) if number not in tokens]
            read = self._encoded([anchor + texts[number] for number in remaining])
            for number, encoded in zip(remaining, read, strict=True):
                rest = _tokens(encoded, len(own), len(anchor))
                if encoded.ids[: len(own)] == own and all(first >= 0 for first, _ in rest.spans):
                    tokens[number] = rest
        remaining = [number for number in range(len(texts)) if number not in tokens]
        for number, encoded in zip(remaining, self._encoded([texts[number] for number in remaining]), strict=True):
            tokens[number] = _tokens(encoded)
        return [tokens[number] for number in range(len(texts))]

    def _broken_up(self, text: str, read: TextTokens, *, goes_on: bool) -> TextTokens:
        """The tokens of a text of which some came out special: these are read in two, from their second character."""
        for _ in range(ROUNDS):
            starts = [first + 1 for token, (first, last) in self._pairs(read) if token in self.special]
            if not starts:
                return read
            cuts = sorted({0, *starts, len(text)})
            pieces = [text[first:last] for first, last in pairwise(cuts)]
            first = self._going_on(pieces[:1]) if goes_on else map(_tokens, self._encoded(pieces[:1]))
            parts = [*first, *self._going_on(pieces[1:])]
            read = _put_together(parts, cuts)
        unknown = self.tokenizer.unknown
        return TextTokens([unknown if token in self.special else token for token in read.ids], read.spans)

    @staticmethod
    def _pairs(read: TextTokens) -> Iterable[tuple[int, tuple[int, int]]]:
        return zip(read.ids, read.spans, strict=True)

    def _changed(self, text: str) -> str:
        return text if self.tokenizer.convert is None else self.tokenizer.convert(text)


def _tokens(encoded: Encoded, skipped: int = 0, shift: int = 0) -> TextTokens:
    spans = [(first - shift, last - shift) for first, last in encoded.offsets[skipped:]]
    return TextTokens(encoded.ids[skipped:], spans)


def _put_together(parts: Iterable[TextTokens], starts: Iterable[int]) -> TextTokens:
    """The tokens of a text from those of its pieces, each with its start in the text."""
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    for part, start in zip(parts, starts, strict=False):
        ids += part.ids
        spans += [(first + start, last + start) for first, last in part.spans]
    return TextTokens(ids, spans)
