"""promptgraft extend"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.options import (
    CardModelOption,
    DeviceOption,
    LabelColumnOption,
    PairColumnOption,
    RunArgument,
    TextColumnOption,
    columns_given,
    described,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.verb import verb

if TYPE_CHECKING:
    from promptgraft.api import Extension


@verb
def extend(
    path: RunArgument,
    say: Say,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DESCRIPTION", help="A class to add and its description; may be repeated."),
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="A file of labelled rows, of new and of existing classes.")] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Labelled rows for scores before and after (default: the rows that RUN remembers)."),
    ] = None,
    text_column: TextColumnOption = None,
    pair_column: PairColumnOption = None,
    label_column: LabelColumnOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the new artefact (default: runs/extend-RUN).")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an artefact in the folder.")] = False,
    model: CardModelOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Add classes by descriptions or labelled rows, without the rows that RUN was tuned on.

    RUN is not changed. A table shows how the answers for the old classes changed.

        promptgraft extend runs/reviews --label refund="asks for money back"

        promptgraft extend runs/reviews --label refund="asks for money back" --rows more.csv --out runs/reviews-2
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given

    check_given(model)
    folder = Path("runs") / f"extend-{path.resolve().name}" if out is None else out
    with progress(say, "reading model and rows"):
        extension = api.extend(
            path,
            described(label or []),
            rows,
            test=test,
            columns=columns_given(text_column, pair_column, label_column),
            out=folder,
            replace=replace,
            model=model,
            device=device,
        )
    say.note(*extension.notes)
    show(say, extension, folder)


def show(say: Say, extension: Extension, folder: Path) -> None:
    """Print what was added, what became of the answers by class, and where the artefact was saved."""
    from promptgraft.api.extending import COLUMNS

    task = extension.artefact.card.task
    if extension.changes:
        columns = [COLUMNS[0], *(f"{name} " for name in COLUMNS[1:])]
        say.table(columns, extension.rows(), title=f"answers to {extension.judged_on}")
    if extension.scores is not None:
        before, after = extension.scores
        say.line(f"{task.metric}: {before:.1f} before, {after:.1f} after")
    added = ", ".join(extension.added) or "no class"
    say.line(f"added: {added}; {len(task.labels)} classes, in {folder}")
    say.data(
        {
            "task": task.name,
            "classes": list(task.labels),
            "added": dict(extension.added),
            "judged_on": extension.judged_on,
            "changes": [dataclasses.asdict(change) for change in extension.changes],
            "scores": None if extension.scores is None else list(extension.scores),
            "out": str(folder),
            "notes": list(extension.notes),
        }
    )
