"""promptgraft rank"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.options import (
    BankOption,
    DataOptions,
    DeviceOption,
    ModelOption,
    RecipeOptions,
    ShotsOption,
    TaskArgument,
    note_slow_arithmetic,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.verb import verb

if TYPE_CHECKING:
    from promptgraft.engine.rank import Ranking
    from promptgraft.measure.measure import Score
    from promptgraft.task.task import Task

MEASURES = "probe"


@verb
def rank(
    task: TaskArgument,
    model: ModelOption,
    say: Say,
    columns: DataOptions,
    recipe: RecipeOptions,
    bank: BankOption = "starter",
    shots: ShotsOption = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed for drawing rows.")] = 0,
    measures: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Measures: probe, label-text, task-embedding or another package's; the first gives the order. "
            "Options: NAME:OPTION=VALUE, as in probe:repeats=10.",
        ),
    ] = MEASURES,
) -> None:
    """Order the prompts of a bank by how well they should suit a task.

    `probe` decides: how well a linear model predicts the labels of the training rows from the model's
    states under the prompt (cross-validated). With one row for each class, `label-text` takes its place:
    how near texts are to the descriptions of their labels. `task-embedding` is the cosine of the two tasks'
    embeddings under their own prompts (Zhong et al. 2024); it is computed only if asked for, since it
    trains a prompt on the task first, which takes much longer.

        promptgraft rank reviews.csv --model minilm --bank starter --shots 8

        promptgraft rank reviews.csv --model minilm --bank starter --shots 8 --measures probe,task-embedding
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given

    names = [name.strip() for name in measures.split(",") if name.strip()]
    check_given(model, recipe=recipe.given(), measures=names, bank=bank, seeds=(seed,))
    with progress(say) as callback:
        target = columns.open(task)
        say.note(*target.notes)
        note_slow_arithmetic(say, recipe.arithmetic, device)
        ranking = api.rank(
            target,
            model,
            bank,
            measures=names,
            shots=shots,
            seed=seed,
            device=device,
            progress=callback,
            **recipe.given(),
        )
    say.note(*(f"left out: {reason}" for reason in ranking.left_out))
    say.note(*ranking.instead, *ranking.notes)
    show(say, target, ranking)
    say.data(as_data(target, ranking))


def show(say: Say, task: Task, ranking: Ranking) -> None:
    """Print the order of the prompts, what it cost, and how far it can be trusted."""
    columns = ["rank ", "source"]
    for name in ranking.measures:
        columns += [f"{name} ", "error "]
    rows = [
        [str(place), row.source.name, *(cell for name in ranking.measures for cell in cells(row.scores[name]))]
        for place, row in enumerate(ranking.rows, start=1)
    ]
    say.table(columns, rows, title=f"prompts for {task.name}, best first by {ranking.measures[0]}", best=0)
    for name in ranking.measures:
        say.line(f"{name}: {ranking.passes[name]:,} passes through the model, {ranking.seconds[name]:.1f} s")
    say.line(f"{ranking.best.source.name} is first: {ranking.verdict}")
    if ranking.graft:
        say.line(f"transfer would make a {ranking.graft}")


def cells(score: Score) -> tuple[str, str]:
    """The cells of a score and of its standard error."""
    return f"{score.value:.3f}", "" if score.error is None else f"{score.error:.3f}"


def as_data(task: Task, ranking: Ranking) -> dict[str, object]:
    """The ranking as data for programs."""
    return {
        "task": task.name,
        "rows": [
            {
                "source": row.source.name,
                "scores": {
                    name: {"value": score.value, "error": score.error, "passes": score.passes}
                    for name, score in row.scores.items()
                },
            }
            for row in ranking.rows
        ],
        "measures": list(ranking.measures),
        "graft": ranking.graft,
        "passes": dict(ranking.passes),
        "seconds": dict(ranking.seconds),
        "verdict": ranking.verdict,
        "left_out": list(ranking.left_out),
        "skipped": dict(ranking.skipped),
        "notes": list(ranking.notes),
    }
