"""This module tells which tensors the GPU kernels serve."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

WIDTHS = (torch.float32, torch.bfloat16)


def on_gpu(x: Tensor) -> bool:
    """Whether the Triton kernels take a tensor; all others go through plain torch, which works everywhere."""
    return x.is_cuda and x.dtype in WIDTHS and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
