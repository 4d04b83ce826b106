"""An unknown name is answered on one line that can be read, however many names there are."""

from __future__ import annotations

import pytest

from promptgraft.errors import SHOWN, unknown


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
