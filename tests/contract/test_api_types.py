"""A wrong type is one line of a PromptgraftError that names the argument, at every function and every argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import promptgraft as pg
from promptgraft import api
from promptgraft.arguments import check_arguments, checked, in_words
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import PromptgraftError, UsageError
from promptgraft.sklearn import PromptClassifier, PromptRegressor

TEXT, PLACE, FLAG, NUMBER, TABLE, LIST = (
    (3, True, ["a"]), (3, 2.5, True, ["a"]), ("yes", 1, ["a"]), ("3", 2.5, True, ["a"]), (3, True, ["a"], "a"),
    (3, True, "a", {"a": "b"}),
)  # fmt: skip
WRONG: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(("path", "model", "bank", "keep_in", "run", "out", "folder", "proposer", "name_or_path"), PLACE),
    **dict.fromkeys(("source", "method", "name", "template", "to", "verbalizer", "start", "device", "memory"), TEXT),
    **dict.fromkeys(("validation_from", "arithmetic", "dtype", "peft_type", "verb"), TEXT),
    **dict.fromkeys(("kind", "text", "pair", "label", "metric", "positive", "language", "style", "family"), TEXT),
    **dict.fromkeys(("replace", "baselines", "exact", "create", "header"), FLAG),
    **dict.fromkeys(("shots", "seed", "test_rows", "length", "most", "count", "runs", "passes", "max_length"), NUMBER),
    **dict.fromkeys(("options", "columns"), TABLE),
    **dict.fromkeys(("algorithms", "stop", "among"), LIST),
    "tasks": (3, True, "a", {"a": "b"}),
    "measures": (3, True, {"a": "b"}, [3]),
    "seeds": ("3", 2.5, True, ["a"], [True]),
    "temperature": ("3", True, ["a"]),
    "progress": (3, True, "yes"),
    "labels": (3, True),
    "unlabelled": (3, True, [3], {"a": "b"}),
    "check": (3, "yes"),
}
"""Values of a wrong type, by what an argument is called, which is the same at every function."""
OWN: dict[tuple[str, str], tuple[object, ...]] = {
    ("compare", "rows"): (3, "a", ["a"], [("linear-probe", 3)]),
    ("estimate", "rows"): (3, "a", ["a"], [("linear-probe", 3)]),
    ("try_template", "rows"): NUMBER,
    ("free_text", "given"): (3, True, [3], {"a": "b"}),
    ("texts_of", "verbalizer"): TEXT,
}
"""The same of arguments that are called alike and are something else."""
ANYTHING = {"task", "data", "rows", "test", ("load_task", "path"), ("open_model", "arithmetic")}
"""Arguments that take more than types can say; what they are given is judged where it is read."""
NONE_TOO = {("compare", "bank"), ("search", "shots"), ("free_text", "given")}
"""Arguments for which None means something though it is not their default."""
FUNCTIONS: list[Callable[..., Any]] = [
    *(getattr(api, name) for name in api.__all__ if inspect.isfunction(getattr(api, name))),
    pg.load_task, pg.open_bank, pg.find_template, pg.templates,
]  # fmt: skip


def cases() -> list[Any]:
    found = []
    for function in FUNCTIONS:
        for name, parameter in inspect.signature(function).parameters.items():
            key = (function.__name__, name)
            is_any = key not in OWN and (name in ANYTHING or key in ANYTHING)
            if is_any or parameter.kind is parameter.VAR_KEYWORD:
                continue
            values = OWN.get(key) or WRONG[name]
            if parameter.default is not None and key not in NONE_TOO:
                values = (*values, None)
            found.append(pytest.param(function, name, values, id=f"{function.__name__}-{name}"))
    return found


@pytest.mark.parametrize(("function", "name", "values"), cases())
def test_a_wrong_type_is_one_line(function: Callable[..., Any], name: str, values: tuple[object, ...]) -> None:
    needed = {
        other: ["a name"] if other in ("tasks", "algorithms") else "a name"
        for other, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    for value in values:
        with pytest.raises(UsageError, match=rf"^{function.__name__}: {name} (is|holds) .*; give ") as caught:
            function(**{**needed, name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", [pg.tune, pg.compare, pg.distil, pg.estimate_memory])
@pytest.mark.parametrize(
    "recipe", [{"steps": True}, {"steps": "3"}, {"rate": "1e-3"}, {"depth": 3}, {"init_text": True}, {"steps": [1]}]
)
def test_a_value_of_a_recipe_of_a_wrong_type_is_one_line(
    verb: Callable[..., Any], recipe: dict[str, object], splade_tiny: Path, root: Path
) -> None:
    arguments = {
        "task": root / "examples/data/home_reviews", "data": root / "examples/data/home_reviews",
        "model": splade_tiny, "template": "{text} It was {mask}.",
    }  # fmt: skip
    wanted = inspect.signature(verb).parameters
    with pytest.raises(UsageError, match=rf"^{next(iter(recipe))} .*; see `promptgraft tune --help`$") as caught:
        verb(**{name: value for name, value in arguments.items() if name in wanted} | recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", [None, 3, 2.5, True, [3], object()])
def test_what_is_no_task_is_one_line(task: object, splade_tiny: Path) -> None:
    for called in (
        lambda: pg.load_task(task),
        lambda: pg.tune(task, splade_tiny),
        lambda: pg.try_template(task, "{text} It was {mask}."),
        lambda: pg.distil("Well. {text} It was {mask}.", splade_tiny, task),
    ):
        with pytest.raises(PromptgraftError) as caught:
            called()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", ["predict", "predict_proba", "answers"])
@pytest.mark.parametrize(("name", "value"), [("windows", "yes"), ("windows", 1), ("risk", True), ("risk", "0.1")])
def test_how_rows_are_predicted_is_of_its_type(verb: str, name: str, value: object) -> None:
    if verb == "predict_proba" and name == "risk":
        pytest.skip("it takes none")
    with pytest.raises(UsageError, match=f"^{verb}: {name} is .*; give "):
        getattr(Predictor, verb)(None, ["a text"], **{name: value})


def test_options_have_names(splade_tiny: Path, root: Path) -> None:
    with pytest.raises(UsageError, match="options holds 1; give a dictionary"):
        pg.tune(root / "examples/data/home_reviews", splade_tiny, options={1: 2})  # type: ignore[dict-item]


def test_a_template_is_tried_on_whatever_a_task_is_loaded_from(root: Path) -> None:
    """As every function that takes a task takes a file and a table too."""
    path = root / "examples/data/home_reviews"
    tried = pg.try_template(path, "{text} It was {mask}.")
    assert tried.rows == pg.try_template(pg.load_task(path), "{text} It was {mask}.").rows


def test_one_measure_is_a_list_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name alone was read letter by letter."""
    from promptgraft.api import comparing

    def seen(*_: object, measures: object, **__: object) -> None:
        raise LookupError(measures)

    monkeypatch.setattr(comparing, "check_given", seen)
    with pytest.raises(LookupError, match=r"\['probe'\]"):
        pg.rank("a task", "a model", "a bank", measures="probe")


