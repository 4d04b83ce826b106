"""Cached values depend on the machine and on the code that computes them; this module names both."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

import promptgraft
from promptgraft.kernels import processor
from promptgraft.model import paths

SOURCES = frozenset({".py", ".cpp", ".h"})
ROOT = Path(promptgraft.__file__).parent
RESULTS = ("kernels", "model", "prompt", "task", "readout", "measure", "train", "method", "engine")
"""The code that results come from."""
FORWARD = ("kernels", "model", "train/predict.py")
"""The code that hidden states come from; `train/predict.py` says which sequences share a product."""


def machine(device: torch.device | None = None) -> str:
    """Everything of this machine that decides the last bits of a matrix product, and how long it takes.

    Args:
        device: where it is computed; None: on the processor.
    """
    gpu = torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else None
    return "\x1f".join(map(str, (*built(), torch.get_num_threads(), *paths.choice().paths.values(), gpu)))


@cache
def built() -> tuple[object, ...]:
    """The facts of the machine that stay while a process lives, read once.

    To read a version from its package's files takes as long as a forward pass.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    return processor.name(), os.cpu_count(), capability, torch.__version__, version("transformers")


@cache
def version_of_results() -> str:
    """The package's version and a hash of the code that results come from: equal ones give equal results."""
    return f"{promptgraft.__version__}+{code(*RESULTS)[:12]}"


@cache
def code(*places: str) -> str:
    """Hash over source files: a version number that nobody has to remember."""
    digest = hashlib.sha256()
    for place in places:
        path = ROOT / place
        for file in sorted(entry for entry in path.rglob("*") if entry.suffix in SOURCES) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(ROOT)}\x1e".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
