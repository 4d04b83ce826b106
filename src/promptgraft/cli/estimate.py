"""promptgraft estimate"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promptgraft.cli.compare import SEEDS, chosen_rows
from promptgraft.cli.options import (
    TASK_HELP,
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
    UnlabelledOption,
    note_slow_arithmetic,
    run_folder,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.verb import verb
from promptgraft.errors import UsageError

if TYPE_CHECKING:
    from promptgraft.engine.estimate import Estimate
    from promptgraft.engine.fits import ModelFit
    from promptgraft.model.device import DeviceName

VerbArgument = Annotated[
    str, typer.Argument(metavar="VERB", help="tune, transfer or compare; or memory.", show_default=False)
]
OptionalTask = Annotated[
    str | None, typer.Argument(metavar="TASK", help=f"{TASK_HELP} Not for memory.", show_default=False)
]


@verb
def estimate(
    verb: VerbArgument,
    model: ModelOption,
    say: Say,
    columns: DataOptions,
    seeds: Seeds,
    options: AnyMethod,
    recipe: RecipeOptions,
    task: OptionalTask = None,
    bank: BankOption = "starter",
    source: SourceOption = "auto",
    methods: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="The methods of compare (default: all).")
    ] = None,
    shots: ShotsOption = None,
    validation_from: Annotated[
        Literal["extra", "within"] | None,
        typer.Option(help="Where validation rows come from (default: as the command)."),
    ] = None,
    device: DeviceOption = "auto",
    unlabelled: UnlabelledOption = None,
    baselines: Annotated[bool, typer.Option(help="For transfer: include its baselines.")] = True,
    out: OutOption = None,
) -> None:
    """Predict the time and memory of a tune, transfer or compare before it runs.

    Takes the options of that command. The first time with a model it measures this machine for some
    seconds. Jobs that are finished in the run folder cost nothing.

        promptgraft estimate compare reviews.csv --model minilm --bank starter --shots 8 --seeds 5

        promptgraft estimate tune reviews.csv --model minilm --method model-tuning

    `estimate memory` predicts what a model would take before it is loaded, in every arithmetic: its
    weights, a training step of one run or of --seeds runs together, and writing.

        promptgraft estimate memory --model smollm2-135m --batch 16 --max-length 128 --seeds 4
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given
    from promptgraft.api.estimating import check_estimated

    if verb == "memory":
        show_fits(say, fit_of(model, task, seeds, recipe, device))
        return
    if task is None:
        raise UsageError(f"estimate {verb} needs a task", do="give a file, a folder with task.toml, or hub:DATASET")
    drawn, rows = seeds.chosen(SEEDS if verb == "compare" else 1), chosen_rows(methods)
    given = options.given()
    check_estimated(verb, model, bank, source, options.method, given, rows, recipe.given())
    check_given(seeds=drawn)
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
            options=given,
            shots=shots,
            validation_from=validation_from,
            seeds=drawn,
            rows=rows,
            unlabelled=unlabelled,
            baselines=baselines,
            out=run_folder(out, verb, target),
            device=device,
            **recipe.given(),
        )
    show(say, result)


def fit_of(model: str, task: str | None, seeds: Seeds, recipe: RecipeOptions, device: DeviceName) -> ModelFit:
    """What a model would take, in every arithmetic and with any memory."""
    from promptgraft.api import estimate_memory

    if task is not None:
        raise UsageError("what a model takes depends on no task", do=f"leave {task} out")
    given = {name: value for name, value in recipe.given().items() if name not in ("arithmetic", "memory")}
    return estimate_memory(model, runs=len(seeds.chosen()), device=device, **given)


def show_fits(say: Say, found: ModelFit) -> None:
    """Print what a model would take in each arithmetic, and whether a step fits."""
    from promptgraft.engine.fits import fitting

    answers = fitting(found.lines, found.room)
    columns = ("weights", "loading", "step", "again", "writing")
    rows = [
        [
            line.arithmetic,
            *("" if (size := getattr(line, name)) is None else f"{size / 2**20:.0f}" for name in columns),
            answers[line.arithmetic],
        ]
        for line in found.lines
    ]
    say.table(["arithmetic", "weights ", "loading ", "a step ", "layers again ", "writing ", "fits"], rows)
    room = "any amount" if found.room == float("inf") else f"{found.room / 2**20:.0f} MiB"
    say.line(f"MiB at the peak of a process; {room} may be taken here ({found.device})")
    say.data(
        {
            "model": found.model,
            "device": found.device,
            "room": None if found.room == float("inf") else found.room,
            "lines": [dataclasses.asdict(line) | {"fits": answers[line.arithmetic]} for line in found.lines],
        }
    )


def show(say: Say, estimate: Estimate) -> None:
    """Print the seconds of each method, and of all together."""
    say.note(*(f"{label} would be skipped: {reason}" for label, reason in estimate.skipped.items()))
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
