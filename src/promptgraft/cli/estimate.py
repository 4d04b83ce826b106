"""promptgraft estimate"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

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
    validation_from: Annotated[
        Literal["extra", "within"] | None, typer.Option(help="Where validation rows come from (default: the verb's).")
    ] = None,
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
        target = columns.open(task)
        say.note(*target.notes)
        note_slow_arithmetic(say, recipe.arithmetic, device)
        result = api.estimate(
            verb,
            target,
            model,
            bank,
            source=source,
            method=options.method,
            options=options.given(),
            shots=shots,
            validation_from=validation_from,
            seeds=seeds.chosen(SEEDS if verb == "compare" else 1),
            rows=chosen_rows(methods),
            unlabelled=unlabelled,
            baselines=baselines,
            out=run_folder(out, verb, target),
            device=device,
            **recipe.given(),
        )
    say.note(*(f"{label} would be skipped: {reason}" for label, reason in result.skipped.items()))
    show(say, result)


def show(say: Say, estimate: Estimate) -> None:
    """Print the seconds of each method, and of all together."""
    rows = [[line.label, str(line.jobs), f"{line.seconds:.1f}"] for line in estimate.lines]
    if estimate.ranking:
        rows.insert(0, ["choice of the source", "", f"{estimate.ranking:.1f}"])
    say.table(["method", "jobs ", "seconds "], rows)
    say.line(f"about {estimate.seconds:.0f} s and {estimate.mebibytes:.0f} MiB at the peak, loading not counted")
    if estimate.finished:
        say.line(f"{estimate.finished} jobs are finished already")
    say.data(
        {
            "lines": [{"method": line.label, "jobs": line.jobs, "seconds": line.seconds} for line in estimate.lines],
            "ranking": estimate.ranking,
            "seconds": estimate.seconds,
            "mebibytes": estimate.mebibytes,
            "finished": estimate.finished,
            "skipped": dict(estimate.skipped),
        }
    )
