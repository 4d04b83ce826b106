"""Reads CoNLL: one word a line with its tag in the last column, and a blank line after every sentence."""

from __future__ import annotations

import re

from promptgraft.errors import TaskError, quoted
from promptgraft.task.content import text_lines
from promptgraft.task.formats.contract import Content, Count, Format, ReadRows
from promptgraft.task.formats.words import as_bio, scheme
from promptgraft.task.table import Columns, TableRow

ENDINGS = (".conll", ".iob", ".iob2", ".bio", ".bioes")
DOCUMENT = "-DOCSTART-"
TAG = re.compile(r"O|[BIESLU]-\S+")


def recognise(content: Content) -> bool:
    """Whether nine of ten lines are a word with a span tag (with any tag, if the file's ending is one of CoNLL's)."""
    words = [fields for line in text_lines(content.text or "") if (fields := fields_of(line))]
    if not words:
        return False
    if content.path.name.removesuffix(".gz").endswith(ENDINGS):
        return all(len(fields) > 1 for fields in words)
    tags = [fields[-1] for fields in words if len(fields) > 1 and TAG.fullmatch(fields[-1])]
    return len(tags) * 10 >= len(words) * 9 and any(tag != "O" for tag in tags)


def fields_of(line: str) -> list[str]:
    """The columns of a line; none where the line is blank, a comment, or the start of a document."""
    fields = line.rstrip().split("\t") if "\t" in line else line.split()
    first = fields[0] if fields else ""
    is_comment = first.startswith("#") and not TAG.fullmatch(fields[-1])
    return [] if first == DOCUMENT or is_comment or not line.strip() else fields


def read(content: Content) -> ReadRows:
    """One row for each sentence; tags of any scheme are converted to BIO."""
    count = Count()
    rows: list[TableRow] = []
    words: list[str] = []
    tags: list[str] = []
    start = 1
    for n, line in enumerate([*text_lines(content.text or ""), ""], 1):
        fields = fields_of(line)
        if fields:
            if len(fields) < 2 or not fields[-1]:
                raise TaskError(f"the word {quoted(fields[0])} has no tag", where=f"{content.path}:{n}", do="tag it")
            start = start if words else n
            words.append(fields[0])
            tags.append(fields[-1])
        elif line.lstrip().startswith("#"):
            count.add("comment lines, not used")
        elif words:
            rows.append(({"tokens": words, "tags": tags}, start))
            words, tags = [], []
    tag_scheme = scheme([row["tags"] for row, _ in rows])
    notes = count.notes()
    if tag_scheme not in ("", "IOB2"):
        rows = [({"tokens": row["tokens"], "tags": as_bio(row["tags"])}, line) for row, line in rows]
        notes = (f"tags converted from {tag_scheme} to BIO", *notes)
    return ReadRows(rows, Columns(text="tokens", label="tags"), "tagging", notes)


FORMAT = Format("CoNLL", recognise, read, of_lines=True, kind="tagging")