@pytest.mark.parametrize("estimator", [PromptClassifier, PromptRegressor])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", None), ("model", 3), ("bank", 3), ("source", 3), ("method", None), ("readout", 3), ("steps", "3"),
        ("steps", True), ("rate", "a"), ("length", 2.5), ("random_state", "a"), ("device", 3), ("arithmetic", None),
    ],
)  # fmt: skip
def test_a_parameter_of_an_estimator_of_a_wrong_type_is_one_line(
    estimator: Callable[..., Any], name: str, value: object
) -> None:
    X, y = ["good", "bad"] * 4, [1, 0] * 4
    with pytest.raises(UsageError, match=f"{name} is .*; give ") as caught:
        estimator(**{name: value}).fit(X, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("labels", 3), ("template", 3), ("verbalizer", None), ("words_model", 3)])
def test_a_parameter_of_the_classifier_of_a_wrong_type_is_one_line(name: str, value: object) -> None:
    values: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=f"{name} is .*; give "):
        PromptClassifier(**values).fit(["good", "bad"] * 4, [1, 0] * 4)


@pytest.mark.parametrize("y", [["a", None] * 4, [None, 1, 2, 1] * 2, np.array(["a", None] * 4, dtype=object)])
def test_a_row_without_a_class_is_said_by_its_number(y: Any) -> None:
    """A ValueError, as scikit-learn has for every other y that cannot be used."""
    with pytest.raises(ValueError, match=r"y has no label in row [01] \(None\)"):
        PromptClassifier().fit(["good", "bad"] * 4, y)
    with pytest.raises(ValueError, match=r"y has no label in row [01] \(None\)"):
        PromptRegressor().fit(["good", "bad"] * 4, y)


def test_classes_that_cannot_be_sorted_are_an_error_of_one_line() -> None:
    with pytest.raises(ValueError, match="y mixes classes of types that do not sort"):
        PromptClassifier().fit(["good", "bad"] * 4, np.array(["a", 1] * 4, dtype=object))


def sample(path: str | Path, rows: list[tuple[str, int]] | None = None, *, share: float = 0.5) -> None:
    """A function with hints."""


def test_what_fits_is_called() -> None:
    called = checked(sample)
    called("a")
    called(Path("a"), [("a", 1), ("b", np.int64(2))], share=np.float32(1))  # type: ignore[arg-type,list-item]
    called("a", share=1)


def test_what_a_type_asks_for_is_said_in_words() -> None:
    assert in_words(str | Path | None) == "a name, a path or None"
    with pytest.raises(UsageError, match=r"^sample: rows holds a tuple; give a list or None$"):
        check_arguments(sample, {"path": "a", "rows": [("a", "b")]})
