"""promptgraft generate"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promptgraft.cli.labelled import SAVE_FIRST, GivenRows, name_of, regular, rows_of
from promptgraft.cli.options import (
    MEMORY_METAVAR,
    DeviceOption,
    FileOutOption,
    NoHeaderOption,
    PairColumnOption,
    columns_given,
    note_slow_arithmetic,
)
from promptgraft.cli.predict import Fields, answer_names, typed
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.templates import TEMPLATE_HELP
from promptgraft.cli.verb import verb
from promptgraft.cli.writing import check_target, check_writable, write
from promptgraft.errors import UsageError

if TYPE_CHECKING:
    from promptgraft.api import TextWriter
    from promptgraft.cli.progress import ProgressCallback
    from promptgraft.engine.writer import Decoding

EVERY = 5.0
"""Seconds between two saves of what is written so far."""


@verb
def generate(
    source: Annotated[
        str, typer.Argument(metavar="MODEL_OR_RUN", help="A model that can write, a run folder, or a bank's entry.")
    ],
    say: Say,
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to write for.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file of texts: csv, tsv, json, jsonl, parquet, txt; `-` is standard input (as jsonl)."),
    ] = None,
    template: Annotated[
        str, typer.Option("--template", "-t", help=f"{TEMPLATE_HELP} (default: the run's own, or the text alone).")
    ] = "",
    out: FileOutOption = None,
    most: Annotated[int, typer.Option(min=1, help="Maximum number of tokens of a text.")] = 64,
    stop: Annotated[
        list[str] | None,
        typer.Option(help=r"End a text before this; \n is a line end. May be repeated."),
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 takes the most likely tokens; higher values sample more freely.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed for sampling.")] = 0,
    among: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Write one of these texts; once for each.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="For a run: the frozen model (default: the model named on the card)."),
    ] = None,
    device: DeviceOption = "auto",
    arithmetic: Annotated[
        Literal["auto", "fp32", "bf16", "int8", "int4"],
        typer.Option(help="Arithmetic of matrix products; int8 and int4 are how a causal model's weights are stored."),
    ] = "auto",
    memory: Annotated[
        str | None,
        typer.Option(
            metavar=MEMORY_METAVAR,
            help="Memory limit, such as 4GB: fewer rows are written at once if they would take more; low: one at a "
            "time (default: the free memory).",
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text in FILE.")] = None,
    pair_column: PairColumnOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Write a text for each row, with a model and a template, or with a tuned prompt.

    A file keeps its columns and gets `written`. The output is saved every few seconds, so a stop loses little.

        promptgraft generate smollm2-135m "The capital of France is" --most 8

        promptgraft generate flan-t5-small-titler --file news.csv --template title-cloze-en --out titles.csv

        promptgraft generate runs/titles --file news.csv --out titles.csv
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given
    from promptgraft.api.generating import check_decoding

    if bool(text) == (file is not None):
        raise UsageError("give what to write for", do="either texts or --file FILE")
    check_target(out, read_from=file)
    form = "jsonl" if file is not None and str(file) == "-" else None
    note_slow_arithmetic(say, arithmetic, device)
    check_given(recipe={"template": template, "memory": memory})
    check_decoding(most, temperature, seed, among or [])
    with (
        progress(say, "reading model and rows") as callback,
        nullcontext(None) if file is None else regular(file, form, SAVE_FIRST) as source_file,
    ):
        writer = api.text_writer(
            source, template=template, model=model, device=device, arithmetic=arithmetic, memory=memory
        )
        say.note(*writer.notes)
        if file is None or source_file is None:
            given = typed(text or [], [])
        else:
            given = rows_of(
                source_file,
                writer.task,
                columns_given(text_column, pair_column, None),
                name=name_of(file),
                header=not no_header,
                of_card=not writer.is_plain,
            )
            say.note(*given.notes)
        rows = given.rows
        [name] = answer_names(rows, say, ("written",)).values()
        if out is not None or say.json:
            check_writable(rows, out)
        ends = [word.replace("\\n", "\n") for word in stop or []]
        decoding = writer.decoding(most, ends, temperature, seed, among or [])
        written = saved(answers(writer, given, decoding, callback, say), rows, name, out, say)
    say.data({"rows": len(written), "out": str(out)} if out is not None else written)


def answers(
    writer: TextWriter, given: GivenRows, decoding: Decoding, callback: ProgressCallback | None, say: Say
) -> Iterator[str]:
    """The texts one after the other, as they come, with progress; how many inputs were cut is noted at the end."""
    from promptgraft.api.generating import WrittenPart, notes_on
    from promptgraft.engine.progress import Event

    examples, done = given.examples, 0
    parts: list[WrittenPart] = []
    if callback is not None:
        callback(Event(0, len(examples), "writing", unit="rows"))
    for part in writer.texts(examples, decoding):
        parts.append(part)
        done += len(part.texts)
        if callback is not None:
            callback(Event(done, len(examples), "writing", unit="rows", behind=done / len(examples)))
        yield from part.texts
    say.note(*notes_on(parts, examples, writer, given.places))


def saved(texts: Iterator[str], rows: Sequence[Fields], name: str, out: Path | None, say: Say) -> list[Fields]:
    """The rows with their texts, shown as they come or saved now and then; whatever ends it, all so far are saved.

    Args:
        name: of the texts' column.
        out: where to; None: the screen.
    """
    written: list[Fields] = []
    last = time.monotonic()
    try:
        for text, row in zip(texts, rows, strict=True):
            written.append(row | {name: text})
            if out is None:
                say.line(text)
            elif time.monotonic() - last >= EVERY:
                write(written, out)
                last = time.monotonic()
    finally:
        if out is not None and written:
            write(written, out)
            of_all = "" if len(written) == len(rows) else f" of {len(rows)}"
            say.line(f"{len(written)}{of_all} rows written in {out}")
    return written
