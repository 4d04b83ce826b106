"""An error is one line that can be read, and names what can be given where it is read."""

from __future__ import annotations

import pytest

from promptgraft.errors import SHOWN, TaskError, UsageError, unknown


@pytest.mark.parametrize(
    ("count", "ending"),
    [
        (0, "known: none"),
        (2, "known: n00, n01"),
        (SHOWN, f"n{SHOWN - 2}, n{SHOWN - 1}"),
        (SHOWN + 5, f"n{SHOWN - 2}, n{SHOWN - 1} ... and 5 more"),
    ],
)
def test_at_most_a_dozen_known_names_are_listed(count: int, ending: str) -> None:
    line = str(unknown("model", "zzz", [f"n{number:02}" for number in range(count)]))
    assert line.startswith("unknown model 'zzz'; known: n")
    assert line.endswith(ending)


def test_the_nearest_name_is_found_among_all() -> None:
    known = [f"n{number:02}" for number in range(40)] + ["minilm"]
    assert str(unknown("model", "minilmm", known)) == "unknown model 'minilmm'; did you mean 'minilm'?"


@pytest.mark.parametrize(
    ("do", "in_python"),
    [
        ("name it with --text-column, --pair-column or --label-column", "name it with text, pair or label"),
        ("use --max-length 40, or --depth deep", "use max_length 40, or depth deep"),
        ("another name, or replace it (--replace)", "another name, or replace it (replace=True)"),
        ("tune one with `promptgraft tune TASK --model m --bank ...`", None),
        ("did you mean '--x'?", None),
        ("a - b -- c", None),
    ],
)
def test_options_are_arguments_in_python(do: str, in_python: str | None) -> None:
    error = UsageError("wrong", do=do)
    assert error.line == f"wrong; {do}"
    assert str(error) == f"wrong; {in_python or do}"


def test_a_path_is_no_option() -> None:
    error = TaskError("--kind is wrong", where="a --kind.csv:3")
    assert str(error) == "a --kind.csv:3: kind is wrong"
    assert error.line == "a --kind.csv:3: --kind is wrong"
