"""Help answers at once, is enough without the documentation, and the documentation says the same."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from command import Command

HEAVY = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "pyarrow", "pydantic", "numpy")
VERBS = ("tune", "rank", "transfer", "compare", "estimate", "predict", "doctor", "models", "bank", "cache")


OURS = "from promptgraft.cli.main import app"
SMALLEST = """
import typer
app = typer.Typer()
app.command("one")(lambda: None)
app.command("two")(lambda: None)
"""


def helped(app: str) -> tuple[float, str]:
    """Seconds of the processor that an application's help takes, and what it loads that is heavy."""
    code = (
        f"import sys, time; began = time.process_time()\n{app}\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(time.process_time() - began, file=sys.stderr)\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stderr.splitlines()
    return float(seconds), heavy


def test_help_answers_nearly_as_fast_as_typers_smallest_and_loads_nothing_heavy() -> None:
    """The least of three, so that a busy machine does not fail it."""
    assert helped(OURS)[1] == ""
    assert min(helped(OURS)[0] for _ in range(3)) < 3 * min(helped(SMALLEST)[0] for _ in range(3))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_help(verb: str, pg: Command) -> None:
    said = pg(verb, "--help")
    assert said.status == 0
    assert f"promptgraft {verb}" in said.out


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("doctor", "bank", "models", "cache")])
def test_every_verb_that_works_on_a_task_shows_an_example(verb: str, pg: Command) -> None:
    example = re.findall(rf"^ *promptgraft {verb} [^\[]", pg(verb, "--help").out, re.MULTILINE)
    assert example


def test_no_arguments_is_a_question() -> None:
    done = subprocess.run([sys.executable, "-m", "promptgraft.cli.main"], capture_output=True, text=True, check=False)
    assert "Commands" in done.stdout + done.stderr


def test_every_number_of_the_recipe_can_be_given() -> None:
    from promptgraft.cli.options import RecipeOptions
    from promptgraft.train.recipe import Recipe

    assert {field.name for field in dataclasses.fields(RecipeOptions.group())} == {*Recipe.model_fields, "memory"}


def test_every_option_of_every_method_can_be_given() -> None:
    from promptgraft.cli.options import AnyMethod, TransferMethod, TuneMethod
    from promptgraft.method.all import methods

    for group in (AnyMethod, TransferMethod, TuneMethod):
        given = {field.name for field in dataclasses.fields(group.group())} - {"method"}
        assert given == {
            name for method in methods().values() if group.takes(method) for name in method.options.model_fields
        }
    assert all(TuneMethod.takes(method) or TransferMethod.takes(method) for method in methods().values())


def test_the_page_is_true(root: Path) -> None:
    kept = (root / "docs" / "cli.md").read_text(encoding="utf-8")
    made_with = f"typer {version('typer')} and rich {version('rich')}"
    if made_with not in kept:
        pytest.skip(f"docs/cli.md was not made with {made_with}, which decide the layout")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run(
        [sys.executable, root / "docs" / "cli.py"], capture_output=True, text=True, check=True, env=environment
    )
    assert made.stdout == kept, "python docs/cli.py > docs/cli.md"
