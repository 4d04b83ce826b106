"""promptgraft bank list | show | add | remove | verify | record | export | import"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.options import ColumnOptions, DeviceOption, ModelOption
from promptgraft.cli.say import Say
from promptgraft.cli.usage import VerbGroup
from promptgraft.cli.verb import COULD_NOT, verb
from promptgraft.errors import UsageError

if TYPE_CHECKING:
    from promptgraft.prompt.card import Card

BankArgument = Annotated[
    str, typer.Argument(metavar="BANK", help="A folder, or `starter`, the bank that ships with promptgraft.")
]
EntryArgument = Annotated[str, typer.Argument(metavar="NAME", help="A prompt's name in the bank.", show_default=False)]
NewNameOption = Annotated[
    str | None, typer.Option("--name", help="The prompt's name in the bank (default: the folder's name).")
]
ReplaceEntryOption = Annotated[bool, typer.Option("--replace", help="Replace a prompt of the same name.")]

bank = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="Banks of tuned prompts: show, add, remove, verify, export and import prompts.",
)


@bank.command("list")
@verb
def show_all(say: Say, bank: BankArgument = "starter") -> None:
    """List the prompts of a bank."""
    from promptgraft.bank.bank import open_bank

    prompt_bank = open_bank(bank)
    summaries = prompt_bank.list()
    damaged = sorted({*prompt_bank.names()} - {entry.name for entry in summaries})
    say.note(*(f"{name} cannot be read; promptgraft bank verify {bank} says why" for name in damaged))
    say.table(
        ("name", "backbone", "kind", "labels ", "language", "method", "metric", "test ", "licence of the data"),
        [(entry.name, *cells(entry.card)) for entry in summaries],
        title=f"{len(summaries)} prompts in {bank}",
    )
    say.data([{"name": entry.name, "hash": entry.hash} | entry.card.model_dump(mode="json") for entry in summaries])


def cells(card: Card) -> tuple[str, ...]:
    """The cells of a card's row in the list."""
    test = card.scores.get("test")
    return (
        card.backbone.name,
        card.task.kind,
        str(len(card.task.labels)) if card.task.labels else "",
        card.task.language or "",
        card.method,
        card.task.metric,
        f"{test.value:.1f}" if test else "",
        card.task.licence or "",
    )


@bank.command("show")
@verb
def show(bank: BankArgument, name: EntryArgument, say: Say) -> None:
    """Show the card of a prompt: data, backbone, recipe, scores, lineage."""
    from promptgraft.api.opening import as_bank
    from promptgraft.prompt.readme import readme

    card = as_bank(bank).load(name).card
    _, _, page = readme(card).partition("\n---\n\n")  # what stands before is for hubs
    say.line(page)
    say.data(card.model_dump(mode="json"))


@bank.command("add")
@verb
def add(
    bank: BankArgument,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or an artefact.", show_default=False)],
    say: Say,
    name: NewNameOption = None,
    replace: ReplaceEntryOption = False,
) -> None:
    """Add the prompt of a run to a bank; the bank is created if it does not exist.

    promptgraft bank add my-bank runs/reviews --name reviews
    """
    from promptgraft.api import artefact_folder
    from promptgraft.api.opening import as_bank
    from promptgraft.prompt.artefact import load

    entry = as_bank(bank, create=True).add(load(artefact_folder(run)), name, replace=replace)
    say.line(f"{entry} is in {bank}")
    say.data({"bank": bank, "name": entry})


@bank.command("remove")
@verb
def remove(bank: BankArgument, name: EntryArgument, say: Say) -> None:
    """Delete a prompt from a bank."""
    from promptgraft.api.opening import as_bank

    as_bank(bank).remove(name)
    say.line(f"{name} is no longer in {bank}")
    say.data({"bank": bank, "removed": name})


@bank.command("verify")
@verb
def verify(say: Say, bank: BankArgument = "starter") -> None:
    """Read and check every prompt of a bank; exit status 1 if one is damaged."""
    from promptgraft.api.opening import as_bank

    prompt_bank = as_bank(bank)
    problems = prompt_bank.verify()
    for problem in problems:
        say.line(f"{problem.name}: {problem.what}")
    if not problems:
        say.line(f"{len(prompt_bank.names())} prompts in {bank}, all whole")
    say.data([{"name": problem.name, "what": problem.what} for problem in problems])
    if problems:
        raise typer.Exit(COULD_NOT)


