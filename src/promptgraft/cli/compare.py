"""promptgraft compare"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.options import (
    CompareBankOption,
    DataOptions,
    DeviceOption,
    ModelOption,
    OutOption,
    RecipeOptions,
    ReplaceOption,
    Seeds,
    ShotsOption,
    SourceOption,
    TaskArgument,
    UnlabelledOption,
    ValidationFromOption,
    note_slow_arithmetic,
    run_folder,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.results import as_data
from promptgraft.cli.say import Say, typed_command
from promptgraft.cli.verb import resuming_verb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from promptgraft.study.compare import Comparison

SEEDS = 5


@resuming_verb
def compare(
    task: TaskArgument,
    model: ModelOption,
    say: Say,
    columns: DataOptions,
    seeds: Seeds,
    recipe: RecipeOptions,
    bank: CompareBankOption = "auto",
    source: SourceOption = "auto",
    methods: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Run only these methods (default: all, including placebos).")
    ] = None,
    shots: ShotsOption = None,
    validation_from: ValidationFromOption = "extra",
    device: DeviceOption = "auto",
    unlabelled: UnlabelledOption = None,
    out: OutOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Run every method on a task for the same number of steps over several seeds, and compare the results.

    The best is chosen by validation and reported on test. Prints a table and writes report.html and
    results.csv. Five seeds unless `--seed` or `--seeds` says otherwise.

        promptgraft compare reviews.csv --model minilm --bank starter --shots 8 --seeds 5
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given
    from promptgraft.api.keeping import run_folder as own_folder
    from promptgraft.report.compare import write

    drawn, rows = seeds.chosen(SEEDS), chosen_rows(methods)
    check_given(model, recipe=recipe.given(), bank=bank, seeds=drawn)
    with progress(say) as callback:
        target = columns.open(task)
        say.note(*target.notes)
        note_slow_arithmetic(say, recipe.arithmetic, device)
        folder = say.folder = own_folder(run_folder(out, "compare", target), target, replace=replace)
        comparison = api.compare(
            target,
            model,
            bank,
            source=source,
            shots=shots,
            validation_from=validation_from,
            seeds=drawn,
            rows=rows,
            unlabelled=unlabelled,
            out=folder,
            progress=callback,
            device=device,
            **recipe.given(),
        )
    say.note(*comparison.notes, *(f"{label} was skipped: {reason}" for label, reason in comparison.skipped.items()))
    show(say, comparison, write(comparison, folder, typed_command()))


def chosen_rows(methods_named: str | None) -> list[tuple[str, dict[str, str]]] | None:
    """The rows of the comparison that belong to the named methods; None for all rows.

    Raises:
        UsageError: no name, or one that no method has.
    """
    from promptgraft.errors import UsageError
    from promptgraft.method.all import find, methods
    from promptgraft.study.compare import rows_of

    if methods_named is None:
        return None
    names = [find(name.strip()).name for name in methods_named.split(",") if name.strip()]
    if not names:
        raise UsageError("--methods names no method", do=f"known: {', '.join(sorted(methods()))}")
    return [row for name in dict.fromkeys(names) for row in rows_of(name)]


def show(say: Say, comparison: Comparison, files: Mapping[str, Path]) -> None:
    """Print the table, what it says in words, and where the report is."""
    from promptgraft.report.table import plain, rich_table
    from promptgraft.report.verdict import intervals, placebos, verdict

    say.either(lambda: rich_table(comparison), lambda: plain(comparison))
    for text in filter(None, (" ".join(verdict(comparison)), placebos(comparison), intervals(comparison))):
        say.line(text)
    say.line(f"written: {', '.join(map(str, files.values()))}")
    say.data(
        {
            "task": comparison.task.name,
            "metric": comparison.task.metric,
            "shots": comparison.shots,
            "rows": [as_data(row) for row in comparison.rows],
            "best": comparison.best,
            "skipped": dict(comparison.skipped),
            "files": [str(path) for path in files.values()],
            "notes": list(comparison.notes),
        }
    )
