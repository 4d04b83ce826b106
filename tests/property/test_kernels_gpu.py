"""The Triton kernels against the plain path. Needs a GPU, or TRITON_INTERPRET=1 where triton alone is installed."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from promptgraft.kernels import Rows, attention, segment_mean

pytest.importorskip("triton", reason="triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="there is no GPU here")

CASES = {
    "one token": ([1], [0], [0], 2, 16),
    "prompts of any length": ([5, 1, 17, 3], [4, 0, 9], [2, 2, 0, 1], 3, 26),
    "longer than a block": ([70, 130, 2], [33, 70, 80], [1, 0, 0], 2, 64),
    "wide heads": ([9, 40], [3], [0, 0], 1, 128),
    "without prompts": ([12, 7, 33], None, None, 2, 32),
    "an empty sequence": ([4, 0, 6], [2, 1], [1, 0, 1], 2, 16),
}


def offsets(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def case(name: str, dtype: torch.dtype, *, first_only: bool) -> tuple[Rows, list[Tensor]]:
    lengths, prompts, which, heads, width = CASES[name]
    starts, seed = offsets(lengths), torch.Generator().manual_seed(len(name))
    queries = torch.arange(len(starts)) if first_only else starts
    table = (None, None) if prompts is None else (offsets(prompts), torch.tensor(which))
    counts = [int(queries[-1]), *[int(starts[-1])] * 2, *([] if prompts is None else [sum(prompts)] * 2)]
    inputs = [torch.randn(n, heads * width, generator=seed).to(dtype) for n in counts]
    return Rows(starts, queries, heads, *table), inputs


def moved(rows: Rows) -> Rows:
    geometry = (rows.starts, rows.queries, rows.prompt_starts, rows.prompt_of)
    starts, queries, *prompts = (None if one is None else one.to(DEVICE) for one in geometry)
    return Rows(starts, queries, rows.heads, *prompts)


def by_triton(rows: Rows, inputs: list[Tensor]) -> Tensor:
    from promptgraft.kernels import gpu

    q, k, v, *table = inputs
    keys, values = table or (None, None)
    return gpu.attention(q, k, v, rows, keys, values)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("first_only", [False, True])
def test_values_and_gradients_in_fp32(name: str, first_only: bool) -> None:
    rows, plain = case(name, torch.float32, first_only=first_only)
    ours = [one.to(DEVICE).requires_grad_() for one in plain]
    wide = [one.double().requires_grad_() for one in plain]
    out = by_triton(moved(rows), ours)
    wanted = attention(*wide[:3], rows, *wide[3:])
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(out.cpu().double(), wanted, atol=1e-5, rtol=1e-5)
    got = torch.autograd.grad((out * weight.to(DEVICE)).sum(), ours)
    expected = torch.autograd.grad((wanted * weight.double()).sum(), wide)
    for one, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(one.cpu().double(), reference, atol=2e-5, rtol=1e-5)


@pytest.mark.skipif(INTERPRETED, reason="Triton's interpreter does not multiply bf16")
@pytest.mark.parametrize("name", ["prompts of any length", "longer than a block"])
def test_bf16_is_near_the_exact_values(name: str) -> None:
    rows, plain = case(name, torch.bfloat16, first_only=False)
    # Prompts stay in fp32 while they are trained.
    ours = [one.to(DEVICE, torch.float32 if n > 2 else torch.bfloat16).requires_grad_() for n, one in enumerate(plain)]
    wide = [one.double().requires_grad_() for one in plain]
    out, wanted = by_triton(moved(rows), ours), attention(*wide[:3], rows, *wide[3:])
    got = torch.autograd.grad(out.float().square().sum(), ours)
    expected = torch.autograd.grad(wanted.square().sum(), wide)
    for one, reference in zip([out, *got], [wanted, *expected], strict=True):
        error = (one.detach().cpu().double() - reference.detach()).norm() / reference.detach().norm()
        assert error < 1e-2
    assert got[3].dtype == torch.float32


def test_only_the_wanted_gradients() -> None:
    """The first layer's queries, keys and values need none; the prompt's is the same without them."""
    rows, plain = case("prompts of any length", torch.float32, first_only=False)
    there, both = moved(rows), []
    for frozen in (True, False):
        inputs = [one.to(DEVICE).requires_grad_(n > 2 or not frozen) for n, one in enumerate(plain)]
        both.append(torch.autograd.grad(by_triton(there, inputs).square().sum(), inputs[3:]))
    for one, other in zip(*both, strict=True):
        assert torch.equal(one, other)


def test_the_same_bits_again() -> None:
    rows, plain = case("longer than a block", torch.float32, first_only=False)
    found = []
    for _ in range(2):
        inputs = [one.to(DEVICE).requires_grad_() for one in plain]
        found.append(torch.autograd.grad(by_triton(moved(rows), inputs).square().sum(), inputs))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_rows_of_other_strides() -> None:
    """Queries, keys and values come as columns of one product."""
    rows, (q, k, v, *table) = case("prompts of any length", torch.float32, first_only=False)
    whole = torch.cat([q, k, v], 1).to(DEVICE)
    there = [one.to(DEVICE) for one in (q, k, v, *table)]
    columns = [*whole.chunk(3, 1), *there[3:]]
    assert torch.equal(by_triton(moved(rows), columns), by_triton(moved(rows), there))


def test_mean_of_each_sequence() -> None:
    from promptgraft.kernels import gpu

    lengths = [3, 1, 40, 7]
    plain = torch.randn(51, 150, generator=torch.Generator().manual_seed(1))
    ours, wanted = plain.to(DEVICE, copy=True).requires_grad_(), plain.clone().requires_grad_()
    one, other = gpu.segment_mean(ours, offsets(lengths).to(DEVICE)), segment_mean(wanted, offsets(lengths))
    torch.testing.assert_close(one.cpu(), other, atol=1e-6, rtol=1e-5)
    one.square().sum().backward()
    other.square().sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad.cpu(), wanted.grad, atol=1e-6, rtol=1e-5)
