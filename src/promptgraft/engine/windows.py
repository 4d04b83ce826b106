"""Long texts as windows: a text that is cut is halved until every part is read whole."""

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
    """Parts of each example's text that are read whole, in order, and the example each belongs to."""
    tokens = tokenize(examples)
    longest = int(tokens.lengths.max()) if tokens.cut else -1
    parts, owners = [], []
    for number, (example, length) in enumerate(zip(examples, tokens.lengths.tolist(), strict=True)):
        found = _parts(example, tokenize) if length == longest else [example]  # what was cut is as long as allowed
        parts += found
        owners += [number] * len(found)
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
    """Both halves, cut at the space nearest to the middle."""
    middle, reach = len(text) // 2, len(text) // NEAR
    spaces = [match.start() for match in re.finditer(r"\s", text[middle - reach : middle + reach])]
    at = middle - reach + min(spaces, key=lambda place: abs(place - reach)) if spaces else middle
    return text[:at], text[at:]
