"""The cache on disk: the same bits without it, cold and warm; nothing computed twice; bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from promptgraft.engine import cache as cache_room
from promptgraft.engine import share
from promptgraft.engine.cache import Cache, key_of
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.share import Shared
from promptgraft.errors import UsageError
from promptgraft.method.job import Job
from promptgraft.model.load import load_backbone
from promptgraft.prompt.reading import Reading
from promptgraft.train.recipe import Recipe
from toys import masked_model, tiny_model, toy_task

METHODS = ("linear-probe", "zero-shot", "prompt-tuning")


@pytest.fixture(autouse=True)
def everything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toys take no time to compute; here they are kept all the same."""
    monkeypatch.setattr(cache_room, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(cache_room, "READ_BYTES", 1e18)
    monkeypatch.setattr(share, "LARGE", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert")


def fill(cache: Cache, key: str, size: int = 1000) -> torch.Tensor:
    value = torch.arange(size, dtype=torch.uint8)
    cache.keep("states", key, {"states": value}, 1.0)
    return value


def test_states_under_another_head_over_words_are_others(tmp_path: Path) -> None:
    """Models whose layers are the same have one fingerprint, whatever their heads are."""
    folders = [masked_model(tmp_path / name) for name in ("one", "other") if not (tmp_path / name).mkdir()]
    path = folders[1] / "model.safetensors"
    tensors = load_file(path)
    tensors["cls.predictions.transform.dense.bias"] += 1.0
    save_file(tensors, path, {"format": "pt"})
    backbones, cache = [load_backbone(folder) for folder in folders], Cache(tmp_path / "cache", 10**7)
    assert backbones[0].fingerprint == backbones[1].fingerprint
    reading = Reading("mark", template="{text} was {mask}")
    states = []
    for backbone in backbones:
        shared = Shared(backbone, cache)
        tokens = shared.tokens(toy_task().test, "classification", reading, 32, "toy")
        states.append({read: shared.states(tokens, None, read) for read in ("mark", "mean")})
    assert not torch.equal(states[0]["mark"], states[1]["mark"])
    assert torch.equal(states[0]["mean"], states[1]["mean"])


def digests(folder: Path) -> list[str]:
    backbone = load_backbone(folder)
    engine = LocalEngine(backbone)
    recipe = Recipe(steps=4, batch=8, length=3, evaluations=2)
    jobs = [Job(toy_task(), backbone.fingerprint, method, 0, recipe) for method in METHODS]
    found = [(one, engine.view(one.job)) for one in engine.run(jobs)]
    return [make_artefact(*pair).digest + str(pair[0].result.scores) for pair in found]


@pytest.mark.every_path
@pytest.mark.usefixtures("each_path")
def test_the_same_bits_without_cold_and_warm(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(folder.parent)
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path))
    monkeypatch.setenv("PROMPTGRAFT_CACHE_MB", "0")
    without = digests(folder)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("PROMPTGRAFT_CACHE_MB", "50")
    cold, entries = digests(folder), {path: path.stat().st_ino for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert {path.parent.name for path in entries} == {"tokens", "states", "descriptions"}
    assert digests(folder) == cold == without
    again = {path: path.stat().st_ino for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert again == entries, "all of it was found, nothing was written anew"


SECOND = """
import sys
sys.path[:0] = {paths!r}
from promptgraft.engine import cache, share
cache.LEAST_SECONDS, cache.READ_BYTES, share.LARGE = 0.0, 1e18, 0
import torch
from promptgraft.engine.share import Shared
from promptgraft.engine.view import JobView
from promptgraft.method.job import Job
from promptgraft.model.load import load_backbone
from promptgraft.model.packed import PackedBackbone
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.reading import Reading
from promptgraft.readout.all import find
from promptgraft.readout.readout import Given
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Tuned
from toys import toy_task

passes = 0
forward = PackedBackbone.forward
def counted(*given, **named):
    global passes
    passes += 1
    return forward(*given, **named)
PackedBackbone.forward = counted
backbone = load_backbone({model!r})
task = toy_task()
stream = torch.Generator().manual_seed(0)
prompt = initial(Init(), backbone, 3, "deep", "after_cls", stream)
view = JobView(Job(task, backbone.fingerprint, "linear-probe", 0, Recipe()), task, Shared(backbone), None)
readout = find("label-text").create(task, backbone.hidden, stream, Given(lambda texts: view.describe(texts, "mean")))
teacher = Tuned(prompt, readout, Reading("mean"))
print(float(view.answers(teacher, "train").double().sum()), float(view.embedding(prompt, "cls").double().sum()))
print(passes)
"""


def test_a_second_process_computes_no_answers_and_no_embeddings(root: Path, folder: Path, tmp_path: Path) -> None:
    code = SECOND.format(paths=[str(root / "tests"), str(root / "src")], model=str(folder))
    surroundings = os.environ | {"PROMPTGRAFT_HOME": str(tmp_path)}

    def run() -> list[str]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=surroundings)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    (first, passes), (second, none) = run(), run()
    assert int(passes) >= 3
    assert int(none) == 0
    assert first == second


def test_the_key_is_the_content() -> None:
    ids, more = torch.arange(4), torch.ones(2)
    keys = {
        key_of(["a"], {"ids": ids}),
        key_of(["b"], {"ids": ids}),
        key_of(["a"], {"ids": ids.int()}),
        key_of(["a"], {"ids": ids.view(2, 2)}),
        key_of(["a"], {"ids": ids, "prompt": more}),
        key_of(["a"], {"ids": ids, "prompt": -more}),
        key_of(["a"]),
    }
    assert len(keys) == 7
    assert key_of(["a"], {"ids": ids.clone()}) in keys


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 5000)
    for number, key in enumerate("abc"):
        fill(cache, key)
        os.utime(cache._path("states", key), (number, number))
    assert cache.read("states", "a") is not None, "now used last"
    for key in "de":
        fill(cache, key)
    left = {path.stem for path, _ in cache._entries()}
    assert sum(one.size for one in cache.usage()) <= 5000
    assert {"a", "d", "e"} <= left
    assert "b" not in left


def test_what_is_not_worth_a_file_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_room, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(cache_room, "READ_BYTES", 100e6)
    cache = Cache(tmp_path, 10**9)
    cache.keep("states", "quick", {"states": torch.ones(9)}, 0.05)
    cache.keep("states", "large", {"states": torch.ones(10**7)}, 0.2)
    cache.keep("states", "worth it", {"states": torch.ones(9)}, 0.2)
    Cache(tmp_path, 100).keep("states", "beyond the limit", {"states": torch.ones(99)}, 9.0)
    assert [path.stem for path, _ in cache._entries()] == ["worth it"]


def test_it_counts_what_it_holds_and_was_of_use_for(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**6)
    value = fill(cache, "a")
    for _ in range(3):
        found = cache.read("states", "a")
        assert found is not None
        assert torch.equal(found["states"], value)
    by_kind = {one.kind: one for one in cache.usage()}
    assert (by_kind["states"].entries, by_kind["states"].hits, by_kind["tokens"].entries) == (1, 3, 0)
    assert cache.clear("tokens") == 0
    assert cache.clear() == 1
    assert cache.read("states", "a") is None
    with pytest.raises(UsageError, match="states"):
        cache.clear("state")


@pytest.mark.parametrize("text", ["much", "-1", "1.5"])
def test_a_wrong_size_is_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTGRAFT_CACHE_MB", text)
    with pytest.raises(UsageError, match="no number of megabytes"):
        cache_room.open_cache()


def test_what_is_there_is_not_made(tmp_path: Path) -> None:
    def never() -> dict[str, torch.Tensor]:
        raise AssertionError("made again")

    make: Callable[[], dict[str, torch.Tensor]] = lambda: {"states": torch.ones(2)}  # noqa: E731
    cache = Cache(tmp_path, 10**6)
    cache.get("states", "a", make)
    assert torch.equal(cache.get("states", "a", never)["states"], torch.ones(2))
