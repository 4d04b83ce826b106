"""A layer is computed again in the backward, so that between the two nothing of it is kept but what came in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

LayerStep = Callable[..., Tensor]
"""A frozen layer, of states and of its prompts' keys and values."""


def computed_again(
    step: LayerStep, x: Float[Tensor, "R H"], prompts: Float[Tensor, "2 N K"] | None
) -> Float[Tensor, "Q H"]:
    """`step(x, prompts)` and its gradients, to the bit; a layer's own tensors live only while it is computed."""
    out: Tensor = _Again.apply(step, x, prompts)  # type: ignore[no-untyped-call]
    return out


class _Again(torch.autograd.Function):
    """The forward has gradients on too: without them a layer may take another path, with other last bits."""

    @staticmethod
    def forward(ctx: Any, step: LayerStep, x: Tensor, prompts: Tensor | None) -> Tensor:
        ctx.step = step
        ctx.save_for_backward(x, prompts)
        with torch.enable_grad():
            return step(*_leaves((x, prompts), ctx)).detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        leaves = _leaves(ctx.saved_tensors, ctx)
        with torch.enable_grad():
            out = ctx.step(*leaves)
        wanted = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
        found = iter(torch.autograd.grad(out, wanted, grads[0]))
        return None, *(next(found) if leaf is not None and leaf.requires_grad else None for leaf in leaves)


def _leaves(tensors: Sequence[Tensor | None], ctx: Any) -> list[Tensor | None]:
    """What came in, cut off from what it was made of."""
    pairs = zip(tensors, ctx.needs_input_grad[1:], strict=True)
    return [None if tensor is None else tensor.detach().requires_grad_(wanted) for tensor, wanted in pairs]
