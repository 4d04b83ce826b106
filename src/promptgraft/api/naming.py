"""The names that a verb is given are looked up here, before any data or model is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from promptgraft.api.finding import found_words, is_search, opened_template
from promptgraft.bank.bank import open_bank
from promptgraft.engine.worded import AUTO, words_given
from promptgraft.errors import UsageError, unknown
from promptgraft.measure.all import make
from promptgraft.method.all import find as find_method
from promptgraft.method.options import hyphened
from promptgraft.model.catalog import resolve
from promptgraft.prompt.reparam import PARAMETERISATIONS
from promptgraft.searches.all import find as find_algorithm
from promptgraft.train.recipe import Recipe

ARGUMENTS = (
    "bank", "baselines", "device", "keep_in", "memory", "method", "options", "out", "rows", "seeds", "shots", "source",
    "validation_from",
)  # fmt: skip
"""What verbs take beside the recipe, for the error of a name that is neither."""
Methods = Iterable[tuple[str, Mapping[str, object]]]


def check_names(
    *models: object,
    recipe: Mapping[str, object] | None = None,
    methods: Methods = (),
    measures: Iterable[str] = (),
    algorithms: Iterable[str] = (),
    bank: object = None,
) -> None:
    """Check that everything exists that is named.

    Args:
        models: names or folders; what is no text is a model already, or None.
        recipe: values of `Recipe`, a template and the words of labels among them.
        methods: names with their options.
        measures: each `NAME` or `NAME:OPTION=VALUE:...`.
        bank: its folder or name; `auto` and what is no text are not looked up.
    Raises:
        UsageError, ModelError, BankError: the first name that does not exist, and the nearest that does.
    """
    methods = list(methods)
    for name in algorithms:
        find_algorithm(name)
    for name, options in methods:
        find_method(name).options.read(name, options)
    for measure in measures:
        make(measure)
    _check_recipe(recipe or {})
    others = (value for _, options in methods for name, value in options.items() if hyphened(name) == "words-model")
    for model in filter(None, (*models, *others)):
        if isinstance(model, str | Path):
            resolve(model)
    if isinstance(bank, str | Path) and bank != "auto":
        open_bank(bank)


def _check_recipe(given: Mapping[str, object]) -> None:
    """Check the names in a recipe: of its values, of a template, of labels' words, of a parameterisation."""
    values = {name: value for name, value in given.items() if name not in ("arithmetic", "memory")}
    recipe = changed_recipe(Recipe(), values)
    if recipe.parameterisation not in PARAMETERISATIONS:
        raise unknown("parameterisation", recipe.parameterisation, PARAMETERISATIONS)
    if recipe.template:
        opened_template(recipe.template)
    if is_search(recipe.init_text):
        found_words(Path(recipe.init_text))
    if recipe.verbalizer != AUTO:
        words_given(recipe.verbalizer)


def changed_recipe(recipe: Recipe, given: Mapping[str, object]) -> Recipe:
    """Change the given values of a recipe.

    Raises:
        UsageError: a name or a value that a recipe does not have.
    """
    for name in given:
        if name not in Recipe.model_fields:
            raise unknown("argument", name, [*Recipe.model_fields, *ARGUMENTS])
    try:
        return recipe.changed(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{first['loc'][0]} {first['input']}: {first['msg']}", do="see promptgraft tune --help"
        ) from None
