"""AdamW moves all runs of a step in a few calls; a run's result does not depend on the others, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels import private

BETAS = (0.9, 0.98)
"""As in the measurements the default recipes come from."""
EPSILON = 1e-8


@dataclass(frozen=True)
class Leaf:
    """A trained tensor with the moments that AdamW keeps of its gradients."""

    value: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def at_rest(cls, value: Tensor) -> Leaf:
        """A leaf before its first step, with moments of zero."""
        nothing = torch.zeros_like(value, requires_grad=False)
        return cls(value, nothing, nothing.clone())


@dataclass(frozen=True)
class Group:
    """Tensors of one run that move at one rate and are clipped together.

    Attributes:
        leaves: by name.
        rate: at the peak of the schedule.
        decay: of the weights, decoupled.
        clip: largest norm of the gradient; 0 = off.
    """

    leaves: dict[str, Leaf]
    rate: float
    decay: float
    clip: float


@dataclass(frozen=True)
class Move:
    """The next step of one group.

    Attributes:
        leaves: those with a gradient; the others stay as they are.
        step: its number, from 1.
        rate: of this step.
    """

    group: Group
    leaves: Sequence[Leaf]
    gradients: Sequence[Tensor]
    step: int
    rate: float


def plan(group: Group, gradients: Sequence[Tensor | None], step: int, share: float) -> Move:
    """Plan a group's step from its gradients, at a share of the peak rate."""
    pairs = zip(group.leaves.values(), gradients, strict=True)
    moving = [(leaf, laid_out(gradient, leaf.value)) for leaf, gradient in pairs if gradient is not None]
    return Move(group, [leaf for leaf, _ in moving], [gradient for _, gradient in moving], step, group.rate * share)


def laid_out(gradient: Float[Tensor, "..."], value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Lay the gradient out in memory as the value is: the fused kernel walks through both side by side."""
    return gradient if gradient.stride() == value.stride() else torch.empty_like(value).copy_(gradient)


def update(moves: Sequence[Move]) -> None:
    """Clip every group's gradient and take its step of AdamW (Loshchilov & Hutter 2019)."""
    calls: dict[tuple[float, float, torch.device], list[tuple[Leaf, Tensor, int]]] = {}
    with torch.no_grad():
        for move, gradients in zip(moves, clipped(moves), strict=True):
            for leaf, gradient in zip(move.leaves, gradients, strict=True):
                call = calls.setdefault((move.rate, move.group.decay, gradient.device), [])
                call.append((leaf, gradient, move.step))
        for (rate, decay, _), members in calls.items():
            _adamw(members, rate, decay)


def _adamw(members: Sequence[tuple[Leaf, Tensor, int]], rate: float, decay: float) -> None:
    """Step tensors of one device that share a rate and a decay."""
    private.adamw(
        [leaf.value for leaf, _, _ in members],
        [gradient for _, gradient, _ in members],
        [leaf.exp_avg for leaf, _, _ in members],
        [leaf.exp_avg_sq for leaf, _, _ in members],
        [step for _, _, step in members],
        rate=rate,
        betas=BETAS,
        decay=decay,
        epsilon=EPSILON,
    )


def clipped(moves: Sequence[Move]) -> list[Sequence[Tensor]]:
    """Each group's gradients, shortened where their common norm is above what the group allows.

    Nothing is written in place: autograd may give one tensor to two leaves. Nothing is read back from the device.
    """
    flat = [gradient for move in moves for gradient in move.gradients]
    sizes = [len(move.gradients) for move in moves]
    if not flat or not any(move.group.clip for move in moves):
        return [move.gradients for move in moves]
    squares = torch.stack(private.norms(flat)).square()
    limits = [move.group.clip or torch.inf for move in moves]
    rectangle, owner = _places(tuple(sizes), squares.device)
    shrink = (squares.new_tensor(limits) / (_sums(squares, rectangle).sqrt() + 1e-6)).clamp(max=1)
    short = iter(private.scaled(flat, shrink[owner]))
    return [[next(short) for _ in range(size)] for size in sizes]


@lru_cache(maxsize=8)
def _places(sizes: tuple[int, ...], device: torch.device) -> tuple[Int[Tensor, "M most"], Int[Tensor, "N"]]:
    """The indices of each group's members, padded with N to the largest group, and the group of every member."""
    ends, width = [0, *accumulate(sizes)], max(sizes)
    rectangle = [
        [first + place if place < size else ends[-1] for place in range(width)]
        for first, size in zip(ends, sizes, strict=False)
    ]
    owner = [group for group, size in enumerate(sizes) for _ in range(size)]
    return torch.tensor(rectangle, device=device), torch.tensor(owner, device=device)


def _sums(values: Float[Tensor, "N"], rectangle: Int[Tensor, "M most"]) -> Float[Tensor, "M"]:
    """Sum each group, its members added one by one, so that no sum depends on how long another group is."""
    return reduce(torch.add, torch.cat([values, values.new_zeros(1)])[rectangle].unbind(1))


def schedule(step: int, steps: int, warmup: float) -> float:
    """The share of the peak rate at a step (from 1): it rises over the warm-up, then falls to 0 after the last step."""
    rise = max(1, round(warmup * steps))
    return step / rise if step <= rise else (steps - step + 1) / max(1, steps - rise + 1)
