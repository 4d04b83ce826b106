"""What a verb is given is checked here as far as it can be before any data or model is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from promptgraft.api.finding import found_words, is_search, opened_template
from promptgraft.bank.bank import open_bank
from promptgraft.bank.names import check_name
from promptgraft.engine.worded import AUTO, words_given
from promptgraft.errors import UsageError, listed, unknown
from promptgraft.measure.all import make
from promptgraft.method.all import find as find_method
from promptgraft.method.all import methods as all_methods
from promptgraft.method.job import ValidationFrom
from promptgraft.method.method import Method
from promptgraft.method.options import hyphened
from promptgraft.model.catalog import resolve
from promptgraft.model.device import DeviceName
from promptgraft.model.load import DType
from promptgraft.model.memory import MemoryLimit
from promptgraft.prompt.reparam import PARAMETERISATIONS
from promptgraft.searches.all import find as find_algorithm
from promptgraft.task.infer import ROLES
from promptgraft.task.sampling import check_cap, check_shots
from promptgraft.train.recipe import Recipe

ARGUMENTS = (
    "bank", "baselines", "device", "keep_in", "memory", "method", "options", "out", "rows", "seeds", "shots", "source",
    "validation_from",
)  # fmt: skip
"""What verbs take beside the recipe, for the error of a name that is neither."""
ARITHMETICS: tuple[DType, ...] = ("auto", "fp32", "bf16", "int8", "int4")
DEVICES: tuple[DeviceName, ...] = ("auto", "cpu", "cuda")
LARGEST_SEED = 2**31
OptionsIn = Literal["options", "rows"]
Methods = Iterable[tuple[str, Mapping[str, object]]]


def check_given(
    *models: object,
    recipe: Mapping[str, object] | None = None,
    methods: Methods = (),
    measures: Iterable[str] = (),
    algorithms: Iterable[str] = (),
    bank: object = None,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    out: object = None,
    seeds: Sequence[int] | int = 1,
    shots: int | None = None,
    test_rows: int | None = None,
    validation_from: str = "extra",
    device: object = "auto",
    options_in: OptionsIn | None = None,
) -> None:
    """Check that everything exists that is named, and that numbers are within their bounds.

    Args:
        models: names or folders; what is no text is a model already, or None.
        recipe: values of `Recipe`, a template and the words of labels among them; also the memory limit.
        methods: names with their options.
        measures: each `NAME` or `NAME:OPTION=VALUE:...`.
        bank: its folder or name; `auto` and what is no text are not looked up.
        name: of an artefact in a bank that it is kept in.
        columns: what a column holds -> its name.
        out: the folder for results; it need not exist.
        validation_from: one of `ValidationFrom`.
        options_in: the argument in which the verb takes the options of methods, if it takes any.
    Raises:
        UsageError, ModelError, BankError: the first name that does not exist, and the nearest that does; or the first
            value that cannot be used.
    """
    methods, recipe = list(methods), recipe or {}
    seeds_of(seeds)
    check_shots(shots)
    check_cap(test_rows)
    check_roles(columns)
    if out == "":
        raise UsageError("the name of the folder for results (out) is empty", do="name one, or give none")
    if name is not None:
        check_name(name)
    if validation_from not in get_args(ValidationFrom):
        raise unknown("place for validation rows", str(validation_from), get_args(ValidationFrom))
    known_arithmetic(recipe.get("arithmetic") or "auto", device)
    memory = recipe.get("memory")
    MemoryLimit.parse(None if memory is None else str(memory))
    for name in algorithms:
        find_algorithm(name)
    for name, options in methods:
        find_method(name).options.read(name, options)
    for measure in measures:
        make(measure)
    if options_in is not None:
        _check_no_option(recipe, methods, options_in)
    _check_recipe(recipe)
    others = (value for _, options in methods for name, value in options.items() if hyphened(name) == "words-model")
    for model in (*models, *filter(None, others)):
        if isinstance(model, str | Path):
            resolve(model)
    if isinstance(bank, str | Path) and bank != "auto":
        open_bank(bank)


def _check_no_option(given: Iterable[str], asked: Methods, options_in: OptionsIn) -> None:
    """Raises a UsageError for an argument that is an option of a method; it says which, and where it is given."""
    for name in given:
        having = [method for method, known in all_methods().items() if _has_option(known, name)]
        if name in Recipe.model_fields or not having:
            continue
        of_these = [method for method, _ in asked if method in having]
        do = f"options={{{name!r}: ...}}" if options_in == "options" else f"rows=[({having[0]!r}, {{{name!r}: ...}})]"
        which = "" if of_these or options_in == "rows" else ", with one of these methods"
        what = f"{name!r} is an option of {listed(of_these[:1] or having)}, not an argument"
        raise UsageError(what, do=f"give {do}{which}")


def _has_option(method: Method, name: str) -> bool:
    return hyphened(name) in map(hyphened, method.options.model_fields)


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
            raise unknown("argument", name, {*Recipe.model_fields, *ARGUMENTS} - {name})
    try:
        return recipe.changed(**given)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{first['loc'][0]} {first['input']}: {first['msg'].removeprefix('Value error, ')}"
        raise UsageError(what, do="see `promptgraft tune --help`") from None


def check_roles(columns: Mapping[str, str] | None) -> None:
    """Check that columns are said to hold what rows have, and have names.

    Raises:
        UsageError: one is not, or has none.
    """
    for role, name in (columns or {}).items():
        if role not in ROLES:
            raise unknown("role of a column", role, ROLES)
        if name == "":
            raise UsageError(f"the name of the {role} column is empty", do="name a column, or leave it out")


def known_arithmetic(arithmetic: object, device: object) -> DType:
    """The arithmetic of a name.

    Raises:
        UsageError: there is none of that name, or no such device.
    """
    dtype = next((name for name in ARITHMETICS if name == arithmetic), None)
    if dtype is None:
        raise unknown("arithmetic", str(arithmetic), ARITHMETICS)
    if device not in DEVICES:
        raise unknown("device", str(device), DEVICES)
    return dtype


def seeds_of(seeds: Sequence[int] | int) -> tuple[int, ...]:
    """Each seed once, in order; a number means so many seeds from 0.

    Raises:
        UsageError: there is none, or one that no generator takes.
    """
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    if not seeds:
        raise UsageError("no seed was given", do="give one or more, such as seeds=(0, 1, 2)")
    if wrong := [seed for seed in seeds if not _is_seed(seed)]:
        raise UsageError(f"seed {wrong[0]}", do=f"give whole numbers from 0 to {LARGEST_SEED - 1:,}")
    return tuple(dict.fromkeys(seeds))


def _is_seed(value: object) -> bool:
    return isinstance(value, Integral) and 0 <= int(value) < LARGEST_SEED
