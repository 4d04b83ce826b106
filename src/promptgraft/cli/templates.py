"""promptgraft templates list | show | try"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.options import DataOptions, TaskArgument, columns_given
from promptgraft.cli.say import Say
from promptgraft.cli.usage import VerbGroup
from promptgraft.cli.verb import verb
from promptgraft.errors import TaskError, UsageError, quoted

if TYPE_CHECKING:
    from promptgraft.api.trying import TriedRow
    from promptgraft.task.task import Task
    from promptgraft.template.known import KnownTemplate

templates = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="Text templates: list the library, show one, or try one on your rows.",
)

TEMPLATE_HELP = (
    'A name of `promptgraft templates list`, a text such as "{text} It was {mask}.", or the folder of a search.'
)
TOKENS_SHOWN = 60
"""Tokens of a row that are shown from either end; its middle is the row's own text."""


@templates.command("list")
@verb
def show_all(
    say: Say,
    language: Annotated[str | None, typer.Option(help="Only this language: en, zh.")] = None,
    style: Annotated[str | None, typer.Option(help="Only this style: cloze, question or descriptive.")] = None,
    family: Annotated[str | None, typer.Option(help="Only this family of tasks, such as sentiment.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind of task, such as pair.")] = None,
) -> None:
    """List the templates of the library.

    promptgraft templates list --language zh --family sentiment
    """
    from promptgraft.template.known import templates as known_templates

    chosen = known_templates(language=language, style=style, family=family, kind=kind)
    say.table(
        ("name", "language", "style", "kinds", "template"),
        [(known.name, known.language, known.style, ", ".join(known.kinds), known.text) for known in chosen],
    )
    say.data([_data(known) for known in chosen])


@templates.command("show")
@verb
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `promptgraft templates list`.")], say: Say
) -> None:
    """Show a template of the library, and its words for common labels.

    promptgraft templates show sentiment-cloze-en
    """
    from promptgraft.template.known import find_template

    known = find_template(name)
    say.line(known.text)
    say.line(f"language {known.language}, style {known.style}, family {known.family}, kinds {', '.join(known.kinds)}")
    if not known.left_to_right:
        say.line("for masked models: a field stands behind the place of the answer")
    say.table(("label", "words"), [(label, ", ".join(words)) for label, words in known.words.items()])
    say.data(_data(known))


@templates.command("try")
@verb
def try_on(
    task: TaskArgument,
    say: Say,
    columns: DataOptions,
    template: Annotated[str, typer.Option("--template", "-t", help=TEMPLATE_HELP, show_default=False)],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Show the tokens that this model reads.", show_default=False)
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Number of rows to show.")] = 3,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of tokens of a row (default: the model's, at most 512).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for drawing the demonstrations of {demos:4}.")] = 0,
) -> None:
    """Fill a template with rows of a task; with a model, show its tokens, what is cut, and where the answer is.

    promptgraft templates try reviews.csv --template sentiment-cloze-en --model minilm

    promptgraft templates try reviews.csv --template "Review: {text} Sentiment: {mask}"

    promptgraft templates try texts.txt --template title-cloze-en
    """
    from promptgraft.api.checking import check_given
    from promptgraft.api.trying import try_template
    from promptgraft.template.known import index

    if "{" in task or (task in index() and not Path(task).exists()):
        do = "give these first: promptgraft templates try FILE --template ..."
        raise UsageError(f"{quoted(task)} is a template and no rows", do=do)
    check_given(model, recipe={"template": template}, seeds=(seed,))
    target = rows_for(columns, task)
    say.note(*target.notes)
    tried = try_template(target, template, model, rows=rows, max_length=max_length, seed=seed)
    say.note(*tried.notes)
    for number, row in enumerate(tried.rows, 1):
        _show_row(say, number, row, is_read=model is not None)
    say.data(
        {
            "template": tried.template,
            "words": {label: list(words) for label, words in tried.words.words.items()},
            "rows": [asdict(row) for row in tried.rows],
        }
    )


def rows_for(columns: DataOptions, task: str) -> Task:
    """The task; of a file that is none without labels its texts alone, unless something is said of its labels."""
    from promptgraft.api.opening import texts_alone

    try:
        return columns.open(task)
    except TaskError as problem:
        if columns.kind or columns.metric or columns.label or columns.label_column:
            raise
        return texts_alone(task, columns_given(columns.text_column, columns.pair_column, None), problem)


def _show_row(say: Say, number: int, row: TriedRow, *, is_read: bool) -> None:
    """Print a filled template, its answer, and what a model reads."""
    say.line(f"row {number}" + ("" if row.answer is None else f", the answer: {row.answer}"))
    say.line("\n".join(f"  {line}" for line in row.text.splitlines()))
    if row.lost:
        say.line(f"  {row.lost:,} characters of its texts are {'cut off' if is_read else 'not shown'}")
    if row.tokens is not None:
        place = "" if row.mark is None else f", read at token {row.mark + 1}: {row.tokens[row.mark].strip()}"
        say.line(f"  {len(row.tokens)} tokens{place}")
        say.line(f"  {' | '.join(_ends(row.tokens))}")


def _ends(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens, without the middle of many."""
    if len(tokens) <= 2 * TOKENS_SHOWN:
        return tokens
    return (*tokens[:TOKENS_SHOWN], f"... {len(tokens) - 2 * TOKENS_SHOWN} more ...", *tokens[-TOKENS_SHOWN:])


def _data(known: KnownTemplate) -> dict[str, object]:
    """A template for programs."""
    fields = ("name", "language", "style", "family", "kinds", "text", "words", "left_to_right")
    return {field: getattr(known, field) for field in fields}
