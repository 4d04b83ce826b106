"""Local attention in blocks against its formula, for any lengths, reach, prompts and queries."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from promptgraft.kernels import Rows
from promptgraft.kernels.windows import windows

HEADS, WIDTH = 3, 12
Case = tuple[list[int], list[int], list[int], int, bool]


def offsets(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lengths = draw(st.lists(st.integers(1, 23), min_size=1, max_size=12))
    prompts = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    which = draw(st.lists(st.integers(0, len(prompts) - 1), min_size=len(lengths), max_size=len(lengths)))
    return lengths, prompts, which, draw(st.integers(0, 9)), draw(st.booleans())


def by_formula(inputs: list[Tensor], case: Case, starts: Tensor, read: Tensor) -> Tensor:
    """A query and head at a time, over the keys that are near enough and the whole prompt."""
    _, prompts, which, reach, _ = case
    q, k, v, prompt_keys, prompt_values = (one.unflatten(1, (HEADS, -1)) for one in inputs)
    ends, out = offsets(prompts), []
    for query, row in zip(q, read.tolist(), strict=True):
        sequence = int((starts <= row).sum()) - 1
        near = slice(max(int(starts[sequence]), row - reach), min(int(starts[sequence + 1]), row + reach + 1))
        prompt = slice(ends[which[sequence]], ends[which[sequence] + 1])
        keys, values = torch.cat([prompt_keys[prompt], k[near]]), torch.cat([prompt_values[prompt], v[near]])
        weights = torch.einsum("hd,jhd->hj", query, keys).div((WIDTH / HEADS) ** 0.5).softmax(-1)
        out.append(torch.einsum("hj,jhd->hd", weights, values).flatten())
    return torch.stack(out)


@given(cases())
@example(([1], [0], [0], 0, True))
@example(([40, 1, 9], [2, 0], [0, 1, 0], 4, False))
@settings(max_examples=30, deadline=None)
def test_values_and_gradients(case: Case) -> None:
    lengths, prompts, which, reach, some = case
    starts, seed = offsets(lengths), torch.Generator().manual_seed(sum(lengths))
    total = int(starts[-1])
    read = torch.rand(total, generator=seed).argsort()[: 1 + total // 3].sort().values if some else torch.arange(total)
    counts = (len(read), total, total, sum(prompts), sum(prompts))
    inputs = [torch.randn(n, WIDTH, generator=seed, dtype=torch.float64).requires_grad_() for n in counts]
    rows = Rows(starts, starts, HEADS, offsets(prompts), torch.tensor(which))
    ours = windows(rows, read if some else None, reach).attention(*inputs)
    wanted = by_formula(inputs, case, starts, read)
    torch.testing.assert_close(ours, wanted)
    weight = torch.randn(wanted.shape, generator=seed, dtype=torch.float64)
    mine = torch.autograd.grad((ours * weight).sum(), inputs, allow_unused=True)
    reference = torch.autograd.grad((wanted * weight).sum(), inputs, allow_unused=True)
    for got, expected in zip(mine, reference, strict=True):
        if got is not None and expected is not None:
            torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-5)
