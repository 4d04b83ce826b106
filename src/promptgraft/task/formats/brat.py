"""Reads BRAT: a text in NAME.txt, and its marks in NAME.ann beside it."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from pathlib import Path

from promptgraft.errors import TaskError, quoted
from promptgraft.task.content import decode, text_lines
from promptgraft.task.formats.contract import Content, Count, Format, ReadRows
from promptgraft.task.formats.words import Mark, tagged_words
from promptgraft.task.table import Columns, TableRow
from promptgraft.untrusted import read_bytes

LARGEST = 64 << 20
"""The most bytes of one document, or of its marks, that are read."""
MARK = re.compile(r"T\S*\t(\S+) (\d+) (\d+)\t(.*)")
PARTS = re.compile(r"T\S*\t\S+ \d+ \d+(;\d+ \d+)+\t.*")
OTHER = re.compile(r"[REAMN#*]\S*\t.*")


def recognise(content: Content) -> bool:
    """Whether the file is a .txt with an .ann beside it, or that .ann."""
    path = content.path
    return path.suffix in (".txt", ".ann") and all(path.with_suffix(end).is_file() for end in (".txt", ".ann"))


def read(content: Content) -> ReadRows:
    """One row for every line of the text that is not blank."""
    count = Count()
    text_file, mark_file = content.path.with_suffix(".txt"), content.path.with_suffix(".ann")
    text = document(text_file)
    marks = sorted(marks_of(document(mark_file), text, mark_file, count))
    rows: list[TableRow] = []
    begins = [begin for begin, _, _ in marks]
    for n, (start, end) in enumerate(line_places(text), 1):
        if not text[start:end].strip():
            continue
        inside = marks[bisect.bisect_left(begins, start) : bisect.bisect_left(begins, end)]
        count.add("marks over several lines, left out", sum(last > end for _, last, _ in inside))
        line_marks = [(first - start, last - start, label) for first, last, label in inside if last <= end]
        words, tags = tagged_words(text[start:end], line_marks, count)
        rows.append(({"tokens": words, "tags": tags}, n))
    return ReadRows(rows, Columns(text="tokens", label="tags"), "tagging", count.notes())


def document(path: Path) -> str:
    """The text of a file, which may be empty where nothing is marked."""
    return decode(read_bytes(path, LARGEST, TaskError), path)[0]


def marks_of(written: str, text: str, path: Path, count: Count) -> Iterator[Mark]:
    """The marks of an .ann file, checked against the text."""
    for n, line in enumerate(text_lines(written), 1):
        if match := MARK.fullmatch(line):
            label, begin, end = match[1], int(match[2]), int(match[3])
            if " ".join(text[begin:end].split()) != " ".join(match[4].split()):
                what = f"it marks {quoted(match[4])}, where the text has {quoted(text[begin:end])}"
                raise TaskError(what, where=f"{path}:{n}", do="give the text that was annotated")
            yield begin, end, label
        elif PARTS.fullmatch(line):
            count.add("marks of several parts, left out")
        elif OTHER.fullmatch(line):
            count.add("relations, events, attributes and notes, not used")
        elif line.strip():
            raise TaskError(f"{quoted(line)} is no line of BRAT", where=f"{path}:{n}", do="repair the line")


def line_places(text: str) -> Iterator[tuple[int, int]]:
    """The positions where each line of a text begins and ends."""
    start = 0
    for line_end in re.finditer(r"\r\n|\n|\r", text):
        yield start, line_end.start()
        start = line_end.end()
    yield start, len(text)


FORMAT = Format("BRAT (.txt with .ann)", recognise, read, of_lines=True, kind="tagging")
