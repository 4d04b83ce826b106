"""What torch has under private names only, each with the public way beside it, should a release drop the name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adamw import adamw as public_adamw


def adamw(
    values: Sequence[Float[Tensor, "..."]],
    gradients: Sequence[Float[Tensor, "..."]],
    averages: Sequence[Float[Tensor, "..."]],
    squares: Sequence[Float[Tensor, "..."]],
    steps: Sequence[int],
    *,
    rate: float,
    betas: tuple[float, float],
    decay: float,
    epsilon: float,
) -> None:
    """Take a step of AdamW in place, one pass over each tensor.

    Args:
        averages, squares: the running means of the gradients and of their squares.
        steps: of each tensor the number of this step, from 1.
    """
    numbers: dict[str, Any] = {
        "lr": rate, "beta1": betas[0], "beta2": betas[1], "weight_decay": decay, "eps": epsilon,
        "amsgrad": False, "maximize": False,
    }  # fmt: skip
    at_once = getattr(torch, "_fused_adamw_", None)
    if at_once is None:
        before = [torch.tensor(step - 1.0) for step in steps]
        public_adamw(list(values), list(gradients), list(averages), list(squares), [], before, foreach=False, **numbers)
        return
    known = {step: torch.tensor(float(step), device=values[0].device) for step in set(steps)}
    at_once(values, gradients, averages, squares, [], [known[step] for step in steps], **numbers)


def norms(tensors: Sequence[Float[Tensor, "..."]]) -> list[Float[Tensor, ""]]:
    """The Euclidean norm of each tensor; on a GPU in one call."""
    at_once = getattr(torch, "_foreach_norm", None)
    return [torch.linalg.vector_norm(one) for one in tensors] if at_once is None else list(at_once(list(tensors)))


def scaled(tensors: Sequence[Float[Tensor, "..."]], factors: Float[Tensor, "N"]) -> list[Float[Tensor, "..."]]:
    """Each tensor times its factor; on a GPU in one call."""
    at_once, each = getattr(torch, "_foreach_mul", None), factors.unbind()
    if at_once is None:
        return [one * factor for one, factor in zip(tensors, each, strict=True)]
    return list(at_once(list(tensors), each))


def version(tensor: Tensor) -> int | None:
    """How often a tensor was written; None where torch does not count."""
    return None if tensor.is_inference() else getattr(tensor, "_version", None)
