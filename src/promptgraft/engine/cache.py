"""The disk cache keeps what costs more to compute than to read, so that no process computes it twice.

One safetensors file an entry, under a hash over all that decides it; written whole or not at all, read without locks.
A file that is missing, cut off or damaged is a miss and never an error. All of it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from promptgraft.errors import UsageError, unknown
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.home import home
from promptgraft.prompt.atomic import NO_ROOM, write_bytes

EntryKind = Literal["tokens", "states", "descriptions", "calibration"]
KINDS: tuple[EntryKind, ...] = get_args(EntryKind)
LIMIT = "PROMPTGRAFT_CACHE_MB"
DEFAULT_MB = 2048
# What is worth a file: at least so many seconds of computing (a file costs a few ms to make and to find), and no more
# bytes than a slow disk reads in that time. States of rows under a prompt pass both on every encoder but the smallest;
# a few-shot split does not, and is as well computed again.
LEAST_SECONDS = 0.1
READ_BYTES = 100e6
# A temporary file that is older belongs to a writer that was killed.
LEFT_SECONDS = 3600
DIGEST = "cache.digest"
SECONDS = "cache.seconds"
HITS = "hits"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Usage:
    """How many entries of one kind the cache holds, their bytes, and the hits since it was last cleared."""

    kind: EntryKind
    entries: int
    size: int
    hits: int


@dataclass
class Cache:
    """A folder of cache entries with a limit on its size.

    Attributes:
        limit: bytes of all entries together; 0 keeps nothing and reads nothing.
        saved: seconds that entries had taken to make which were read instead.
    """

    folder: Path
    limit: int
    saved: float = 0.0
    _warned: set[str] = field(default_factory=set)

    def get(self, kind: EntryKind, key: str, make: Callable[[], Tensors]) -> Tensors:
        """Read the entry of a key, or make it and keep it if it is worth a file."""
        if (kept := self.read(kind, key)) is not None:
            return kept
        began = time.perf_counter()
        tensors = make()
        self.keep(kind, key, tensors, time.perf_counter() - began)
        return tensors

    def read(self, kind: EntryKind, key: str) -> dict[str, Tensor] | None:
        """Read the entry of a key if it is there and undamaged; it then counts as used now."""
        if not self.limit:
            return None
        path = self._path(kind, key)
        try:
            tensors = safetensors.torch.load(path.read_bytes())
        except OSError:
            return None
        except (SafetensorError, ValueError, KeyError):
            tensors = {}
        digest = tensors.pop(DIGEST, None)
        if digest is None or digest.dtype != torch.uint8 or not torch.equal(digest, _digest_tensor(tensors)):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
            _count_hit(path.parent / HITS)
        if (seconds := tensors.pop(SECONDS, None)) is not None:
            self.saved += float(seconds)
        return tensors

    def keep(self, kind: EntryKind, key: str, tensors: Tensors, seconds: float | None) -> None:
        """Write an entry that took `seconds` to make, if it is worth a file; then delete what exceeds the limit.

        A disk that is full or cannot be written to gives one warning, and the entry is used all the same.

        Args:
            seconds: None keeps it however short that was, and counts nothing as saved when it is read.
        """
        size = sum(value.nbytes for value in tensors.values())
        if size > self.limit or (seconds is not None and seconds < max(LEAST_SECONDS, size / READ_BYTES)):
            return
        entry = {name: value.detach().contiguous() for name, value in tensors.items()}
        if seconds is not None:
            entry[SECONDS] = torch.tensor(seconds)
        entry[DIGEST] = _digest_tensor(entry)
        path = self._path(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, safetensors.torch.save(entry))
        except OSError as error:
            self._warn(error)
            return
        self._evict()

    def usage(self) -> tuple[Usage, ...]:
        """Entries, bytes and hits of each kind."""
        entries = list(self._entries())
        return tuple(
            Usage(
                kind,
                sum(path.parent.name == kind for path, _ in entries),
                sum(stat.st_size for path, stat in entries if path.parent.name == kind),
                _size(self.folder / kind / HITS),
            )
            for kind in KINDS
        )

    def clear(self, kind: str | None = None) -> int:
        """Delete all entries, or those of one kind, and return how many there were.

        Raises:
            UsageError: no such kind.
        """
        if kind is not None and kind not in KINDS:
            raise unknown("kind of entry", kind, KINDS)
        count = sum(path.parent.name == kind or kind is None for path, _ in self._entries())
        for name in KINDS if kind is None else (kind,):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return count

    def _path(self, kind: EntryKind, key: str) -> Path:
        return self.folder / kind / f"{key}.safetensors"

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Path and size of every entry; entries that another process deletes meanwhile are passed over."""
        for kind in KINDS:
            for path in (self.folder / kind).glob("[!.]*.safetensors"):
                with suppress(OSError):
                    yield path, path.stat()

    def _evict(self) -> None:
        """Delete the entries that were used longest ago until the rest fits, and files that killed writers left."""
        for kind in KINDS:
            for path in (self.folder / kind).glob(".*.new"):
                with suppress(OSError):
                    if path.stat().st_mtime < time.time() - LEFT_SECONDS:
                        path.unlink()
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
        total = sum(stat.st_size for _, stat in entries)
        for path, stat in entries:
            if total <= self.limit:
                return
            with suppress(OSError):
                path.unlink()
            total -= stat.st_size

    def _warn(self, error: OSError) -> None:
        """Warn once for each reason why nothing can be written."""
        why = "the disk is full" if error.errno in NO_ROOM else error.strerror or str(error)
        if why not in self._warned:
            self._warned.add(why)
            warnings.warn(f"{self.folder}: {why}; work goes on without keeping what could be used again", stacklevel=2)


def open_cache() -> Cache:
    """Open the cache under `$PROMPTGRAFT_HOME`, as large as `PROMPTGRAFT_CACHE_MB` allows.

    Raises:
        UsageError: that is not a number of megabytes.
    """
    text = os.environ.get(LIMIT, "") or str(DEFAULT_MB)
    if not text.isdecimal():
        raise UsageError(f"{LIMIT}={text!r} is no number of megabytes", do=f"for example {LIMIT}=2048; 0 turns it off")
    return Cache(home() / "cache", int(text) * 2**20)


def key_of(parts: Sequence[object], tensors: Tensors | None = None) -> str:
    """Hash over plain values and tensors."""
    digest = hashlib.sha256(json.dumps(parts).encode())
    digest.update(_digest(tensors or {}))
    return digest.hexdigest()


def _digest(tensors: Tensors) -> bytes:
    return bytes.fromhex(fingerprint(tensors))


def _digest_tensor(tensors: Tensors) -> Tensor:
    """The digest as it stands in an entry."""
    return torch.tensor(list(_digest(tensors)), dtype=torch.uint8)


def _count_hit(path: Path) -> None:
    """Append one byte for a hit: appending is safe while other processes do the same."""
    with path.open("ab") as file:
        file.write(b".")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
