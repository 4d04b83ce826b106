"""Packed attention against its formula, for any lengths, prompts and queries."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from promptgraft.kernels import Rows, attention, segment_mean
from promptgraft.kernels.dropout import Dropout

HEADS, WIDTH = 3, 12


def offsets(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def by_formula(q: Tensor, k: Tensor, v: Tensor, rows: Rows, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, one sequence and head at a time."""
    assert rows.prompt_starts is not None
    assert rows.prompt_of is not None
    out = []
    for s, p in enumerate(rows.prompt_of.tolist()):
        mine, prompt = (
            slice(rows.starts[s], rows.starts[s + 1]),
            slice(rows.prompt_starts[p], rows.prompt_starts[p + 1]),
        )
        query = q[rows.queries[s] : rows.queries[s + 1]].unflatten(1, (HEADS, -1))
        key = torch.cat([keys[prompt], k[mine]]).unflatten(1, (HEADS, -1))
        value = torch.cat([values[prompt], v[mine]]).unflatten(1, (HEADS, -1))
        weights = torch.einsum("ihd,jhd->hij", query, key).div((WIDTH / HEADS) ** 0.5).softmax(-1)
        out.append(torch.einsum("hij,jhd->ihd", weights, value).flatten(1))
    return torch.cat(out)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], bool]:
    lengths = draw(st.lists(st.integers(1, 13), min_size=1, max_size=24))
    prompts = draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))
    which = draw(st.lists(st.integers(0, len(prompts) - 1), min_size=len(lengths), max_size=len(lengths)))
    return lengths, prompts, which, draw(st.booleans())


@given(cases())
@example(([1], [0], [0], False))
@example(([1] * 20, [0, 9], [0] * 20, True))
@example(([70, 1, 33], [5, 2, 7], [2, 2, 0], False))
@settings(max_examples=40)
def test_values_and_gradients(case: tuple[list[int], list[int], list[int], bool]) -> None:
    lengths, prompts, which, first_only = case
    starts, seed = offsets(lengths), torch.Generator().manual_seed(len(lengths))
    queries = torch.arange(len(starts)) if first_only else starts
    rows = Rows(starts, queries, HEADS, offsets(prompts), torch.tensor(which))
    counts = (int(queries[-1]), *[int(starts[-1])] * 2, *[sum(prompts)] * 2)
    inputs = [torch.randn(n, WIDTH, generator=seed, dtype=torch.float64).requires_grad_() for n in counts]
    q, k, v, keys, values = inputs
    ours = attention(q, k, v, rows, keys, values)
    wanted = by_formula(q, k, v, rows, keys, values)
    torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=0)
    weight = torch.randn(wanted.shape, generator=seed, dtype=torch.float64)
    got = torch.autograd.grad((ours * weight).sum(), inputs)
    expected = torch.autograd.grad((wanted * weight).sum(), inputs)
    for one, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(one, reference, atol=1e-6, rtol=0)  # prompt gradients are summed in fp32
    with torch.no_grad():
        torch.testing.assert_close(attention(q, k, v, rows, keys, values), wanted, atol=1e-12, rtol=0)


def test_long_sequences_in_small_buckets() -> None:
    starts = offsets([900, 3, 1200, 500])
    rows = Rows(starts, starts, HEADS, offsets([2]), torch.zeros(4, dtype=torch.long))
    assert len(rows.keys.buckets) > 1
    q, k, v = (torch.randn(2603, WIDTH, generator=torch.Generator().manual_seed(n)) for n in range(3))
    prompt = torch.randn(2, WIDTH)
    wanted = by_formula(q, k, v, rows, prompt, prompt)
    torch.testing.assert_close(attention(q, k, v, rows, prompt, prompt), wanted, atol=1e-5, rtol=0)


def test_dropout_in_attention_has_its_own_gradient() -> None:
    starts = offsets([4, 2])
    rows = Rows(starts, starts, HEADS)
    inputs = [torch.randn(6, WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def dropped(*tensors: Tensor) -> Tensor:
        return attention(*tensors, rows, dropped=(Dropout(0.3, torch.tensor([3, 4])).over(starts), 1))

    assert torch.autograd.gradcheck(dropped, inputs)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_mean_of_each_sequence(lengths: list[int]) -> None:
    x = torch.randn(sum(lengths), 5, generator=torch.Generator().manual_seed(1))
    wanted = torch.stack([part.mean(0) for part in x.split(lengths)])
    torch.testing.assert_close(segment_mean(x, offsets(lengths)), wanted)
