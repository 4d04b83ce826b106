"""A process that was forked after a model was loaded can still compute on a processor, but not on a GPU."""

from __future__ import annotations

import os
from functools import cache

import torch

from promptgraft.errors import RunError

_forked = False
"""Whether this process was forked from one that had loaded a model."""


@cache
def prepare() -> None:
    """Let processes that are forked from now on compute on one thread.

    The threads of OpenMP are not there in a child, and the first product that is shared out among them would wait for
    ever. On one thread none is asked for; the encoder gives the same bits on any number.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_on_one_thread)


def _on_one_thread() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)


def check(device: torch.device) -> None:
    """Check that a model on this device can be used in this process.

    Raises:
        RunError: the process was forked from one that has the model on a GPU.
    """
    if _forked and device.type == "cuda":
        message = "this process was forked after the model was loaded on a GPU, which works in the first process only"
        raise RunError(message, do="start processes with multiprocessing's 'spawn', or load the model in each")
