"""Reads fastText: one text a line after its labels; doccano writes the same, with comments at the end."""

from __future__ import annotations

import re

from promptgraft.task.content import text_lines
from promptgraft.task.formats.contract import Content, Count, Format, ReadRows
from promptgraft.task.formats.votes import has_several, voted_labels
from promptgraft.task.table import Columns, TableRow

PREFIX = "__label__"
LABEL = re.compile(PREFIX + r"(\S*)\s*")
COMMENT = "__comment__"


def recognise(content: Content) -> bool:
    """Whether nine of ten lines begin with a label."""
    lines = [line for line in text_lines(content.text or "") if line.strip()]
    return bool(lines) and sum(line.startswith(PREFIX) for line in lines) * 10 >= len(lines) * 9


def read(content: Content) -> ReadRows:
    """One row for every line that is not blank."""
    count = Count()
    found: list[tuple[str, list[str], int]] = []
    for n, line in enumerate(text_lines(content.text or ""), 1):
        if not line.strip():
            continue
        text, comment, _ = line.partition(COMMENT)
        count.add("comments, not used", int(bool(comment)))
        labels, at = [], 0
        while match := LABEL.match(text, at):
            labels.append(match[1])
            at = match.end()
        found.append((text[at:].strip(), labels, n))
    several = has_several(labels for _, labels, _ in found)
    rows: list[TableRow] = [
        ({"text": text, "label": voted_labels([labels] if labels else [], count, several=several)}, n)
        for text, labels, n in found
    ]
    return ReadRows(rows, Columns(text="text", label="label"), "multilabel" if several else None, count.notes())


FORMAT = Format("fastText lines", recognise, read, of_lines=True)
