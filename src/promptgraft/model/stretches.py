"""A filled template as stretches: passages that are read as one, and the slots between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from promptgraft.errors import UsageError
from promptgraft.template.parts import Blank, FieldText, Filled, FilledPart, Soft, Wording


@dataclass(frozen=True, slots=True)
class Passage:
    """Words of the template and contents of fields that stand side by side, to be read as one text.

    Attributes:
        goes_on: other words stand before it, so that it begins no text of its own.
    """

    parts: tuple[Wording | FieldText, ...]
    goes_on: bool

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of the answer, or of vectors.

    Attributes:
        lead: the white space before it, which begins what stands in it.
        goes_on: words stand before it.
    """

    part: Blank | Soft
    lead: str
    goes_on: bool


Stretch = Passage | Slot


def stretches(filled: Filled, *, drops_rest: bool) -> list[Stretch]:
    """The stretches of a filled template.

    Args:
        drops_rest: leave out what follows the place of the answer, as is right where the answer is what comes next.
    Raises:
        UsageError: a field or a vector would be left out.
    """
    result: list[Stretch] = []
    passage: list[Wording | FieldText] = []
    goes_on = False
    for part in _before_rest(filled) if drops_rest else filled:
        if isinstance(part, Wording | FieldText):
            if not passage and not goes_on and isinstance(part, Wording):
                part = Wording(part.text.lstrip())  # the beginning of all words, behind vectors at most
            passage.append(part)
            continue
        parts, lead = _stripped(passage, keeps_lines=drops_rest and isinstance(part, Blank))
        begun = goes_on or bool(passage)
        result += [Passage(parts, goes_on)] if parts else []
        result.append(Slot(part, lead, begun))
        passage, goes_on = [], begun or isinstance(part, Blank)
    return [*result, Passage(tuple(passage), goes_on)] if passage else result


def _before_rest(filled: Filled) -> Filled:
    """A filled template up to the place of its answer."""
    end = next((at for at, part in enumerate(filled, 1) if isinstance(part, Blank)), len(filled))
    rest = filled[end:]
    if any(isinstance(part, FieldText | Soft) for part in rest):
        what = "a field" if any(isinstance(part, FieldText) for part in rest) else "{soft}"
        raise UsageError(
            f"{what} stands behind the template's {{mask}}, where a model that reads from left to right never looks",
            do="put {mask} last",
        )
    return filled[:end]


def _stripped(
    passage: Sequence[Wording | FieldText], *, keeps_lines: bool
) -> tuple[tuple[Wording | FieldText, ...], str]:
    """A passage without the white space at its end, and how much of that is the template's own.

    Args:
        keeps_lines: leave the template's line ends, so that an answer on a line of its own need not begin with one.
    """
    parts = list(passage)
    lead = ""
    for at in range(len(parts) - 1, -1, -1):
        text = parts[at].text.rstrip()
        if isinstance(parts[at], Wording):
            if keeps_lines and "\n" in parts[at].text[len(text) :]:
                text = parts[at].text[: parts[at].text.rindex("\n") + 1]
            lead = parts[at].text[len(text) :] + lead
        parts[at] = replace(parts[at], text=text)
        if text:
            break
    return tuple(parts), lead


def contents(filled: Filled) -> list[str]:
    """The contents of the fields, in order."""
    return [part.text for part in filled if isinstance(part, FieldText)]


def with_contents(filled: Filled, texts: Sequence[str]) -> Filled:
    """The filled template with other contents in its fields."""
    remaining = iter(texts)

    def changed(part: FilledPart) -> FilledPart:
        return FieldText(next(remaining), part.field) if isinstance(part, FieldText) else part

    return tuple(map(changed, filled))


def shares(counts: Sequence[int], room: int) -> list[int]:
    """How many of its tokens each field keeps so that all have room: the longest gives first, then both alike."""
    kept = [0] * len(counts)
    remaining = max(room, 0)
    for rank, at in enumerate(sorted(range(len(counts)), key=counts.__getitem__)):
        kept[at] = min(counts[at], remaining // (len(counts) - rank))
        remaining -= kept[at]
    return kept
