"""A product with a frozen weight is computed by the native path (`native/product.h`).

The weight stays as it was loaded, and is packed while it is multiplied; few rows wait less for that than in torch. An
output has the same bits whatever rows are beside it.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.kernels.native.library import TILED, ProductCall, address, load

BLOCK = 32
"""Widths are multiples of it."""
FEW_ROWS = 256
"""Rows in fp32 up to which torch spends a good part of its time on packing the weight (measured on AVX2)."""
REASONS = {1: "not enough memory", 2: "sizes that do not fit", 3: "the system does not let this process use its tiles"}


def is_possible(
    variant: str, x: Float[Tensor, "T in"], weight: Float[Tensor, "out in"], *others: Tensor | None
) -> bool:
    """Whether the native path has such a product, with a frozen weight: few rows in fp32, rows in bf16 on tiles."""
    tensors = [x, weight, *(other for other in others if other is not None)]
    dtype = torch.bfloat16 if variant in TILED and x.dtype == torch.bfloat16 else torch.float32
    return (
        all(tensor.dtype == dtype and tensor.device.type == "cpu" for tensor in tensors)
        and 0 < len(x) <= (FEW_ROWS if dtype == torch.float32 else len(x))
        and not weight.requires_grad
        and not any(size % BLOCK for size in weight.shape)
        and 1 in weight.stride()
    )


def product(
    x: Float[Tensor, "T in"],
    weight: Float[Tensor, "out in"],
    variant: str,
    bias: Float[Tensor, "out"] | None = None,
    added: Float[Tensor, "T out"] | None = None,
) -> Float[Tensor, "T out"]:
    """`x W^T`, with what is added to every row and to each; rows and what is added to each have gradients."""
    learns = x.requires_grad or (added is not None and added.requires_grad)
    if torch.is_grad_enabled() and learns:
        out: Tensor = _NativeProduct.apply(x, weight, variant, bias, added)  # type: ignore[no-untyped-call]
        return out
    return multiply(x, weight, variant, bias, added)


class _NativeProduct(torch.autograd.Function):
    """Keeps nothing but the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, variant: str, bias: Tensor | None, added: Tensor | None) -> Tensor:
        ctx.weight, ctx.variant = weight, variant
        return multiply(x, weight, variant, bias, added)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_x = multiply(grads[0], ctx.weight.t(), ctx.variant) if ctx.needs_input_grad[0] else None
        return d_x, None, None, None, grads[0] if ctx.needs_input_grad[4] else None


def multiply(
    x: Float[Tensor, "T in"],
    weight: Float[Tensor, "out in"],
    variant: str,
    bias: Float[Tensor, "out"] | None = None,
    added: Float[Tensor, "T out"] | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "T out"]:
    """The product, without gradient, in the rows' arithmetic or another."""
    x, added = x.contiguous(), None if added is None else added.contiguous()
    columns, depth = weight.shape
    turned = weight.stride(1) != 1
    out = torch.empty(len(x), columns, dtype=dtype or x.dtype)
    call = ProductCall(
        rows=len(x), columns=columns, depth=depth, stride=weight.stride(1 if turned else 0), turned=int(turned),
        half=int(x.dtype == torch.bfloat16), half_out=int(out.dtype == torch.bfloat16),
        threads=torch.get_num_threads(), x=address(x), weight=weight.data_ptr(), bias=address(bias),
        added=address(added), to=address(out),
    )  # fmt: skip
    reason = load(variant).pg_product(ctypes.byref(call))
    if reason:
        raise RuntimeError(f"native product: {REASONS[reason]}")
    return out
