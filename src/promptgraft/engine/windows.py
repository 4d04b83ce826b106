"""A text that is too long for the model is halved until every part can be read whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from promptgraft.model.tokens import Tokens
from promptgraft.task.task import Example

NEAR = 8
"""A text is halved at a space within one part in so many of its middle, where there is one."""
Tokenize = Callable[[Sequence[Example]], Tokens]


def windows(examples: Sequence[Example], tokenize: Tokenize) -> tuple[list[Example], list[int]]:
    """Split each example's text into parts that can be read whole; return them with the example each belongs to."""
    tokens = tokenize(examples)
    longest = int(tokens.lengths.max()) if tokens.cut else -1
    parts, owners = [], []
    for number, (example, length) in enumerate(zip(examples, tokens.lengths.tolist(), strict=True)):
        pieces = _parts(example, tokenize) if length == longest else [example]  # what was cut is as long as allowed
        parts += pieces
        owners += [number] * len(pieces)
    return parts, owners


def _parts(example: Example, tokenize: Tokenize) -> list[Example]:
    waiting, done = [example.text], []
    while waiting:
        text = waiting.pop()
        if len(text) < 2 or not tokenize([Example(text=text)]).cut:
            done.append(replace(example, text=text))
            continue
        first, second = _halves(text)
        waiting += [second, first]
    return done


def _halves(text: str) -> tuple[str, str]:
    """Halve a text at the space nearest to its middle."""
    middle, reach = len(text) // 2, len(text) // NEAR
    spaces = [match.start() for match in re.finditer(r"\s", text[middle - reach : middle + reach])]
    cut = middle - reach + min(spaces, key=lambda place: abs(place - reach)) if spaces else middle
    return text[:cut], text[cut:]
