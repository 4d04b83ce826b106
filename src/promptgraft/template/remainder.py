"""What is left of a template without its instruction and demonstrations: the line that holds the fields."""

from __future__ import annotations

from collections.abc import Sequence

from promptgraft.template.parts import Demos, Field, TemplatePart, Wording
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


def _label(before: Sequence[TemplatePart], *, keeps_first: bool) -> str:
    """What names the field, of the parts before it: the words of its line.

    Args:
        keeps_first: whether the first line is one that follows demonstrations, each of which begins like it.
    """
    text = "".join(part.text for part in before if isinstance(part, Wording))
    if not keeps_first and "\n" not in text:
        return ""
    return text.rpartition("\n")[2]
