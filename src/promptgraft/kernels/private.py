"""Private names of torch are used only here, each with a public way beside it in case a release drops the name."""

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
    counts = {step: torch.tensor(float(step), device=values[0].device) for step in set(steps)}
    at_once(values, gradients, averages, squares, [], [counts[step] for step in steps], **numbers)


def norms(tensors: Sequence[Float[Tensor, "..."]]) -> list[Float[Tensor, ""]]:
    """The Euclidean norm of each tensor; on a GPU in one call."""
    at_once = getattr(torch, "_foreach_norm", None)
    return [torch.linalg.vector_norm(tensor) for tensor in tensors] if at_once is None else list(at_once(list(tensors)))


def scaled(tensors: Sequence[Float[Tensor, "..."]], factors: Float[Tensor, "N"]) -> list[Float[Tensor, "..."]]:
    """Multiply each tensor by its factor; on a GPU in one call."""
    at_once, scalars = getattr(torch, "_foreach_mul", None), factors.unbind()
    if at_once is None:
        return [tensor * factor for tensor, factor in zip(tensors, scalars, strict=True)]
    return list(at_once(list(tensors), scalars))


def attended(
    queries: Float[Tensor, "heads m width"],
    keys: Float[Tensor, "heads n width"],
    values: Float[Tensor, "heads n width"],
    scale: float,
) -> tuple[Float[Tensor, "heads m width"], Float[Tensor, "heads m"]]:
    """Attention of all queries to all keys on a processor, without gradient, and the logarithms of its sums in fp32."""
    at_once = getattr(torch, "_scaled_dot_product_flash_attention_for_cpu", None)
    if at_once is not None:
        out, sums = at_once(queries[None], keys[None], values[None], scale=scale)
        return out[0], sums[0].float()
    scores = torch.bmm(queries, keys.mT).float() * scale
    return torch.bmm(scores.softmax(-1).to(values.dtype), values), scores.logsumexp(-1)


def version(tensor: Tensor) -> int | None:
    """How often a tensor was written to; None where torch does not count."""
    return None if tensor.is_inference() else getattr(tensor, "_version", None)
