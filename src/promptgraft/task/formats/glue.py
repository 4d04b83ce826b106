"""Reads GLUE's tsv files, whose quotes are plain characters, and drops SNLI's and MNLI's rows without a gold label."""

from __future__ import annotations

import csv

from promptgraft.task.delimited import TextSource, long_fields, row_by_column
from promptgraft.task.formats.contract import Content, Count, Format, ReadRows, rows_with
from promptgraft.task.table import Columns, TableRow
from promptgraft.task.task import Kind

SENTENCES = Columns(text="sentence1", pair="sentence2", label="label")
GOLD = Columns(text="sentence1", pair="sentence2", label="gold_label")
HEADERS = {
    "Quality #1_ID #2_ID #1_String #2_String": Columns(text="#1 String", pair="#2 String", label="Quality"),
    "index #1_ID #2_ID #1_String #2_String": Columns(text="#1 String", pair="#2 String"),
    "id qid1 qid2 question1 question2 is_duplicate": Columns(text="question1", pair="question2", label="is_duplicate"),
    "id question1 question2": Columns(text="question1", pair="question2"),
    "index question sentence label": Columns(text="question", pair="sentence", label="label"),
    "index question sentence": Columns(text="question", pair="sentence"),
    "index sentence1 sentence2 label": SENTENCES,
    "index sentence1 sentence2": Columns(text="sentence1", pair="sentence2"),
    "index sentence": Columns(text="sentence"),
    "index genre filename year old_index source1 source2 sentence1 sentence2 score": Columns(
        text="sentence1", pair="sentence2", label="score"
    ),
    "index genre filename year old_index source1 source2 sentence1 sentence2": Columns(
        text="sentence1", pair="sentence2"
    ),
}
"""The columns of GLUE's files (a space in a name as _), with their roles."""
PARSED = "sentence1_binary_parse"
"""A column that only MNLI's and SNLI's files have."""
ACCEPTABLE = ("source", "label", "star", "sentence")
"""The columns of CoLA, whose file does not name them."""
NO_GOLD = "-"


def recognise(content: Content) -> bool:
    """Whether the file is a tsv with exactly the columns of one of GLUE's files, or CoLA's."""
    if not content.path.name.removesuffix(".gz").endswith(".tsv"):
        return False
    first = (content.text or "").lstrip("\r\n").partition("\n")[0].rstrip("\r").split("\t")
    return roles_of(first) is not None or is_cola(content.text or "")


def roles_of(header: list[str]) -> Columns | None:
    """The roles of the columns of a GLUE header; None for any other header."""
    if PARSED in header:
        return GOLD if GOLD.label in header else Columns(text="sentence1", pair="sentence2")
    return HEADERS.get(" ".join(name.replace(" ", "_") for name in header))


def is_cola(text: str) -> bool:
    """Whether all lines have CoLA's fields: source, 0 or 1, a star or nothing, and the sentence."""
    lines = [line.rstrip("\r").split("\t") for line in text.split("\n") if line.strip()]
    return bool(lines) and all(len(f) == 4 and f[1] in ("0", "1") and f[2] in ("", "*") for f in lines)


def read(content: Content) -> ReadRows:
    """One row for each line, with quotes as plain characters."""
    with long_fields():
        lines = TextSource(content.text or "", content.path).lines("\t", csv.QUOTE_NONE)
    header = lines[0][0]
    roles = roles_of(header)
    if roles is None:
        header, roles = list(ACCEPTABLE), Columns(text="sentence", label="label")
    else:
        lines = lines[1:]
    rows = [(row_by_column(header, values, f"{content.path}:{line}", "\t"), line) for values, line in lines]
    return with_gold(rows, roles)


def with_gold(rows: list[TableRow], roles: Columns) -> ReadRows:
    """The rows, without those whose annotators found no gold label."""
    count = Count()
    labelled = [(row, line) for row, line in rows if row.get(roles.label or "") != NO_GOLD]
    count.add("rows without a gold label (-), left out", len(rows) - len(labelled))
    kind: Kind | None = "classification" if roles.pair is None else "pair"
    return ReadRows(labelled, roles, None if roles.label in ("score", None) else kind, count.notes())


def recognise_rows(content: Content) -> bool:
    """Whether all rows are two sentences with a gold label."""
    return rows_with(content, "gold_label", "sentence1", "sentence2")


def read_rows(content: Content) -> ReadRows:
    """The rows of SNLI or MNLI."""
    return with_gold(list(content.rows), GOLD)


FORMAT = Format("GLUE", recognise, read, of_lines=True)
ROWS = Format("SNLI or MNLI", recognise_rows, read_rows)
