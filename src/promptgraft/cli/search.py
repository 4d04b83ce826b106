"""promptgraft search"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptgraft.cli.options import (
    DataOptions,
    DeviceOption,
    ModelOption,
    OutOption,
    ReplaceOption,
    TaskArgument,
    run_folder,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say, typed_command
from promptgraft.cli.templates import TEMPLATE_HELP
from promptgraft.cli.verb import resuming_verb
from promptgraft.errors import UsageError, listed

if TYPE_CHECKING:
    from pathlib import Path

    from promptgraft.api import SearchCost
    from promptgraft.searches.outcome import SearchOutcome

ALGORITHMS_HELP = "How it is searched; beside them run none, library and random. `all` for all of them."


@resuming_verb
def search(
    task: TaskArgument,
    model: ModelOption,
    say: Say,
    columns: DataOptions,
    algorithms: Annotated[str, typer.Option("--algorithms", "-a", metavar="A,B,...", help=ALGORITHMS_HELP)] = "all",
    passes: Annotated[
        int, typer.Option(min=1, help="Budget of each algorithm, in rows through a model and tokens that it writes.")
    ] = 2000,
    shots: Annotated[
        int | None, typer.Option(min=1, help="Labelled rows for each class to search on, and as many to choose on.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed for drawing rows, and for the algorithms.")] = 0,
    template: Annotated[
        str, typer.Option("--template", "-t", help=f"{TEMPLATE_HELP} Edits begin with it (default: the library's).")
    ] = "",
    verbalizer: Annotated[
        str, typer.Option(help="The labels' words, as good=great|fine,bad=terrible; they are then not changed.")
    ] = "",
    proposer: Annotated[
        str | None, typer.Option(help="The model that is asked for words and texts (default: the model itself).")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(min=8, help="Maximum number of tokens of a row (default: 128; 384 for texts to be written)."),
    ] = None,
    bank: Annotated[
        str | None,
        typer.Option("--bank", "-b", help="A bank (folder) whose prompts span the space that cma-es searches."),
    ] = None,
    start: Annotated[str, typer.Option(help="The prompt of the bank from which a search for vectors starts.")] = "",
    estimate: Annotated[bool, typer.Option("--estimate", help="Only say what the search will cost.")] = False,
    device: DeviceOption = "auto",
    out: OutOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Search for a text prompt by algorithm, within a counted budget, and report what it is worth.

    The rows to search on, to choose on and to report on are drawn before anything else; algorithms see
    only the first. The folder has the results at any time, including the best prompt so far.

        promptgraft search reviews.csv --model splade-tiny --algorithms grips --passes 2000

        promptgraft search questions.csv --model albert-tiny-zh --passes 5000 --out runs/words

        promptgraft search reviews.csv --model splade-tiny -a cma-es --bank prompts --start films
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given
    from promptgraft.searches.all import algorithms as known

    names = tuple(known()) if algorithms == "all" else tuple(filter(None, map(str.strip, algorithms.split(","))))
    if not names:
        raise UsageError("--algorithms names none", do=f"give one or more of {listed(list(known()))}, or all")
    given: dict[str, Any] = {
        "passes": passes,
        "shots": shots,
        "seed": seed,
        "template": template,
        "verbalizer": verbalizer,
        "proposer": proposer,
        "max_length": max_length,
        "bank": bank,
        "start": start,
        "device": device,
    }
    recipe = {"template": template, "verbalizer": verbalizer}
    check_given(model, proposer, recipe=recipe, algorithms=names, bank=bank, seeds=(seed,))
    with progress(say) as callback:
        target = columns.open(task)
        say.note(*target.notes)
        cost = api.estimate_search(target, model, names, **given) if estimate else None
        folder = say.folder = run_folder(out, "search", target)
        if cost is None:
            outcome = api.search(target, model, names, out=folder, replace=replace, progress=callback, **given)
            show(say, outcome, folder)
    if cost is not None:
        show_cost(say, cost)


def show_cost(say: Say, cost: SearchCost) -> None:
    """Print what a search will cost."""
    say.line(f"at most {cost.passes:,} passes, about {cost.seconds:.0f} s")
    say.data({"passes": cost.passes, "seconds": cost.seconds})


def show(say: Say, outcome: SearchOutcome, folder: Path) -> None:
    """Print what each algorithm found, and what it is worth."""
    from promptgraft.report.search import write
    from promptgraft.searches.outcome import table
    from promptgraft.searches.run import plain

    path = write(outcome, folder, typed_command())
    best = outcome.best
    say.note(*outcome.notes)
    columns, rows = table(outcome)
    say.table(columns, rows, best=outcome.found.index(best))
    say.line(outcome.verdict)
    if best.candidate.words:
        say.line(f"the words of its labels: {best.candidate.verbalizer}")
    say.line(f"kept in {folder}, ready for predict; the page: {path}")
    say.data(
        {
            "task": outcome.task.name,
            "metric": outcome.task.metric,
            "best": best.algorithm,
            "verdict": outcome.verdict,
            "found": [plain(entry) for entry in outcome.found],
            "problems": outcome.problems,
            "out": str(folder),
            "page": str(path),
            "notes": list(outcome.notes),
        }
    )
