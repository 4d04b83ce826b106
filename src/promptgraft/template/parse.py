"""Reads the small language of templates: words, slots in braces, `{{` and `}}` for braces themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from promptgraft.errors import UsageError, quoted, unknown
from promptgraft.template.parts import FIELDS, NEAR, NEWLINE, Blank, Demos, Field, Soft, TemplatePart, Wording

SLOTS = (*FIELDS, "mask", "label", "soft", "demos")
LONGEST_TEMPLATE = 100_000
"""Characters of a template that are read; a longer one is a file given by mistake."""
NUMBER = re.compile(r"[0-9]{1,9}")
NAME = re.compile(r"[^{}:]*")
CHOSEN = re.compile(rf" *{NEAR} *")
STRING = json.JSONDecoder(strict=False)
EXPECTED = {
    "soft": 'write {soft:5} or {soft:"It was"}',
    "demos": 'write {demos:4}, {demos:4 near} or {demos:4:"\\n\\n"}',
}


def parts_of(text: str) -> Iterator[TemplatePart]:
    """The parts of a template's text, in order.

    Raises:
        UsageError: a brace without its other, an unknown slot, or a number or words that a slot cannot take.
    """
    if len(text) > LONGEST_TEMPLATE:
        raise UsageError(f"a template of {len(text):,} characters", do=f"give {LONGEST_TEMPLATE:,} at most")
    at = 0
    while at < len(text):
        if text.startswith(("{{", "}}"), at):
            yield Wording(text[at])
            at += 2
        elif text[at] == "{":
            part, at = _slot(text, at)
            yield part
        elif text[at] == "}":
            raise UsageError(f"a '}}' at character {at + 1} of the template opens nowhere", do="write '}}' for a brace")
        else:
            end = next((place for place in range(at, len(text)) if text[place] in "{}"), len(text))
            yield Wording(text[at:end])
            at = end


def _slot(text: str, start: int) -> tuple[TemplatePart, int]:
    """The slot that begins at a brace, and where the text goes on."""
    found = NAME.match(text, start + 1)
    assert found is not None, "the pattern matches nothing, too"
    name, at = found.group(), found.end()
    if at == len(text) or text[at] == "{":
        raise UsageError(f"a '{{' at character {start + 1} of the template closes nowhere", do="write '{{' for a brace")
    name = name.strip()
    if name not in SLOTS:
        raise _unknown_slot(name)
    if name in EXPECTED:
        return _with_argument(name, text, at)
    if text[at] == ":":
        raise UsageError(f"{{{name}}} in the template takes nothing after a colon", do=f"write {{{name}}}")
    return (Blank() if name in ("mask", "label") else Field(name)), at + 1


def _with_argument(name: str, text: str, at: int) -> tuple[TemplatePart, int]:
    """A slot with its argument, whose colon is at `at`, and where the text goes on."""
    argument, at = _argument(name, text, at)
    if name == "soft":
        part: TemplatePart = Soft(words=argument) if isinstance(argument, str) else Soft(argument)
    elif isinstance(argument, str):
        raise _expected(name)
    else:
        chosen = CHOSEN.match(text, at)
        at = chosen.end() if chosen else at
        separator: int | str = NEWLINE
        if text.startswith(":", at):
            separator, at = _argument(name, text, at)
        if not isinstance(separator, str):
            raise _expected(name)
        part = Demos(argument, separator, near=chosen is not None)
    if not text.startswith("}", at):
        raise _expected(name)
    return part, at + 1


def _argument(name: str, text: str, at: int) -> tuple[int | str, int]:
    """The number, or the words in quotes, after a colon, and where the text goes on."""
    if not text.startswith(":", at):
        raise _expected(name)
    number = NUMBER.match(text, at + 1)
    if number:
        return int(number.group()), number.end()
    if not text.startswith('"', at + 1):
        raise _expected(name)
    try:
        words, end = STRING.raw_decode(text, at + 1)
    except json.JSONDecodeError:
        raise _expected(name) from None
    return str(words), end


def _expected(name: str) -> UsageError:
    return UsageError(f"{{{name}}} in the template is not understood", do=EXPECTED[name])


def _unknown_slot(name: str) -> UsageError:
    if not name:
        return UsageError("a slot of the template has no name", do="write '{{' and '}}' for braces")
    error = unknown("slot of the template", name, SLOTS)
    do = str(error).partition("; ")[2]
    return UsageError(f"{quoted('{' + name + '}')} is no slot of a template", do=do)
