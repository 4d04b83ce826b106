"""What torch has under private names only, each with the public way beside it, should a release drop the name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


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
