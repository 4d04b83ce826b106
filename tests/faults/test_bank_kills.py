"""Many writers, readers beside them, and writers that are killed: the bank is whole at every moment."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import filelock
import pytest

from bank_writers import write_some, write_without_end
from banks import small_artefact
from promptgraft.bank.bank import Bank, open_bank
from promptgraft.errors import BankError

# A server that has torch loaded and forks: a writer starts in milliseconds, so that fifty can be killed.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["promptgraft.prompt.artefact", "promptgraft.bank.bank"])


@pytest.mark.slow
@pytest.mark.parametrize("swaps", [True, False], ids=["exchange", "two renames"])
def test_fifty_kills_leave_a_whole_bank(swaps: bool, tmp_path: Path) -> None:
    bank = open_bank(tmp_path / "bank", create=True)
    bank.add(small_artefact(0), "keep")
    known = {small_artefact(seed).hash for seed in range(100)}
    dice = random.Random(1)
    interrupted = 0
    for seed in range(50):
        started = FORKS.Event()
        writer = FORKS.Process(target=write_without_end, args=(bank.folder, seed, swaps, started))
        writer.start()
        assert started.wait(60)
        time.sleep(dice.random() * 0.1)
        writer.kill()
        writer.join()
        interrupted += any(path.suffix in (".new", ".old") for path in bank.folder.iterdir())
        assert bank.verify() == ()
        assert "keep" in bank.names()
        assert {summary.hash for summary in Bank(bank.folder).list()} <= known
    assert interrupted > 0, "no writer was killed at work"
    bank.add(small_artefact(0), "last")
    rest = [path.name for path in bank.folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]
    assert rest == [], "the next writer clears away what killed ones left"


@pytest.mark.slow
def test_two_writers_and_a_reader_never_meet_half_a_thing(tmp_path: Path) -> None:
    bank = open_bank(tmp_path / "bank", create=True)
    bank.add(small_artefact(0), "shared")
    writers = [FORKS.Process(target=write_some, args=(bank.folder, writer)) for writer in (1, 2)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        bank.load("shared")
        assert "shared" in {summary.name for summary in bank.list()}
        assert bank.verify() == ()
        reads += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert reads > 0
    assert len(bank.list()) == 1 + 2 * 8


def test_a_writer_that_waits_too_long_says_so_and_readers_do_not_wait(tmp_path: Path) -> None:
    bank = Bank(open_bank(tmp_path / "bank", create=True).folder, timeout=0.2)
    bank.add(small_artefact(0), "a")
    with filelock.FileLock(bank.folder / ".lock"):
        assert [summary.name for summary in bank.list()] == ["a"]
        assert bank.load("a").hash == small_artefact(0).hash
        with pytest.raises(BankError, match=r"another process has been writing for over 0.2 s; wait for it, or end it"):
            bank.add(small_artefact(1), "b")
