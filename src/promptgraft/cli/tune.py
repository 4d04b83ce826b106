"""promptgraft tune"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptgraft.cli.options import (
    DataOptions,
    DeviceOption,
    KeepOption,
    ModelOption,
    NameOption,
    OutOption,
    RecipeOptions,
    ReplaceOption,
    Seeds,
    ShotsOption,
    TaskArgument,
    TuneMethod,
    ValidationFromOption,
    note_slow_arithmetic,
    run_folder,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.results import as_data, results
from promptgraft.cli.say import Say
from promptgraft.cli.verb import resuming_verb

if TYPE_CHECKING:
    from pathlib import Path

    from promptgraft.api import Outcome
    from promptgraft.task.task import Task


@resuming_verb
def tune(
    task: TaskArgument,
    model: ModelOption,
    say: Say,
    columns: DataOptions,
    seeds: Seeds,
    options: TuneMethod,
    recipe: RecipeOptions,
    shots: ShotsOption = None,
    validation_from: ValidationFromOption = "extra",
    device: DeviceOption = "auto",
    out: OutOption = None,
    bank: KeepOption = None,
    name: NameOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Tune a prompt from scratch and keep it.

    With several seeds the prompt with the best validation score is kept; test scores are only reported.

        promptgraft tune reviews.csv --model minilm --out runs/reviews --bank my-bank

        promptgraft tune reviews.csv --model minilm --method linear-probe --shots 8 --seeds 5
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given

    drawn = seeds.chosen()
    methods = [(str(options.method), options.given())]
    check_given(model, recipe=recipe.given(), methods=methods, name=name, seeds=drawn)
    with progress(say) as callback:
        target = columns.open(task)
        say.note(*target.notes)
        note_slow_arithmetic(say, recipe.arithmetic, device)
        folder = say.folder = run_folder(out, "tune", target)
        outcome = api.tune(
            target,
            model,
            method=options.method,
            options=options.given(),
            out=folder,
            bank=bank,
            name=name,
            replace=replace,
            shots=shots,
            validation_from=validation_from,
            seeds=drawn,
            progress=callback,
            device=device,
            **recipe.given(),
        )
    show_outcome(say, target, outcome, folder, bank)


def show_outcome(say: Say, task: Task, outcome: Outcome, folder: Path, bank: str | None) -> None:
    """Print the results of a run, and where the chosen model was saved."""
    from promptgraft.study.compare import judge

    say.note(*outcome.notes)
    rows, _ = judge([*outcome.finished, *outcome.baselines])
    best = outcome.best.result
    results(say, rows, best.label, best.metric)
    say.line(f"kept: {best.label}, seed {best.seed}, in {folder}")
    if bank is not None:
        say.line(f"and in the bank {bank} as {outcome.name}")
    say.data(
        {
            "task": task.name,
            "metric": best.metric,
            "rows": [as_data(row) for row in rows],
            "best": best.model_dump(mode="json"),
            "out": str(folder),
            "bank": bank,
            "notes": list(outcome.notes),
        }
    )
