"""A template is planned as parts between joints, each of which is read once for all templates that have it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

from promptgraft.model.filled import FilledReader
from promptgraft.model.joints import Joint
from promptgraft.model.stretches import Passage, Slot
from promptgraft.task.task import Example
from promptgraft.template.parts import Blank, FieldText
from promptgraft.template.template import Template

EDGE = ""
"""What a joint is asked about where a field's content begins or ends."""

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ContentPlace:
    """The place of a field's content: the field, and which of its template's fields it is.

    Attributes:
        piece: what stands there: all of it, all but the white space at its end, or that white space.
    """

    field: str
    number: int
    piece: Literal["whole", "body", "tail"] = "whole"

    def of(self, contents: Sequence[str]) -> str:
        """What stands there in a row with these contents."""
        content = contents[self.number]
        if self.piece == "whole":
            return content
        body = content.rstrip()
        return body if self.piece == "body" else content[len(body) :]


@dataclass(frozen=True, slots=True)
class JointPart:
    """What lies between two joints of a filled template: words alone, or with the contents of fields.

    Attributes:
        goes_on: other words stand before it.
    """

    texts: tuple[str | ContentPlace, ...]
    goes_on: bool

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same for all rows."""
        return all(isinstance(text, str) for text in self.texts)

    def of(self, contents: Sequence[str]) -> str:
        """Its text for a row with these contents of fields."""
        return "".join(text if isinstance(text, str) else text.of(contents) for text in self.texts)


@dataclass(frozen=True)
class TemplatePlan:
    """How the sequences of a template are put together.

    Attributes:
        empty: the fields that have no content in the rows that it is for; what stands around them meets.
        parts: tokens that are known, and parts that are to be read; empty where the template does not compose.
        fields: of the contents, in their order.
        blank: which part is the token that is read; None where that is the last token.
        lead: the white space that answers begin with.
    """

    template: Template
    empty: frozenset[str]
    parts: tuple[JointPart | Ids, ...]
    fields: tuple[str, ...]
    blank: int | None
    lead: str

    @classmethod
    def of(
        cls,
        template: Template,
        empty: frozenset[str],
        reader: FilledReader,
        joint: Joint | None,
        tailed: Collection[str],
    ) -> TemplatePlan:
        """The plan of a template.

        Args:
            empty: the fields that have no content.
            tailed: the fields of which some content ends with white space.
        Raises:
            UsageError: the model cannot read it.
        """
        filled = template.filled(_like_rows_with(empty))
        fields = tuple(part.field for part in filled if isinstance(part, FieldText))
        before, after = reader.around
        parts: list[JointPart | Ids] = [before]
        blank, number = None, 0
        stretches = reader.stretches_of(filled)
        for place, stretch in enumerate(stretches, 1):
            if isinstance(stretch, Slot):
                if isinstance(stretch.part, Blank) and reader.speech == "masked":
                    blank = len(parts)
                parts.append(tuple(reader.slot_tokens(stretch).ids))
            elif joint is not None:
                parts += parts_between(stretch, joint, number, tailed, stripped=place < len(stretches))
                number += sum(isinstance(part, FieldText) for part in stretch.parts)
        composes = joint is not None and (blank is not None or reader.speech != "masked")
        return cls(template, empty, (*parts, after) if composes else (), fields, blank, reader.lead(filled))

    @cached_property
    def row_parts(self) -> tuple[JointPart, ...]:
        """The parts that differ from row to row."""
        return tuple(part for part in self.parts if isinstance(part, JointPart) and not part.is_fixed)

    @cached_property
    def words(self) -> tuple[JointPart, ...]:
        """The parts to be read that are the same for all rows."""
        return tuple(part for part in self.parts if isinstance(part, JointPart) and part.is_fixed)


def _like_rows_with(empty: Collection[str]) -> Example:
    """A row like all whose contents compose and of which these are empty."""
    text, pair, choices = ("" if name in empty else "x" for name in ("text", "text_b", "choices"))
    return Example(text=text, pair=pair, choices=(choices,))


def parts_between(
    passage: Passage, joint: Joint, number: int, tailed: Collection[str], *, stripped: bool
) -> list[JointPart]:
    """A passage, cut at the joints that are nearest to the contents of its fields.

    Args:
        number: of the template's fields those that stand before it.
        tailed: the fields of which some content ends with white space, which then begins the part that follows.
        stripped: whether a slot stands behind it, before which white space is dropped.
    """
    groups: list[list[str | ContentPlace]] = [[]]
    tail: list[ContentPlace] = []
    parts = _places(passage, number)
    for at, part in enumerate(parts):
        rest = parts[at + 1 :]
        if isinstance(part, ContentPlace):
            is_cut = bool(rest) and isinstance(rest[0], str) and _joined(joint, rest[0])
            is_last = stripped and not any(rest)
            has_tail = part.field in tailed and (is_cut or is_last)
            groups[-1].append(replace(part, piece="body") if has_tail else part)
            tail = [replace(part, piece="tail")] if has_tail and not is_last else []
            continue
        cuts = nearest_joints(part, joint, follows=at > 0, followed=bool(rest))
        first, *others = [part[start:end] for start, end in pairwise((0, *cuts, len(part)))]
        groups[-1].append(first)
        groups += [[*tail, text] if place == 0 else [text] for place, text in enumerate(others)]
        tail = []
    texts = [tuple(text for text in group if text) for group in groups]
    full = [group for group in texts if group]
    return [JointPart(group, passage.goes_on or place > 0) for place, group in enumerate(full)]


def _places(passage: Passage, number: int) -> list[str | ContentPlace]:
    """The words of a passage, those around an empty content as one, and the places of contents between them.

    Args:
        number: of the template's fields those that stand before it.
    """
    parts: list[str | ContentPlace] = []
    for part in passage.parts:
        if isinstance(part, FieldText):
            parts += [ContentPlace(part.field, number)] if part.text else []
            number += 1
        elif parts and isinstance(parts[-1], str):
            parts[-1] += part.text
        else:
            parts.append(part.text)
    return parts


def _joined(joint: Joint, text: str) -> bool:
    """Whether a joint lies between a content and the words that follow it."""
    return bool(text) and joint(EDGE, text[0])


def nearest_joints(text: str, joint: Joint, *, follows: bool, followed: bool) -> list[int]:
    """The joints of a template's words that are nearest to the contents before and behind them, where there are some.

    Args:
        follows, followed: whether contents stand there.
    """
    places = [
        place
        for place in range(0 if follows else 1, len(text) + followed)
        if joint(text[place - 1] if place else EDGE, text[place] if place < len(text) else EDGE)
    ]
    return sorted({*(places[:1] if follows else ()), *(places[-1:] if followed else ())})
