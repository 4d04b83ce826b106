"""How much memory there is, and how much of it a training step may take."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from promptgraft.errors import UsageError

LOG = logging.getLogger("promptgraft")
UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LOW = "low"
# Of what is free, how much states may take: allocators round up, and a layer needs room of its own.
USABLE = 0.8
# What a step takes of a processor's memory for each byte that it keeps: what is freed between two that stay leaves
# holes. Measured on smollm2-135m, 1.5 in bf16 and 1.7 in fp32; while it writes, 1.4 in bf16.
HOLES = 1.6
# Of a GPU, what stays free of weights for states.
FOR_STATES, LEAST_FOR_STATES = 0.2, 1 << 30


@dataclass
class MemoryLimit:
    """What the process may take on a device; without one what is free there.

    Attributes:
        limit: bytes in all; 0: as little for states as can be.
        noted: what was said already.
    """

    limit: int | None = None
    noted: set[str] = field(default_factory=set, compare=False)

    @classmethod
    def parse(cls, given: str | None) -> MemoryLimit:
        """Read a size such as `4GB` or `800 MiB`, or `low`.

        Raises:
            UsageError: it is neither.
        """
        if given is None:
            return cls()
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", given.strip(), re.IGNORECASE)
        if given.strip().lower() == LOW:
            return cls(0)
        if found is None:
            raise UsageError(f"memory {given!r} is no size", do="write 4GB, 800MB, or low")
        return cls(int(float(found[1]) * UNITS[found[2].upper()]))

    def room(self, device: torch.device) -> float:
        """Bytes that may still be taken on a device."""
        free = USABLE * free_bytes(device)
        return free if self.limit is None else min(free, max(0.0, self.limit - held_bytes(device)))

    def has(self, size: float, device: torch.device) -> bool:
        """Whether there is room to keep so much; where there is none, that is logged once."""
        room, size = self.room(device), taken(size, device)
        if size <= room:
            return True
        message = "the states of a step would take %s, and there is room for %s: layers are computed again instead"
        self._note(message, shown(size), shown(room))
        return False

    def rows(self, count: int, size: float, device: torch.device) -> int:
        """How many of `count` rows have room at once, at least one; where it is not all of them, that is logged once.

        Args:
            size: bytes that a row takes.
        """
        room, size = self.room(device), taken(size, device)
        if count == 1 or size * count <= room:
            return count
        at_once = max(1, int(room / size))
        message = "what %d rows write would take %s, and there is room for %s: fewer are written at once"
        self._note(message, count, shown(size * count), shown(room))
        return at_once

    def _note(self, message: str, *values: object) -> None:
        """Log a shift that is made for want of memory, once; `low` asks for it."""
        if message not in self.noted and self.limit != 0:
            self.noted.add(message)
            LOG.warning(message, *values)

    def for_weights(self, device: torch.device) -> float:
        """Bytes that weights may take on a GPU; `low` is about states alone, since to fetch all weights is slow."""
        room = MemoryLimit().room(device) if self.limit == 0 else self.room(device)
        return max(0.0, room - max(LEAST_FOR_STATES, FOR_STATES * room))


def taken(size: float, device: torch.device) -> float:
    """What a step takes to keep so much."""
    return size if device.type == "cuda" else size * HOLES


def shown(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def free_bytes(device: torch.device) -> float:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return min(_available(), _granted())


def held_bytes(device: torch.device) -> float:
    """Bytes that this process holds on a device."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    import resource

    status = Path("/proc/self/statm")
    if status.exists():
        return float(status.read_text().split()[1]) * resource.getpagesize()
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on a Mac, where there is no such file


def _available() -> float:
    """What the system says that is available; without a word of it, no limit is known."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return float("inf")
    return float(found[1]) * 1024 if found else float("inf")


def _granted() -> float:
    """What is left of what this process's group is granted."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return float("inf")
    return float(limit) - float(used) if limit.isdigit() else float("inf")
