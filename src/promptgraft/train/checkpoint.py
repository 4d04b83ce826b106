"""Checkpoints of runs: whole or not there, resumed by the same command."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from promptgraft.prompt.atomic import write_bytes

Saved = tuple[dict[str, Tensor], dict[str, object]]


@dataclass
class Checkpoints:
    """One file a run, named by it.

    Args:
        every: seconds between two saves.
        stamp: what must be the same for a checkpoint to be used (job ids carry everything else).
    """

    folder: Path
    every: float = 20.0
    _last: float = field(default_factory=time.monotonic)

    def is_time(self) -> bool:
        """Whether `every` seconds have passed since the last save that was asked for."""
        if time.monotonic() - self._last < self.every:
            return False
        self._last = time.monotonic()
        return True

    def save(self, name: str, saved: Saved) -> None:
        """Write tensors and plain values as one safetensors file, atomically."""
        from safetensors.torch import save

        tensors, plain = saved
        whole = {key: value.contiguous() for key, value in tensors.items()}
        write_bytes(self._path(name), save(whole, metadata={"state": json.dumps(plain)}))

    def load(self, name: str) -> Saved | None:
        """What was saved, or None; a file that cannot be read counts as none."""
        from safetensors import SafetensorError, safe_open

        path = self._path(name)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return tensors, json.loads(file.metadata()["state"])
        except (SafetensorError, OSError, KeyError, ValueError):
            return None

    def drop(self, name: str) -> None:
        """Forget a run that is finished."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
