"""promptgraft estimate"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.compare import SEEDS, chosen_rows
from promptgraft.cli.options import (
    AnyMethod,
    BankOption,
    DataOptions,
    DeviceOption,
    ModelOption,
    OutOption,
    RecipeOptions,
    Seeds,
    ShotsOption,
    SourceOption,
    TaskArgument,
    UnlabelledOption,
    note_slow_arithmetic,
    run_folder,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.verb import verb

if TYPE_CHECKING:
    from promptgraft.engine.estimate import Estimate

VerbArgument = Annotated[str, typer.Argument(metavar="VERB", help="tune, transfer or compare.", show_default=False)]


@verb
def estimate(
    verb: VerbArgument,
    task: TaskArgument,
    model: ModelOption,
    say: Say,
    columns: DataOptions,
    seeds: Seeds,
    options: AnyMethod,
    recipe: RecipeOptions,
    bank: BankOption = "starter",
    source: SourceOption = "auto",
    methods: Annotated[str | None, typer.Option(metavar="A,B,...", help="Of compare (default: all).")] = None,
    shots: ShotsOption = None,
    device: DeviceOption = "auto",
    unlabelled: UnlabelledOption = None,
    baselines: Annotated[bool, typer.Option(help="Of transfer: what it runs beside the method.")] = True,
    out: OutOption = None,
) -> None:
    """Say how long a tune, transfer or compare will take, and how much memory, before it runs.

    Takes the options of the verb. The first time with a model it measures this machine for some seconds. What is
    finished in the run folder costs nothing.

        promptgraft estimate compare reviews.csv --model minilm --bank starter --shots 8 --seeds 5

        promptgraft estimate tune reviews.csv --model minilm --method model-tuning
    """
    from promptgraft import api

    with progress(say, "reading task and model, and measuring this machine"):
        opened = columns.open(task)
        say.note(*opened.notes)
        note_slow_arithmetic(say, recipe.arithmetic, device)
        found = api.estimate(
            verb,
            opened,
            model,
            bank,
            source=source,
            method=options.method,
            options=options.given(),
            shots=shots,
            seeds=seeds.chosen(SEEDS if verb == "compare" else 1),
            rows=chosen_rows(methods),
            unlabelled=unlabelled,
            baselines=baselines,
            out=run_folder(out, verb, opened),
            device=device,
            **recipe.given(),
        )
    say.note(*(f"{label} would be skipped: {reason}" for label, reason in found.skipped.items()))
    show(say, found)


def show(say: Say, found: Estimate) -> None:
    """Seconds by method, and all together."""
    rows = [[line.label, str(line.jobs), f"{line.seconds:.1f}"] for line in found.lines]
    if found.ranking:
        rows.insert(0, ["choice of the source", "", f"{found.ranking:.1f}"])
    say.table(["method", "jobs ", "seconds "], rows)
    say.line(f"about {found.seconds:.0f} s and {found.mebibytes:.0f} MiB at the peak, loading not counted")
    if found.finished:
        say.line(f"{found.finished} jobs are finished already")
    say.data(
        {
            "lines": [{"method": one.label, "jobs": one.jobs, "seconds": one.seconds} for one in found.lines],
            "ranking": found.ranking,
            "seconds": found.seconds,
            "mebibytes": found.mebibytes,
            "finished": found.finished,
            "skipped": dict(found.skipped),
        }
    )
