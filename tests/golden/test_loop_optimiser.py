"""The optimiser of all runs against torch's own, run by run, and alone against in company."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from promptgraft.train.optimiser import BETAS, Group, Leaf, plan, schedule, update

SHAPES = ((4, 2, 7, 16), (2, 16), (2,))
STEPS = 50


def leaves(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def gradient(shape: tuple[int, ...], seed: int, step: int) -> Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(1000 * seed + step))


def ours(seeds: list[int], clip: float, decay: float) -> dict[int, list[Tensor]]:
    """What becomes of the runs of these seeds when they share every step; each has a rate of its own."""
    runs = {seed: leaves(seed) for seed in seeds}
    groups = {
        seed: Group({str(i): Leaf.at_rest(value) for i, value in enumerate(run)}, 1e-2 * (1 + seed), decay, clip)
        for seed, run in runs.items()
    }
    for step in range(1, STEPS + 1):
        share = schedule(step, STEPS, 0.1)
        update(
            [
                plan(groups[seed], [gradient(tuple(one.shape), seed, step) for one in run], step, share)
                for seed, run in runs.items()
            ]
        )
    return runs


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_the_adamw_of_torch(clip: float, decay: float) -> None:
    wanted = leaves(3)
    peer = torch.optim.AdamW(wanted, lr=1.0, betas=BETAS, weight_decay=decay)
    for step in range(1, STEPS + 1):
        for one in wanted:
            one.grad = gradient(tuple(one.shape), 3, step)
        if clip:
            torch.nn.utils.clip_grad_norm_(wanted, clip)
        peer.param_groups[0]["lr"] = 4e-2 * schedule(step, STEPS, 0.1)
        peer.step()
    for mine, theirs in zip(ours([3], clip, decay)[3], wanted, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), atol=1e-6, rtol=1e-6)


def test_company_changes_no_bit() -> None:
    together = ours([0, 1, 2, 3], 1.0, 0.0)
    for seed in together:
        alone = ours([seed], 1.0, 0.0)[seed]
        assert all(torch.equal(one, other) for one, other in zip(alone, together[seed], strict=True))


def test_a_leaf_without_a_gradient_stays() -> None:
    value = torch.ones(3)
    group = Group({"a": Leaf.at_rest(value)}, 0.1, 0.0, 1.0)
    update([plan(group, [None], 1, 1.0)])
    assert torch.equal(value, torch.ones(3))
