"""All formats, in the order in which they are tried: those that are easiest to recognise first."""

from __future__ import annotations

from promptgraft.task.formats import (
    argilla,
    brat,
    clue,
    conll,
    doccano,
    fasttext,
    glue,
    label_studio,
    prodigy,
    squad,
    superglue,
)
from promptgraft.task.formats.contract import Format

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        brat.FORMAT,
        fasttext.FORMAT,
        conll.FORMAT,
        glue.FORMAT,
        label_studio.JSON,
        label_studio.FLAT,
        argilla.RECORDS,
        argilla.FLAT,
        prodigy.FORMAT,
        doccano.JSONL,
        doccano.CSV,
        squad.FORMAT,
        glue.ROWS,
        *superglue.FORMATS,
        *clue.FORMATS,
    )
}
