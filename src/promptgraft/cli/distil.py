"""promptgraft distil"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.options import (
    DeviceOption,
    KeepOption,
    LabelColumnOption,
    ModelOption,
    NameOption,
    OutOption,
    PairColumnOption,
    RecipeOptions,
    ReplaceOption,
    ShotsOption,
    columns_given,
    run_folder,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.templates import TEMPLATE_HELP
from promptgraft.cli.verb import resuming_verb
from promptgraft.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from promptgraft.api import Distilled


@resuming_verb
def distil(
    long: Annotated[
        str, typer.Argument(metavar="TEMPLATE", help=f"{TEMPLATE_HELP} With an instruction, or {{demos:16}}.")
    ],
    model: ModelOption,
    say: Say,
    recipe: RecipeOptions,
    file: Annotated[
        str, typer.Option("--file", metavar="TEXTS|TASK", help="A file of texts without labels, or a task.")
    ],
    text_column: Annotated[str | None, typer.Option(help="Column of the text in the file.")] = None,
    pair_column: PairColumnOption = None,
    label_column: LabelColumnOption = None,
    to: Annotated[
        str, typer.Option(help="The short template (default: the line of TEMPLATE that contains the fields).")
    ] = "",
    shots: ShotsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for drawing rows and demonstrations.")] = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    bank: KeepOption = None,
    name: NameOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Replace a long instruction or demonstrations by a trained prompt, and report loss and cost.

    On texts without labels, a prompt is trained with which the model gives the same answers as in the long template.

        promptgraft distil "{demos:16}Review: {text} Mood: {mask}" --model smollm2-135m --file reviews.csv --length 16

        promptgraft distil title-descriptive-en --model smollm2-135m --file texts.csv --out runs/short
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given

    values = recipe.given()
    if "template" in values:
        raise UsageError("--template is the argument here", do="give the short one with --to")
    for template in filter(None, (long, to)):
        check_given(model, recipe={**values, "template": template}, name=name, seeds=(seed,))
    with progress(say) as callback:
        columns = columns_given(text_column, pair_column, label_column)
        task = api.texts_of(file, columns, values.get("verbalizer") or "")
        say.note(*task.notes)
        folder = say.folder = run_folder(out, "distil", task)
        distilled = api.distil(
            long, model, task, to=to, out=folder, bank=bank, name=name, replace=replace, shots=shots, seed=seed,
            device=device, progress=callback, **values,
        )  # fmt: skip
    show(say, distilled, folder, bank)


def show(say: Say, distilled: Distilled, folder: Path, bank: str | None) -> None:
    """Print what was lost, what a pass costs now, and where the prompt was saved."""
    outcome = distilled.outcome
    say.note(*outcome.notes)
    say.line(f"the short template: {distilled.short}")
    for line in distilled.lines:
        say.line(line)
    say.line(f"kept in {folder}")
    if bank is not None:
        say.line(f"and in the bank {bank} as {outcome.name}")
    say.data(
        {
            "long": distilled.long,
            "short": distilled.short,
            "rows": distilled.rows,
            "tokens": list(distilled.tokens),
            "plain": asdict(distilled.plain),
            "distilled": asdict(distilled.kept),
            "accuracy": distilled.accuracy,
            "best": outcome.best.result.model_dump(mode="json"),
            "out": str(folder),
            "bank": bank,
            "notes": list(outcome.notes),
        }
    )
