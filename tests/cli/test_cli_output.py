"""Output that cannot be written, and work that has no room, are one line; a reader that has gone is none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptgraft.cli.verb import line_of
from promptgraft.prompt.atomic import write_bytes
from promptgraft.searches.journal import Journal, KeptAnswer


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full (/dev/full)")
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["tune", "--help"], ["models", "list"]])
def test_a_full_disk(words: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "promptgraft", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (1, "promptgraft: No space left on device\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_too_little_memory(error: BaseException) -> None:
    assert line_of(error).startswith("out of memory; use a smaller --batch")


def test_a_disk_that_is_full_is_said_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(tmp_path / "labelled.csv", b"text")
    assert line_of(caught.value) == f"{tmp_path / 'labelled.csv'}: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_has_no_room_to_keep_answers_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "fsync", full)
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(OSError, match="too large") as caught:
        journal.keep(KeptAnswer("question", 1, 2, 0.5, "answer"))
    assert line_of(caught.value) == f"{tmp_path / 'journal.jsonl'}: File too large"
