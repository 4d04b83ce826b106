"""Embedding, normalisation, activation and pooling of packed rows: plain torch, and the native path where asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels.device import on_gpu

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def activation(x: Float[Tensor, "..."], name: str) -> Float[Tensor, "..."]:
    """Apply the non-linearity that a config.json calls `name` (one of ACTIVATIONS)."""
    return ACTIVATIONS[name](x)


def product(
    x: Float[Tensor, "T in"],
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, "out"] | None = None,
    added: Float[Tensor, "T out"] | None = None,
    variant: str | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "T out"]:
    """`x W^T`, with what is added to every row and to each.

    Args:
        variant: of the native path; None: plain torch.
        dtype: of a result that has no gradient; None: that of the rows.
    """
    if variant is not None:
        from promptgraft.kernels import products_native  # not above: the libraries are compiled from below this package

        if products_native.is_possible(variant, x, weight, bias, added):
            if dtype is not None:
                return products_native.multiply(x, weight, variant, bias, added, dtype)
            return products_native.product(x, weight, variant, bias, added)
    if added is None:
        return F.linear(x, weight, bias).to(dtype or x.dtype)
    total = torch.addmm(added, x, weight.t())
    return (total if bias is None else total + bias).to(dtype or x.dtype)


def gated(x: Float[Tensor, "T two_W"], name: str, variant: str | None = None) -> Float[Tensor, "T W"]:
    """The non-linearity of the first half of every row, times the second half.

    Without gradients the rows are no longer what they were.

    Args:
        variant: of the native path; None: plain torch.
    """
    if variant is not None:
        from promptgraft.kernels import rows_native

        if rows_native.is_possible(x):
            return rows_native.gated(x, name, variant)
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _Gated.apply(x, name)  # type: ignore[no-untyped-call]
        return out
    gate, value = x.chunk(2, -1)
    opened = F.silu(gate, inplace=True) if name == "silu" else activation(gate, name)
    return opened.mul_(value)


def rms_norm(
    x: Float[Tensor, "*T H"], weight: Float[Tensor, "H"], epsilon: float, variant: str | None = None
) -> Float[Tensor, "*T H"]:
    """Rows over the root of their mean square, which is taken in fp32, times a weight.

    Args:
        variant: of the native path, which has no gradient of the weight; None: plain torch.
    """
    if variant is not None and not weight.requires_grad:
        from promptgraft.kernels import rows_native

        if rows_native.is_possible(x, weight):
            return rows_native.rms_norm(x, weight, epsilon, variant)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        out: Tensor = _RootMeanSquare.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
        return out
    if x.is_cuda:  # one kernel in the place of seven, which each run shorter than they take to start
        return F.rms_norm(x, weight.shape, weight, epsilon)
    return (x * _scale_of(x, epsilon).to(x.dtype)).mul_(weight)


def _scale_of(x: Float[Tensor, "*T H"], epsilon: float) -> Float[Tensor, "*T 1"]:
    """One over the root of each row's mean square."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()


class _RootMeanSquare(torch.autograd.Function):
    """Keeps the rows and a number of each; torch's own passes over them many times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = _scale_of(x, epsilon)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale.to(x.dtype)).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = (grads[0] * x * scale.to(x.dtype)).flatten(0, -2).sum(0)
        d_normed = grads[0] * weight
        means = (d_normed * x).sum(-1, keepdim=True, dtype=torch.float32).div_(x.shape[-1])
        d_normed.mul_(scale.to(x.dtype))
        return d_normed.addcmul_(x, (means * scale.pow(3)).to(x.dtype), value=-1), d_weight, None


class _Gated(torch.autograd.Function):
    """Keeps the rows alone: what the gate lets through is computed again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str) -> Tensor:
        ctx.name = name
        ctx.save_for_backward(x)
        gate, value = x.chunk(2, -1)
        return activation(gate, name).mul_(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        gate, value = x.chunk(2, -1)
        d_x = torch.empty_like(x)
        d_gate, d_value = d_x.chunk(2, -1)
        with torch.enable_grad():
            gate = gate.detach().requires_grad_()
            opened = activation(gate, ctx.name)
        torch.mul(grads[0], opened.detach(), out=d_value)
        (d_opened,) = torch.autograd.grad(opened, gate, grads[0] * value)
        d_gate.copy_(d_opened)
        return d_x, None


def add_norm(
    x: Float[Tensor, "T H"],
    residual: Float[Tensor, "T H"],
    weight: Float[Tensor, "H"],
    bias: Float[Tensor, "H"],
    epsilon: float,
) -> Float[Tensor, "T H"]:
    """LayerNorm of `x + residual`, with statistics in fp32."""
    return F.layer_norm(x + residual, weight.shape, weight, bias, epsilon)


def embed_norm(
    words: Float[Tensor, "T E"],
    types: Float[Tensor, "T E"],
    positions: Float[Tensor, "T E"],
    weight: Float[Tensor, "E"],
    bias: Float[Tensor, "E"],
    epsilon: float,
) -> Float[Tensor, "T E"]:
    """LayerNorm of the sum of the three input embeddings."""
    return F.layer_norm(words + types + positions, weight.shape, weight, bias, epsilon)


def segment_mean(x: Float[Tensor, "T H"], starts: Int[Tensor, "S_plus_1"]) -> Float[Tensor, "S H"]:
    """The mean of the rows of each sequence."""
    if on_gpu(x):
        from promptgraft.kernels import gpu

        return gpu.segment_mean(x, starts)
    return torch.segment_reduce(x, "mean", offsets=starts, axis=0)
