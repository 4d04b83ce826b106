"""What is left of a template: without its instruction and demonstrations, or without the row."""

from __future__ import annotations

from collections.abc import Sequence

from promptgraft.template.parts import Blank, Demos, Field, TemplatePart, Wording
from promptgraft.template.template import Template


def remainder(template: Template) -> Template:
    """The template from the line of its first field on, without the demonstrations.

    Where the words before the field are one line with it, they are the instruction and go too.
    """
    parts = list(template.parts)
    at = next((place for place, part in enumerate(parts) if isinstance(part, Demos)), None)
    rest: list[TemplatePart] = parts if at is None else parts[at + 1 :]
    first = next((place for place, part in enumerate(rest) if isinstance(part, Field)), 0)
    label = _label(rest[:first], keeps_first=at is not None)
    return Template((*([Wording(label)] if label else ()), *rest[first:]))


def premise(template: Template) -> Template:
    """The template without the row: its demonstrations, where all rows have the same, and what asks for the answer.

    That is what stands behind the last field; where no words or not the answer stand there, all of the template.
    """
    parts = list(template.parts)
    last = max((place for place, part in enumerate(parts) if isinstance(part, Field)), default=-1)
    rest = parts[last + 1 :]
    has_words = any(isinstance(part, Wording) and part.text.strip() for part in rest)
    if not has_words or not any(isinstance(part, Blank) for part in rest):
        return Template(tuple(part for part in parts if not isinstance(part, Field | Demos)))
    if rest and isinstance(rest[0], Wording):
        rest[0] = Wording(rest[0].text.lstrip())
    at = next((place for place, part in enumerate(parts) if isinstance(part, Demos) and not part.near), -1)
    return Template((*parts[: at + 1], *rest))


def _label(before: Sequence[TemplatePart], *, keeps_first: bool) -> str:
    """What names the field, of the parts before it: the words of its line.

    Args:
        keeps_first: whether the first line is one that follows demonstrations, each of which begins like it.
    """
    text = "".join(part.text for part in before if isinstance(part, Wording))
    if not keeps_first and "\n" not in text:
        return ""
    return text.rpartition("\n")[2]
