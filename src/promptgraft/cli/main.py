"""promptgraft VERB [TASK] ..."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

import promptgraft
from promptgraft.cli.bank import bank
from promptgraft.cli.cache import cache
from promptgraft.cli.compare import compare
from promptgraft.cli.distil import distil
from promptgraft.cli.doctor import doctor
from promptgraft.cli.estimate import estimate
from promptgraft.cli.explain import explain
from promptgraft.cli.extend import extend
from promptgraft.cli.generate import generate
from promptgraft.cli.models import models
from promptgraft.cli.predict import predict
from promptgraft.cli.rank import rank
from promptgraft.cli.search import search
from promptgraft.cli.suggest import suggest
from promptgraft.cli.templates import templates
from promptgraft.cli.transfer import transfer
from promptgraft.cli.tune import tune
from promptgraft.cli.usage import VerbGroup
from promptgraft.cli.verb import COULD_NOT, HELP_OPTIONS, add, line_of, silence

ABOUT = """Tune prompts for frozen language models, keep them in a bank, graft them onto new tasks, and compare methods.

Results go to standard output, notes and progress to standard error. Exit status: 0 success, 1 failure, 2 wrong usage.

    promptgraft models pull minilm

    promptgraft tune reviews.csv --model minilm --out runs/reviews --bank my-bank

    promptgraft transfer other.csv --model minilm --bank my-bank --shots 8

    promptgraft predict runs/transfer-other --text "The blade broke on day two."
"""


class Program(typer.Typer):
    """The application of all verbs; an error before a verb begins, as in printing help, is one line too."""

    def __call__(self, *words: Any, **settings: Any) -> Any:
        try:
            return super().__call__(*words, **settings)
        except OSError as error:
            print(f"promptgraft: {line_of(error)}", file=sys.stderr)
            silence()
            sys.exit(COULD_NOT)


app = Program(
    cls=VerbGroup,
    help=ABOUT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
)


def show_version(value: bool) -> None:
    """Print the version and end."""
    if value:
        typer.echo(f"promptgraft {promptgraft.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.add_typer(models, name="models")
for name, function in {
    "tune": tune, "rank": rank, "transfer": transfer, "compare": compare, "estimate": estimate, "predict": predict,
    "generate": generate, "distil": distil, "extend": extend, "suggest": suggest, "search": search, "explain": explain,
}.items():  # fmt: skip
    add(app, name, function)
app.add_typer(templates, name="templates")
app.add_typer(bank, name="bank")
app.add_typer(cache, name="cache")
app.command("doctor")(doctor)

if __name__ == "__main__":
    app()
