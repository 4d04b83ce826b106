"""What stands between a decoder's products is computed by the native path, a pass over each row (`native/rows.h`)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.kernels.native.library import ACTIVATIONS, address, load

DTYPES = (torch.float32, torch.bfloat16)


def is_possible(*tensors: Float[Tensor, "..."]) -> bool:
    """Whether the native path has such rows, and weights of them."""
    return all(
        tensor.device.type == "cpu" and tensor.dtype in DTYPES and tensor.is_contiguous() for tensor in tensors
    ) and all(tensor.dtype == tensors[0].dtype for tensor in tensors)


def rms_norm(
    x: Float[Tensor, "*T H"], weight: Float[Tensor, "H"], epsilon: float, variant: str
) -> Float[Tensor, "*T H"]:
    """Rows over the root of their mean square, times a weight that has no gradient."""
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _NativeRootMeanSquare.apply(x, weight, epsilon, variant)  # type: ignore[no-untyped-call]
        return out
    return _root_mean_square(x, weight, epsilon, variant, None)


def gated(x: Float[Tensor, "T two_W"], name: str, variant: str) -> Float[Tensor, "T W"]:
    """The non-linearity of the first half of every row, times the second half."""
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _NativeGate.apply(x, name, variant)  # type: ignore[no-untyped-call]
        return out
    return _gate(x, name, variant)


class _NativeRootMeanSquare(torch.autograd.Function):
    """Keeps the rows and a number of each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, variant: str) -> Tensor:
        scales = torch.empty(x.shape[:-1])
        ctx.epsilon, ctx.variant = epsilon, variant
        ctx.save_for_backward(x, weight, scales)
        return _root_mean_square(x, weight, epsilon, variant, scales)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight, scales = ctx.saved_tensors
        d_x = _root_mean_square(x, weight, ctx.epsilon, ctx.variant, scales, grads[0].contiguous())
        return d_x, None, None, None


class _NativeGate(torch.autograd.Function):
    """Keeps the rows alone: what the gate lets through is computed again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, variant: str) -> Tensor:
        ctx.name, ctx.variant = name, variant
        ctx.save_for_backward(x)
        return _gate(x, name, variant)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return _gate(x, ctx.name, ctx.variant, grads[0].contiguous()), None, None


def _root_mean_square(
    x: Tensor, weight: Tensor, epsilon: float, variant: str, scales: Tensor | None, slopes: Tensor | None = None
) -> Tensor:
    """The normalised rows; with `slopes` their gradients. `scales` takes, or gives, what each is multiplied by."""
    out, width = torch.empty_like(x), x.shape[-1]
    load(variant).pg_root_mean_square(
        int(x.dtype == torch.bfloat16), address(x), address(weight), x.numel() // width, width, epsilon,
        torch.get_num_threads(), address(scales), address(slopes), address(out),
    )  # fmt: skip
    return out


def _gate(x: Tensor, name: str, variant: str, slopes: Tensor | None = None) -> Tensor:
    """The gated rows; with `slopes` their gradients."""
    width = x.shape[-1] // 2
    out = torch.empty(len(x), width, dtype=x.dtype) if slopes is None else torch.empty_like(x)
    load(variant).pg_gate(
        int(x.dtype == torch.bfloat16), ACTIVATIONS[name], address(x), len(x), width,
        torch.get_num_threads(), address(slopes), address(out),
    )  # fmt: skip
    return out
