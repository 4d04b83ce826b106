"""Matrices that lie one behind the other in memory are one matrix already."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


def stacked(weights: Sequence[Float[Tensor, "_ in"]]) -> Float[Tensor, "out in"]:
    """Stack matrices row upon row; without a copy where they adjoin, as gate and up do in a file of weights.

    A file is mapped into memory, and what has been read of it stays there beside a copy.
    """
    if not adjoin(weights):
        return torch.cat(list(weights))
    size = sum(weight.numel() for weight in weights)
    room = (ctypes.c_byte * (size * weights[0].element_size())).from_address(weights[0].data_ptr())
    room.owners = tuple(weights)  # type: ignore[attr-defined]  # they stay as long as the room is used
    return torch.frombuffer(room, dtype=weights[0].dtype, count=size).view(-1, weights[0].shape[1])


def adjoin(weights: Sequence[Tensor]) -> bool:
    """Whether each begins in the processor's memory where the one before it ends; weights that learn are left apart."""
    return all(
        weight.device.type == "cpu" and weight.is_contiguous() and not weight.requires_grad for weight in weights
    ) and all(
        first.dtype == second.dtype and first.data_ptr() + first.numel() * first.element_size() == second.data_ptr()
        for first, second in pairwise(weights)
    )
