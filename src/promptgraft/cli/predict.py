"""promptgraft predict"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from promptgraft.cli.labelled import as_text, rows_of, written
from promptgraft.cli.options import DeviceOption, NoHeaderOption, note_slow_arithmetic
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.verb import verb
from promptgraft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from promptgraft.cli.progress import Told
    from promptgraft.engine.predictor import Predictor
    from promptgraft.task.task import Example

AT_ONCE = 4096
"""Rows of a file that are labelled together: some hundred batches' worth, so that few are not full."""


@verb
def predict(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of tune or transfer, or a bank's entry.")],
    say: Say,
    text: Annotated[list[str] | None, typer.Option(help="A text to label; may be given again.")] = None,
    pair: Annotated[list[str] | None, typer.Option(help="The second text of each, for tasks of pairs.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file to label: csv, tsv, json, jsonl, parquet, txt.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to: csv, tsv or jsonl by its ending (default: the screen)."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The frozen model (default: the one on the card).")
    ] = None,
    device: DeviceOption = "auto",
    arithmetic: Annotated[
        Literal["auto", "fp32", "bf16", "int8"],
        typer.Option(help="Of the matrix products. int8 is used only if a sample of the rows is labelled alike."),
    ] = "auto",
    text_column: Annotated[str | None, typer.Option(help="Column of the text in FILE.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Of the second text.")] = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Label new text with a tuned prompt.

    A file keeps its columns and gets `prediction`, and `probability` where there are classes.

        promptgraft predict runs/reviews --text "The blade broke on day two."

        promptgraft predict runs/reviews --file new.csv --out labelled.csv
    """
    from promptgraft import api

    if bool(text) == (file is not None):
        raise UsageError("give what to label", do="either --text TEXT or --file FILE")
    note_slow_arithmetic(say, arithmetic, device)
    with progress(say, "reading model and rows") as told:
        predictor = api.load(path, model, device=device, arithmetic="auto" if arithmetic == "int8" else arithmetic)
        if file is None:
            rows, examples = typed(text or [], pair or [])
        else:
            rows, examples, notes = rows_of(file, predictor.task, text_column, pair_column, header=not no_header)
            say.note(*notes)
        if arithmetic == "int8":
            predictor = quickened(predictor, api.load(path, model, device=device, arithmetic="int8"), examples, say)
        answers = list(answered(predictor, examples, told))
    labelled = [row | answer for row, answer in zip(rows, answers, strict=True)]
    if out is not None:
        written(labelled, out)
        say.line(f"{len(labelled)} rows labelled in {out}")
    else:
        show(say, labelled)
    say.data({"rows": len(labelled), "out": str(out)} if out is not None else labelled)


def typed(texts: Sequence[str], pairs: Sequence[str]) -> tuple[list[dict[str, Any]], list[Example]]:
    """Rows and examples of texts on the command line."""
    from promptgraft.task.task import Example

    if pairs and len(pairs) != len(texts):
        raise UsageError(f"{len(texts)} --text and {len(pairs)} --pair", do="give every text its second text")
    if not pairs:
        return [{"text": text} for text in texts], [Example(text=text) for text in texts]
    both = list(zip(texts, pairs, strict=True))
    return [{"text": one, "pair": two} for one, two in both], [Example(text=one, pair=two) for one, two in both]


def quickened(exact: Predictor, quick: Predictor, examples: Sequence[Example], say: Say) -> Predictor:
    """The quick predictor where it gives the exact one's answers on a sample, else the exact one."""
    from promptgraft.engine.agreement import agreement

    found = agreement(exact, quick, examples)
    say.note(found.verdict)
    return quick if found.holds else exact


def answered(predictor: Predictor, examples: Sequence[Example], told: Told | None) -> Iterator[dict[str, Any]]:
    """Prediction, and its probability where there are classes, of every example; some thousand at a time."""
    from promptgraft.engine.progress import Event

    for start in range(0, len(examples), AT_ONCE):
        if told is not None:
            told(Event(start, len(examples), "labelling", unit="rows", behind=start / len(examples)))
        yield from some_answered(predictor, examples[start : start + AT_ONCE])


def some_answered(predictor: Predictor, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """The answers to a few, in shared batches."""
    if predictor.task.kind not in ("classification", "pair"):
        return [{"prediction": as_text(value)} for value in predictor.predict(examples)]
    shares = predictor.predict_proba(examples)
    best = shares.argmax(1)
    return [
        {"prediction": predictor.classes[place], "probability": round(float(row[place]), 4)}
        for place, row in zip(best, shares, strict=True)
    ]


def show(say: Say, labelled: Sequence[dict[str, Any]]) -> None:
    """The answers first, then what they are answers to."""
    answers = [name for name in ("prediction", "probability") if name in labelled[0]]
    names = [*answers, *dict.fromkeys(name for row in labelled for name in row if name not in answers)]
    say.table(names, [[as_text(row.get(name, "")) for name in names] for row in labelled])
