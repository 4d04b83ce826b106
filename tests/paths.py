"""The paths that a forward can take on this processor, and how a test takes one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from encoders import VARIANTS
from promptgraft.kernels.native.library import SWITCH, chosen

PLAIN = "0"
PATHS = sorted([*VARIANTS, PLAIN], key=lambda path: path != os.environ.get(SWITCH))
"""Plain torch, and every variant of the native path that runs here; first what the tests are told to run on, else the
ablest."""


@contextmanager
def taken(path: str) -> Iterator[None]:
    """Backbones that are loaded meanwhile take this path, whatever this processor would choose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, path)
        forget_the_choice()
        yield
    forget_the_choice()


def forget_the_choice() -> None:
    """Let the next backbone choose its path anew: whatever keeps a choice for the life of a process is cleared here."""
    chosen.cache_clear()


def let_bf16_be(fast: bool, patch: pytest.MonkeyPatch) -> None:
    """From now on bf16 is what `auto` means, or is not, on whichever processor."""
    patch.setattr("promptgraft.model.load.has_fast_bf16", lambda: fast)
