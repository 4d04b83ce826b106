"""Checkpoints store runs while they are trained, so that the same command resumes them."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.prompt.atomic import NO_ROOM, write_bytes
from promptgraft.task.task import content_hash
from promptgraft.untrusted import read_json

Saved = tuple[dict[str, Tensor], dict[str, object]]


@dataclass
class Checkpoints:
    """Stores the state of all runs that share a batch in one file.

    Together, since the last bits of a product depend on what else is in the batch: runs that go on from
    different steps, or without those that were finished meanwhile, would end in other bits.

    Args:
        every: seconds between two saves, or longer where saving is slow: at most a twentieth of the time goes
            into it (tuned weights are as large as the backbone, four times over).
    """

    folder: Path
    every: float = 5.0
    _last: float = field(default_factory=time.monotonic)
    _cost: float = 0.0

    def is_time(self) -> bool:
        """Whether the time for the next save has come."""
        return time.monotonic() - self._last >= max(self.every, 20 * self._cost)

    def save(self, runs: Mapping[str, Saved]) -> None:
        """Write every run's tensors and plain values as one safetensors file, atomically.

        Raises:
            RunError: the file could not be written.
        """
        from safetensors.torch import save

        tensors = {
            f"{run}/{key}": value.contiguous() for run, (saved, _) in runs.items() for key, value in saved.items()
        }
        plain = {run: values for run, (_, values) in runs.items()}
        began = time.monotonic()
        path = self.folder / f"{content_hash(sorted(runs))[:16]}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, save(tensors, metadata={"state": json.dumps(plain)}))
        except OSError as error:
            do = "make room on the disk; what was kept before is whole" if error.errno in NO_ROOM else None
            raise RunError(f"the checkpoint could not be written ({error.strerror})", where=path, do=do) from error
        self._last = time.monotonic()
        self._cost = self._last - began

    def load(self, runs: Collection[str]) -> dict[str, Saved]:
        """Load the runs that were saved together; empty where there are none, or where the file cannot be read."""
        from safetensors import SafetensorError, safe_open

        for path in self._files():
            try:
                with safe_open(path, framework="pt") as file:
                    plain = _values(file.metadata(), path)
                    if not plain.keys() >= set(runs):
                        continue
                    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError, RunError):
                continue
            return {run: (_of(run, tensors), plain[run]) for run in runs}
        return {}

    def drop(self, runs: Collection[str]) -> None:
        """Delete the checkpoints whose runs are all finished."""
        from safetensors import SafetensorError, safe_open

        for path in self._files():
            try:
                with safe_open(path, framework="pt") as file:
                    finished = _values(file.metadata(), path).keys() <= set(runs)
            except (SafetensorError, OSError, RunError):
                finished = True
            if finished:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))


def _values(metadata: Mapping[str, str] | None, where: Path) -> dict[str, dict[str, object]]:
    """The plain values of each run, read from the metadata beside the tensors.

    Raises:
        RunError: there are none.
    """
    values = read_json((metadata or {}).get("state", ""), where, RunError)
    if not isinstance(values, dict) or not all(isinstance(value, dict) for value in values.values()):
        raise RunError("this holds no runs", where=where)
    return values


def _of(run: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one run, by their own names."""
    return {key.removeprefix(f"{run}/"): value for key, value in tensors.items() if key.startswith(f"{run}/")}
