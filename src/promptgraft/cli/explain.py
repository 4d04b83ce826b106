"""promptgraft explain"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.options import (
    RUN_HELP,
    CardModelOption,
    DeviceOption,
    LabelColumnOption,
    PairColumnOption,
    TextColumnOption,
    columns_given,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say, typed_command
from promptgraft.cli.verb import verb
from promptgraft.cli.writing import check_folder
from promptgraft.sheet import short

if TYPE_CHECKING:
    from promptgraft.api import Explanation

SHOWN_TEXTS, SHOWN_LETTERS = 8, 60


@verb
def explain(
    path: Annotated[Path, typer.Argument(metavar="ARTEFACT", help=RUN_HELP)],
    say: Say,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|TASK",
            help="Rows to explain on: a file, labelled or not, or a task, whose test rows are used.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Maximum number of rows; if there are more, they are drawn.")] = 64,
    text_column: TextColumnOption = None,
    pair_column: PairColumnOption = None,
    label_column: LabelColumnOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the page (default: runs/explain-ARTEFACT).")
    ] = None,
    model: CardModelOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Show what is in a prompt and what it does: nearest words, attention, the loss without each vector, texts.

    Prints a table and writes report.html and explain.json. Without rows, only nearest words and norms are shown.

        promptgraft explain runs/reviews --file reviews.csv

        promptgraft explain runs/reviews --file examples/data/home_reviews --rows 128 --out runs/why
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given
    from promptgraft.report.explain import facts

    check_given(model)
    folder = Path("runs") / f"explain-{path.resolve().name}" if out is None else out
    check_folder(folder, folder)
    with progress(say, "reading model and rows") as callback:
        explanation = api.explain(
            path,
            file,
            most=rows,
            columns=columns_given(text_column, pair_column, label_column),
            model=model,
            device=device,
            progress=callback,
        )
    if not explanation.has_prompt:
        for line in (*facts(explanation), *explanation.notes):
            say.line(line)
        say.data(explanation.data())
        return
    say.note(*explanation.notes)
    show(say, explanation, explanation.save(folder, typed_command()))


def show(say: Say, explanation: Explanation, files: dict[str, Path]) -> None:
    """Print the tables of vectors and texts, what they say, and where the page is."""
    from promptgraft.report.explain import (
        TEXT_COLUMNS,
        WEAK,
        facts,
        reference,
        text_table,
        vector_columns,
        vector_table,
    )

    many = len(explanation.members) > 1
    for number, member in enumerate(explanation.members, 1):
        share = "" if member.share is None else f" ({100 * member.share:.0f} % of the spread of all scores)"
        title = f"member {number}: {member.name}{share}" if many else member.name
        if member.prompt is None:
            say.line(f"{title}{'' if member.template is None else f': {member.template}'}")
            continue
        say.table(vector_columns(member), vector_table(member), title=title)
        say.line(reference(member))
    say.line(WEAK)
    texts = text_table(explanation)[:SHOWN_TEXTS]
    if texts:
        cut = [[short(row[0], SHOWN_LETTERS), *row[1:]] for row in texts]
        say.table(TEXT_COLUMNS, cut, title="texts whose answer the prompt changes most")
    for line in facts(explanation):
        say.line(line)
    say.line(f"written: {', '.join(map(str, files.values()))}")
    say.data({**explanation.data(), "files": [str(path) for path in files.values()]})
