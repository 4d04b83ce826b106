"""Products of the native path against the formula in double precision, for any shape and any way a weight lies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from encoders import VARIANTS
from promptgraft import kernels
from promptgraft.kernels import products_native
from promptgraft.kernels.native.library import TILED

HALF, FULL = torch.bfloat16, torch.float32
WAYS = [(variant, FULL) for variant in VARIANTS] + [(variant, HALF) for variant in VARIANTS if variant in TILED]
pytestmark = pytest.mark.skipif(not WAYS, reason="there is no native path here")
each_way = pytest.mark.parametrize(("variant", "dtype"), WAYS, ids=lambda value: str(value).removeprefix("torch."))
LAID = ("whole", "transposed", "rows of another", "columns of another")
widths = st.integers(1, 9).map(lambda blocks: 32 * blocks)


def numbers(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def laid(out: int, into: int, how: str, dtype: torch.dtype) -> Tensor:
    """A weight that lies in memory in one of the ways that weights are found in."""
    if how == "whole":
        return numbers(out, into, seed=1, dtype=dtype)
    if how == "transposed":
        return numbers(into, out, seed=1, dtype=dtype).t()
    if how == "rows of another":
        return numbers(out + 7, into, seed=1, dtype=dtype)[3 : 3 + out]
    return numbers(into, out + 7, seed=1, dtype=dtype)[:, 5 : 5 + out].t()


@each_way
@pytest.mark.parametrize("how", LAID)
@given(rows=st.integers(1, 70), out=widths, into=widths, bias=st.booleans(), added=st.booleans())
@settings(max_examples=12)
def test_values_and_gradients(
    variant: str, dtype: torch.dtype, how: str, rows: int, out: int, into: int, bias: bool, added: bool
) -> None:
    weight, x = laid(out, into, how, dtype), numbers(rows, into, seed=2, dtype=dtype).requires_grad_()
    shift = numbers(out, seed=3, dtype=dtype) if bias else None
    beside = numbers(rows, out, seed=4, dtype=dtype).requires_grad_() if added else None
    assert products_native.is_possible(variant, x, weight, shift, beside)
    found = kernels.product(x, weight, shift, beside, variant)
    exact = x.double() @ weight.double().t()
    exact = exact + (0 if shift is None else shift.double()) + (0 if beside is None else beside.double())
    rounding = 2**-8 if dtype == HALF else 1e-6
    torch.testing.assert_close(found.double(), exact, rtol=rounding, atol=closeness(dtype) * into**0.5)
    slope = numbers(rows, out, seed=5, dtype=dtype)
    found.backward(slope)
    assert x.grad is not None
    exact = slope.double() @ weight.double()
    torch.testing.assert_close(x.grad.double(), exact, rtol=rounding, atol=closeness(dtype) * out**0.5)
    assert beside is None or torch.equal(beside.grad, slope)


def closeness(dtype: torch.dtype) -> float:
    """What sums of as many products may be off, over the root of their count."""
    return 1e-4 if dtype == HALF else 1e-5


@each_way
def test_numbers_of_more_places_are_given_as_they_are_summed(variant: str, dtype: torch.dtype) -> None:
    x, weight = numbers(5, 576, seed=1, dtype=dtype), numbers(64, 576, seed=2, dtype=dtype)
    found = products_native.multiply(x, weight, variant, dtype=torch.float32)
    torch.testing.assert_close(found.double(), x.double() @ weight.double().t(), rtol=1e-5, atol=1e-4)


@each_way
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_a_row_has_the_same_bits_alone_and_among_others_on_any_number_of_threads(
    threads: int, variant: str, dtype: torch.dtype
) -> None:
    x, weight = numbers(300, 1600, seed=1, dtype=dtype), numbers(352, 1600, seed=2, dtype=dtype)
    before = torch.get_num_threads()
    whole = products_native.multiply(x, weight, variant)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(products_native.multiply(x, weight, variant), whole)
        for row in (0, 17, 299):
            assert torch.equal(products_native.multiply(x[row : row + 1], weight, variant)[0], whole[row])
    finally:
        torch.set_num_threads(before)


@each_way
def test_values_that_are_no_numbers_stay_in_their_row(variant: str, dtype: torch.dtype) -> None:
    x, weight = numbers(20, 64, seed=1, dtype=dtype), numbers(32, 64, seed=2, dtype=dtype)
    x[19] = float("nan")
    found = kernels.product(x, weight, variant=variant)
    assert found[19].isnan().all()
    assert found[:19].isfinite().all()


MANY = products_native.FEW_ROWS + 1


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(MANY, 64), torch.zeros(32, 64)),
        (torch.zeros(3, 64).double(), torch.zeros(32, 64).double()),
        (torch.zeros(3, 64, dtype=HALF), torch.zeros(32, 64)),
        (torch.zeros(3, 40), torch.zeros(32, 40)),
        (torch.zeros(3, 64), torch.zeros(30, 64)),
        (torch.zeros(0, 64), torch.zeros(32, 64)),
        (torch.zeros(3, 64), torch.zeros(32, 64, requires_grad=True)),
        (torch.zeros(3, 64), torch.zeros(64, 128)[::2, ::2]),
        (torch.zeros(3, 40, dtype=HALF), torch.zeros(32, 40, dtype=HALF)),
    ],
    ids=[
        "many rows", "fp64", "two arithmetics", "odd inputs", "odd outputs", "no rows", "a weight that learns",
        "a weight with gaps", "odd inputs in bf16",
    ],
)  # fmt: skip
def test_torch_serves_what_the_native_path_has_not(x: Tensor, weight: Tensor) -> None:
    variant = WAYS[-1][0]
    assert not products_native.is_possible(variant, x, weight)
    if x.dtype == weight.dtype:
        assert kernels.product(x, weight, variant=variant).shape == (len(x), len(weight))


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant not in TILED])
def test_bf16_without_tiles_is_left_to_torch(variant: str) -> None:
    x, weight = torch.ones(3, 64, dtype=HALF), torch.ones(32, 64, dtype=HALF)
    assert not products_native.is_possible(variant, x, weight)
    assert kernels.product(x, weight, variant=variant).eq(64).all()