@bank.command("record")
@verb
def record(
    bank: BankArgument,
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Labelled tasks: files or folders.")],
    model: ModelOption,
    say: Say,
    columns: ColumnOptions,
    device: DeviceOption = "auto",
) -> None:
    """Measure how much the prompts help other tasks without labels, and record it for `transfer`.

    Column options are for every task; tasks with other columns need a call each.

    promptgraft bank record my-bank reviews.csv questions.csv --model minilm
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given

    check_given(model, bank=bank)
    opened = [columns.open(task) for task in tasks]
    say.note(*(note for task in opened for note in task.notes))
    found = api.record(bank, model, opened, device=device)
    names = {entry.hash: entry.name for entry in api.as_bank(bank).list()}
    known = sorted(
        ((names[key], service) for key, service in found.prompts.items() if key in names),
        key=lambda named: -(named[1].gain() or 0.0),
    )
    say.table(
        ("prompt", "tasks", "points gained "),
        [(name, str(len(service.tasks)), f"{service.gain() or 0.0:+.1f}") for name, service in known],
        title=f"What reading under the prompts of {bank} gains where no label is known",
    )
    say.data([{"name": name, "gains": service.gains} for name, service in known])


@bank.command("export")
@verb
def export(
    bank: BankArgument,
    name: EntryArgument,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A new folder, or a new .zip.", show_default=False)],
    say: Say,
    peft: Annotated[
        bool, typer.Option("--peft", help="As a PEFT adapter; refused if PEFT would predict otherwise.")
    ] = False,
    differing: Annotated[
        bool, typer.Option("--differing", help="With --peft: export even if PEFT would predict otherwise.")
    ] = False,
) -> None:
    """Copy a prompt out of a bank.

    promptgraft bank export my-bank reviews reviews.zip

    promptgraft bank export my-bank reviews reviews-peft --peft
    """
    from promptgraft.api import export_to_peft
    from promptgraft.api.opening import as_bank

    if differing and not peft:
        raise UsageError("--differing is for PEFT adapters", do="add --peft, or leave it out")
    if peft:
        reasons = export_to_peft(bank, name, path, exact=not differing)
        say.note(*(f"PEFT will predict differently: {reason}" for reason in reasons))
        copy = path
    else:
        copy = as_bank(bank).export(name, path)
    say.line(f"{name} is copied to {copy}")
    say.data({"name": name, "path": str(copy)})


@bank.command("import")
@verb
def import_(
    bank: BankArgument,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An artefact's folder or .zip.", show_default=False)],
    say: Say,
    columns: ColumnOptions,
    name: NewNameOption = None,
    replace: ReplaceEntryOption = False,
    model: Annotated[
        str | None, typer.Option(help="PATH is a PEFT adapter of this backbone.", show_default=False)
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="With --model: what the adapter was tuned for.", show_default=False)
    ] = None,
) -> None:
    """Add an exported prompt, or a PEFT adapter, to a bank; the bank is created if it does not exist.

    promptgraft bank import my-bank reviews.zip

    promptgraft bank import my-bank adapter-folder --model minilm --task reviews/
    """
    from promptgraft.api import import_from_peft
    from promptgraft.api.checking import check_given
    from promptgraft.api.opening import as_bank

    if task is not None and model is None:
        raise UsageError("--task is for PEFT adapters", do="add --model, or leave it out")
    if task is None and (given := columns.typed()):
        raise UsageError(f"{given[0]} is for reading a task", do="add --task, or leave it out")
    if model is not None:
        check_given(model)
        tuned_for = None if task is None else columns.open(task)
        say.note(*(() if tuned_for is None else tuned_for.notes))
        entry = import_from_peft(bank, path, model, task=tuned_for, name=name, replace=replace)
    else:
        entry = as_bank(bank, create=True).import_(path, name, replace=replace)
    say.line(f"{entry} is in {bank}")
    say.data({"bank": bank, "name": entry})
