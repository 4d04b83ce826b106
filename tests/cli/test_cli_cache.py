"""promptgraft cache: what a user sees of it and does with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from command import Command
from promptgraft.cli.cache import KINDS_HELP
from promptgraft.engine.cache import KINDS, Cache, open_cache


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path))
    cache = open_cache()
    for kind in ("states", "tokens"):
        cache.keep(kind, "a", {"states": torch.ones(9)}, 1.0)
    cache.read("states", "a")
    return cache


def test_it_shows_where_how_large_and_of_what_use(kept: Cache, done: Command) -> None:
    said = done("cache")
    assert f"0.0 of 2048 MB, in {kept.folder}" in said.out
    shown = done("cache", "--json").json
    assert shown["path"] == str(kept.folder)
    assert shown["kinds"]["states"]["entries"] == shown["kinds"]["states"]["hits"] == 1
    assert shown["bytes"] == sum(kind["bytes"] for kind in shown["kinds"].values()) > 0


def test_it_is_cleared_by_kind_and_whole(kept: Cache, done: Command, pg: Command) -> None:
    assert "1 entries deleted" in done("cache", "clear", "--kind", "states").out
    assert done("cache", "clear", "--json").json["deleted"] == 1
    said = pg("cache", "clear", "--kind", "state")
    assert said.status == 2
    assert "states" in said.err


def test_the_help_names_every_kind() -> None:
    assert [kind for kind in KINDS if kind not in KINDS_HELP] == []


def test_doctor_names_it(kept: Cache, pg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "of 2048 MB" in pg("doctor").out
    monkeypatch.setenv("PROMPTGRAFT_CACHE_MB", "much")
    assert "no number of megabytes" in pg("doctor").out
