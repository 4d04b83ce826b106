"""promptgraft suggest"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promptgraft.cli.labelled import SAVE_FIRST, regular
from promptgraft.cli.options import (
    CardModelOption,
    DeviceOption,
    FileOutOption,
    LabelColumnOption,
    PairColumnOption,
    RunArgument,
    TextColumnOption,
    columns_given,
)
from promptgraft.cli.predict import Fields, hand_out
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.verb import verb
from promptgraft.cli.writing import check_target, check_writable, columns_of, ending_of, free_name, holds_lists, joined
from promptgraft.errors import UsageError

if TYPE_CHECKING:
    from promptgraft.api import Suggestion


@verb
def suggest(
    path: RunArgument,
    say: Say,
    file: Annotated[
        Path,
        typer.Option(
            help="Rows without labels: csv, tsv, json, jsonl, parquet, txt, or an export.", show_default=False
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-n", help="Number of rows.")] = 20,
    text_column: TextColumnOption = None,
    pair_column: PairColumnOption = None,
    label_column: LabelColumnOption = None,
    out: FileOutOption = None,
    form: Annotated[
        Literal["label-studio"] | None,
        typer.Option("--format", help="Write OUT as Label Studio tasks with predictions, in a json file."),
    ] = None,
    model: CardModelOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Choose the rows of a file that are most worth labelling next, the most useful first.

    Rows keep their columns and get `prediction` and `probability`. Left out are rows with a label, rows
    that RUN remembers, and repeated rows.

        promptgraft suggest runs/reviews --file unlabelled.csv --count 20 --out next.csv

        promptgraft suggest runs/reviews --file unlabelled.csv --out tasks.json --format label-studio
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given

    check_given(model)
    check_out(out, form, file)
    with progress(say, "reading model and rows"), regular(file, None, SAVE_FIRST) as source:
        columns = columns_given(text_column, pair_column, label_column)
        suggestion = api.suggest(path, source, count, columns=columns, model=model, device=device)
    say.note(*suggestion.notes)
    rows = answered(suggestion)
    if suggestion.separator is not None and not holds_lists(out, say):
        rows = joined(rows, suggestion.separator)
    if form is not None:
        rows = suggestion.label_studio()
        say.note(f"the interface for these tasks: {suggestion.label_studio_interface()}")
    if out is not None or say.json:
        check_writable(rows, out)
    hand_out(rows, (), "to label next", out, say)


def check_out(out: Path | None, form: str | None, file: Path) -> None:
    """Check where the rows go, before the work.

    Raises:
        UsageError: it cannot be written, or not in that format.
    """
    check_target(out, read_from=file)
    if form is not None and (out is None or ending_of(out) != "json"):
        raise UsageError(f"--format {form} writes a json file", do="add --out FILE.json")


def answered(suggestion: Suggestion) -> list[Fields]:
    """The rows with what the artefact would answer now in front."""
    taken = columns_of(suggestion.rows)
    prediction, probability = (free_name(name, taken) for name in ("prediction", "probability"))
    return [
        {prediction: list(answer) if isinstance(answer, tuple) else answer, probability: round(share, 4), **row}
        for row, answer, share in zip(suggestion.rows, suggestion.predictions, suggestion.probabilities, strict=True)
    ]
