"""A cache that is damaged, cut off, cleared, killed or out of disk costs time and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import random
import stat
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cache_writers import COUNT, value_of, write_without_end
from disk import full_disk
from promptgraft.engine import cache as cache_room
from promptgraft.engine.cache import Cache

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["promptgraft.engine.cache"])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path / "cache", 10**7)
    made.keep("states", "a", {"states": torch.arange(500)}, 1.0)
    return made


@pytest.mark.parametrize("damage", ["empty", "header", "half", "a byte less", "a flipped bit", "other", "folder"])
def test_a_damaged_entry_is_a_miss_and_is_made_again(damage: str, cache: Cache) -> None:
    path = cache._path("states", "a")
    data = bytearray(path.read_bytes())
    flipped = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    parts = {"empty": b"", "header": data[:20], "half": data[: len(data) // 2], "a byte less": data[:-1]}
    parts |= {"a flipped bit": flipped, "other": b"not what it should be" * 9}
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(parts[damage])
    assert cache.read("states", "a") is None
    if damage == "folder":
        path.rmdir()
    made = cache.get("states", "a", lambda: {"states": torch.arange(500)})
    assert torch.equal(made["states"], torch.arange(500))


@pytest.mark.parametrize(
    "digest",
    [
        torch.tensor([0.5]),
        torch.tensor([300]),
        torch.tensor([-1, 3]),
        torch.tensor(7),
        torch.zeros(32).to(torch.float8_e4m3fn),
    ],
)
def test_a_digest_of_other_numbers_is_a_miss(digest: torch.Tensor, cache: Cache) -> None:
    cache._path("states", "a").write_bytes(safetensors.torch.save({cache_room.DIGEST: digest}))
    assert cache.read("states", "a") is None


def test_every_flipped_bit_is_noticed(cache: Cache) -> None:
    path = cache._path("states", "a")
    data = path.read_bytes()
    for place in random.Random(0).sample(range(len(data)), 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        found = cache.read("states", "a")
        assert found is None or torch.equal(found["states"], torch.arange(500))


def test_a_full_disk_is_said_once(cache: Cache) -> None:
    with full_disk():
        with pytest.warns(UserWarning, match="the disk is full; work goes on without keeping"):
            cache.keep("states", "b", {"states": torch.arange(500)}, 1.0)
        cache.keep("states", "c", {"states": torch.arange(500)}, 1.0)  # warnings are errors here
    assert [path.stem for path, _ in cache._entries()] == ["a"]
    assert not list(cache.folder.rglob("*.new"))


def test_a_place_that_cannot_be_a_folder_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    cache = Cache(tmp_path / "cache", 10**7)
    with pytest.warns(UserWarning, match="work goes on without keeping"):
        cache.keep("states", "a", {"states": torch.ones(1)}, 1.0)
    cache.keep("states", "b", {"states": torch.ones(1)}, 1.0)  # warnings are errors here
    assert cache.read("states", "a") is None
    assert cache.clear() == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_one_that_can_only_be_read_is_read(cache: Cache) -> None:
    folder = cache.folder / "states"
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert cache.read("states", "a") is not None
    folder.chmod(stat.S_IRWXU)


def test_what_killed_writers_left_goes_in_time(cache: Cache) -> None:
    left, fresh = (cache.folder / "states" / f".b.safetensors.{name}.new" for name in ("0000", "1111"))
    for path in (left, fresh):
        path.write_bytes(b"half")
    long_ago = time.time() - 2 * cache_room.LEFT_SECONDS
    os.utime(left, (long_ago, long_ago))
    cache.keep("states", "c", {"states": torch.ones(9)}, 1.0)
    assert not left.exists()
    assert fresh.exists(), "its writer may be at work"


@pytest.mark.slow
@pytest.mark.parametrize("kills", [20])
def test_two_writers_that_are_killed_leave_only_whole_entries(kills: int, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 60_000)
    dice = random.Random(3)
    found = 0
    for _ in range(kills // 2):
        events = [FORKS.Event(), FORKS.Event()]
        writers = [FORKS.Process(target=write_without_end, args=(tmp_path, n, event)) for n, event in enumerate(events)]
        for writer, event in zip(writers, events, strict=True):
            writer.start()
            assert event.wait(60)
        end = time.monotonic() + dice.random() * 0.2
        while time.monotonic() < end:
            number = dice.randrange(COUNT)
            entry = cache.read("states", str(number))
            if entry is not None:
                found += 1
                assert torch.equal(entry["states"], value_of(number))
        for writer in writers:
            writer.kill()
            writer.join()
        for path, _ in cache._entries():
            whole = cache.read("states", path.stem)
            assert whole is not None, "a whole entry"
            assert torch.equal(whole["states"], value_of(int(path.stem)))
    assert found > 0
    assert sum(one.size for one in cache.usage()) <= 60_000 + 2 * 9_000, "two writers may each be one entry ahead"
