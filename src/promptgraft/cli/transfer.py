"""promptgraft transfer"""

from __future__ import annotations

from typing import Annotated

import typer

from promptgraft.cli.options import (
    BankOption,
    DataOptions,
    DeviceOption,
    ModelOption,
    NameOption,
    OutOption,
    RecipeOptions,
    ReplaceOption,
    Seeds,
    ShotsOption,
    SourceOption,
    TaskArgument,
    TransferMethod,
    UnlabelledOption,
    ValidationFromOption,
    note_slow_arithmetic,
    run_folder,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.tune import show_outcome
from promptgraft.cli.verb import resuming_verb


@resuming_verb
def transfer(
    task: TaskArgument,
    model: ModelOption,
    say: Say,
    columns: DataOptions,
    seeds: Seeds,
    options: TransferMethod,
    recipe: RecipeOptions,
    bank: BankOption = "starter",
    source: SourceOption = "auto",
    shots: ShotsOption = None,
    validation_from: ValidationFromOption = "within",
    device: DeviceOption = "auto",
    unlabelled: UnlabelledOption = None,
    baselines: Annotated[
        bool, typer.Option(help="Also run the linear probe and prompt tuning from scratch on the same rows.")
    ] = True,
    out: OutOption = None,
    keep_in: Annotated[str | None, typer.Option("--keep-in", help="A bank to also save the result in.")] = None,
    name: NameOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Graft the prompts of a bank onto a task, or transfer one of them, and keep the result.

    `--shots 0` uses descriptions of the labels, under the prompts that helped other tasks most
    (`promptgraft bank record`); with `--source NAME` it reuses that prompt and its readout unchanged. With
    several seeds the model with the best validation score is kept, or the first if there are no validation
    rows (the default of graft); test scores are only reported.

        promptgraft transfer reviews.csv --model minilm --bank starter --method pot --shots 8 --seeds 5

        promptgraft transfer reviews.csv --model minilm --method panda --mode gated --unlabelled more.txt

        promptgraft transfer x.csv -m minilm --source goemotions_valence --shots 0 --label-map good=positive
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given
    from promptgraft.api.jobs import usual_method

    drawn, method = seeds.chosen(), options.method or usual_method(source, options.given())
    methods = [(method, options.given())]
    check_given(model, recipe=recipe.given(), methods=methods, bank=bank, name=name, seeds=drawn)
    with progress(say) as callback:
        target = columns.open(task)
        say.note(*target.notes)
        note_slow_arithmetic(say, recipe.arithmetic, device)
        folder = say.folder = run_folder(out, "transfer", target)
        outcome = api.transfer(
            target,
            model,
            bank,
            source=source,
            method=options.method,
            options=options.given(),
            shots=shots,
            validation_from=validation_from,
            seeds=drawn,
            unlabelled=unlabelled,
            baselines=baselines,
            out=folder,
            name=name,
            replace=replace,
            keep_in=keep_in,
            progress=callback,
            device=device,
            **recipe.given(),
        )
    show_outcome(say, target, outcome, folder, keep_in)
