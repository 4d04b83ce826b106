"""A lack of memory is one line that says what to lower, whatever is called from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from promptgraft import api
from promptgraft.api import comparing, distilling, explaining, extending, opening, searching, suggesting, tuning
from promptgraft.errors import RunError

VERBS: list[tuple[Callable[..., Any], Any, str, str, int]] = [
    (api.tune, tuning, "check_given", "use a smaller batch", 2),
    (api.transfer, tuning, "check_given", "use a smaller batch", 3),
    (api.rank, comparing, "check_given", "use a smaller batch", 3),
    (api.compare, comparing, "check_given", "use a smaller batch", 2),
    (api.search, searching, "check_given", "use a smaller batch", 2),
    (api.distil, distilling, "check_given", "use a smaller batch", 3),
    (api.explain, explaining, "as_predictor", "use a smaller model", 1),
    (api.extend, extending, "as_predictor", "use a smaller model", 1),
    (api.suggest, suggesting, "load", "use a smaller model", 2),
    (api.load_backbone, opening, "load_model", "use a smaller model", 1),
]


@pytest.mark.parametrize(
    ("verb", "room", "within", "remedy", "arguments"), VERBS, ids=[verb.__name__ for verb, *_ in VERBS]
)
def test_a_lack_of_memory_is_one_line(
    verb: Callable[..., Any], room: Any, within: str, remedy: str, arguments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(room, within, refused)
    with pytest.raises(RunError, match=f"^out of memory; {remedy}"):
        verb(*["a name"] * arguments)


def test_other_errors_of_libraries_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(opening, "load_model", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        api.load_backbone("a name")
