"""Which path an encoder takes: the fastest by a trial that is made once, or what the switch says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from paths import PATHS, PLAIN, taken
from promptgraft.kernels.native.library import SWITCH
from promptgraft.model import paths
from promptgraft.model.load import fastest
from promptgraft.model.trial import Trial

Found = dict[str | None, float]


@pytest.fixture(autouse=True)
def no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home in which nothing was chosen yet, and no switch."""
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(SWITCH, raising=False)
    paths._choice.cache_clear()
    yield
    paths._choice.cache_clear()


def let_take(monkeypatch: pytest.MonkeyPatch, variants: Sequence[str], spans: dict[str, Found]) -> list[str]:
    """These variants can run, and a trial takes so long; gives the list of trials."""
    tried: list[str] = []

    def seconds(_: Trial, arithmetic: str, asked: Sequence[str | None]) -> Found:
        tried.append(arithmetic)
        return {path: spans[arithmetic][path] for path in asked}

    monkeypatch.setattr(paths, "runnable", lambda: (tuple(variants), ""))
    monkeypatch.setattr(paths, "library", lambda _: Path(__file__))
    monkeypatch.setattr(Trial, "seconds", seconds)
    monkeypatch.setattr(Trial, "is_bf16_worth_a_trial", True)
    return tried


ABLE = ("amx", "avx512vnni", "avx2")
SLOW: dict[str, Found] = {
    "fp32": {"amx": 9.0, "avx512vnni": 9.0, "avx2": 9.0, None: 5.0},
    "bf16": {"amx": 9.0, None: 9.0},
    "int8": {"amx": 9.0, "avx512vnni": 4.0, None: 5.0},
}


def test_the_fastest_is_taken_and_a_path_that_loses_never(monkeypatch: pytest.MonkeyPatch) -> None:
    let_take(monkeypatch, ABLE, SLOW)
    assert (paths.path("fp32"), paths.path("bf16"), paths.path("int8")) == (None, "amx", "avx512vnni")
    assert fastest() == "fp32"


def test_of_paths_that_are_as_fast_the_ablest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    near: Found = {"amx": 1.04, "avx512vnni": 1.0, "avx2": 1.2, None: 1.01}
    let_take(monkeypatch, ABLE, {**SLOW, "fp32": near})
    assert paths.path("fp32") == "amx"


@pytest.mark.parametrize(("span", "arithmetic"), [(0.5, "bf16"), (0.99, "fp32"), (2.0, "fp32")])
def test_bf16_is_the_default_only_where_it_is_faster(
    span: float, arithmetic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fp32: Found = {"amx": 1.0, "avx512vnni": 1.0, "avx2": 1.0, None: 1.0}
    let_take(monkeypatch, ABLE, {**SLOW, "fp32": fp32, "bf16": {"amx": span, None: 9.0}})
    assert fastest() == arithmetic


def test_bf16_without_instructions_takes_the_path_of_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    let_take(monkeypatch, ("avx2",), {**SLOW, "fp32": {"avx2": 1.0, None: 2.0}})
    monkeypatch.setattr(Trial, "is_bf16_worth_a_trial", False)
    assert (paths.path("bf16"), fastest()) == ("avx2", "fp32")


def test_a_choice_is_kept_whatever_a_later_trial_would_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert let_take(monkeypatch, ABLE, SLOW) == []
    first = paths.choice()
    paths._choice.cache_clear()
    tried = let_take(monkeypatch, ABLE, {"fp32": {}, "bf16": {}, "int8": {}})
    assert (paths.choice().paths, tried) == (first.paths, [])


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"KEY": 3}', '{"KEY": {"fp32": {"amx": "fast"}}}', "\udcff"])
def test_what_is_damaged_is_made_anew(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_take(monkeypatch, ABLE, SLOW)
    first = paths.choice()
    file = tmp_path / "home" / paths.KEPT_IN
    (key,) = json.loads(file.read_text(encoding="utf-8"))
    file.write_bytes(damage.replace("KEY", key).encode("utf-8", "surrogateescape"))
    paths._choice.cache_clear()
    assert paths.choice() == first
    assert list(json.loads(file.read_text(encoding="utf-8"))) == [key]


def test_another_version_or_switch_is_another_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_take(monkeypatch, ABLE, SLOW)
    paths.choice()
    monkeypatch.setattr("promptgraft.__version__", "99")
    paths._choice.cache_clear()
    paths.choice()
    assert len(json.loads((tmp_path / "home" / paths.KEPT_IN).read_text(encoding="utf-8"))) == 2


def test_where_nothing_can_be_written_a_choice_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("in the way", encoding="utf-8")
    let_take(monkeypatch, ABLE, SLOW)
    assert paths.path("fp32") is None
    assert "cannot be kept" in paths.choice().why


@pytest.mark.parametrize("path", PATHS)
def test_the_switch_overrules_the_trial(path: str) -> None:
    with taken(path):
        chosen = paths.choice()
    assert (chosen.paths["fp32"] or PLAIN) == path
    assert path in chosen.why
    assert set(chosen.seconds["fp32"]) == {path}


def test_a_real_trial_times_every_path() -> None:
    chosen = paths.choice()
    assert set(chosen.seconds["fp32"]) == set(PATHS)
    assert min(chosen.seconds["fp32"], key=lambda name: chosen.seconds["fp32"][name]) in PATHS
    assert (chosen.paths["fp32"] or PLAIN) in PATHS


CHOOSE = "from promptgraft.model import paths; print(paths.choice().seconds)"


def test_processes_that_come_together_make_one_trial(tmp_path: Path) -> None:
    surroundings = {**os.environ, "PROMPTGRAFT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", CHOOSE]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=surroundings) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert said[0] == said[1] != ""
