"""The paths that a forward can take on this processor, and how a test takes one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from encoders import VARIANTS
from promptgraft.kernels.native.library import SWITCH

PLAIN = "0"
PATHS = sorted([*VARIANTS, PLAIN], key=lambda path: path != os.environ.get(SWITCH))
"""Plain torch, and every variant of the native path that runs here; first what the tests are told to run on, else the
ablest."""


@contextmanager
def taken(path: str) -> Iterator[None]:
    """Backbones that are loaded meanwhile take this path, whatever this processor would choose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, path)
        yield


def let_bf16_be(fast: bool, patch: pytest.MonkeyPatch) -> None:
    """From now on bf16 is what `auto` means, or is not, on whichever processor."""
    patch.setattr("promptgraft.model.load.fastest", lambda device=None: "bf16" if fast else "fp32")
