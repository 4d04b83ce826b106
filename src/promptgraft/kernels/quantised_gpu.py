"""Weights in four bits are made whole on a GPU in one pass over them, by a Triton kernel."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, UInt8
from torch import Tensor

BLOCK = 1024


def unpacked(
    pairs: UInt8[Tensor, "half_out in"],
    scale: Float[Tensor, "out groups"],
    least: Float[Tensor, "out groups"],
    dtype: torch.dtype,
) -> Float[Tensor, "out in"]:
    """The numbers of `FourBits`."""
    count, width = pairs.shape
    found = torch.empty(2 * count, width, dtype=dtype, device=pairs.device)
    groups = scale.shape[1]
    grid = (count, triton.cdiv(width, BLOCK))
    _unpack[grid](pairs, scale, least, found, width, groups, GROUP=width // groups, BLOCK=BLOCK)
    return found


@triton.jit
@no_type_check
def _unpack(pairs, scale, least, found, width, groups, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    """Write a block of two rows that share their bytes."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    packed = tl.load(pairs + row * width + column, mask=inside, other=0)
    for half in tl.static_range(2):
        at = (2 * row + half) * groups + column // GROUP
        steps = ((packed >> (4 * half)) & 15).to(tl.float32)
        value = steps * tl.load(scale + at, mask=inside).to(tl.float32) + tl.load(least + at, mask=inside).to(
            tl.float32
        )
        tl.store(found + (2 * row + half) * width + column, value.to(found.dtype.element_ty), mask=inside)
