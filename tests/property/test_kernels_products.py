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

WITH_TILES = [variant for variant in VARIANTS if variant in TILED]
pytestmark = pytest.mark.skipif(not WITH_TILES, reason="the native path has no tiles here")
HALF = torch.bfloat16
LAID = ("whole", "transposed", "rows of another", "columns of another")
widths = st.integers(1, 9).map(lambda blocks: 32 * blocks)


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(HALF)


def laid(out: int, into: int, how: str) -> Tensor:
    """A weight that lies in memory in one of the ways that weights are found in."""
    if how == "whole":
        return numbers(out, into, seed=1)
    if how == "transposed":
        return numbers(into, out, seed=1).t()
    if how == "rows of another":
        return numbers(out + 7, into, seed=1)[3 : 3 + out]
    return numbers(into, out + 7, seed=1)[:, 5 : 5 + out].t()


@pytest.mark.parametrize("how", LAID)
@given(rows=st.integers(1, 70), out=widths, into=widths, bias=st.booleans(), added=st.booleans())
@settings(max_examples=12)
def test_values_and_gradients(how: str, rows: int, out: int, into: int, bias: bool, added: bool) -> None:
    weight, x = laid(out, into, how), numbers(rows, into, seed=2).requires_grad_()
    shift = numbers(out, seed=3) if bias else None
    beside = numbers(rows, out, seed=4).requires_grad_() if added else None
    assert products_native.is_possible(WITH_TILES[0], x, weight, shift, beside)
    found = kernels.product(x, weight, shift, beside, WITH_TILES[0])
    exact = x.double() @ weight.double().t()
    exact = exact + (0 if shift is None else shift.double()) + (0 if beside is None else beside.double())
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-4 * into**0.5)
    slope = numbers(rows, out, seed=5)
    found.backward(slope)
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), slope.double() @ weight.double(), rtol=2**-8, atol=1e-4 * out**0.5)
    assert beside is None or torch.equal(beside.grad, slope)


def test_numbers_of_more_places_are_given_as_they_are_summed() -> None:
    x, weight = numbers(5, 576, seed=1), numbers(64, 576, seed=2)
    found = products_native.multiply(x, weight, WITH_TILES[0], dtype=torch.float32)
    torch.testing.assert_close(found.double(), x.double() @ weight.double().t(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_a_row_has_the_same_bits_alone_and_among_others_on_any_number_of_threads(threads: int) -> None:
    x, weight = numbers(300, 96, seed=1), numbers(352, 96, seed=2)
    before = torch.get_num_threads()
    whole = products_native.multiply(x, weight, WITH_TILES[0])
    try:
        torch.set_num_threads(threads)
        assert torch.equal(products_native.multiply(x, weight, WITH_TILES[0]), whole)
        for row in (0, 17, 299):
            assert torch.equal(products_native.multiply(x[row : row + 1], weight, WITH_TILES[0])[0], whole[row])
    finally:
        torch.set_num_threads(before)


def test_values_that_are_no_numbers_stay_in_their_row() -> None:
    x, weight = numbers(20, 64, seed=1), numbers(32, 64, seed=2)
    x[19] = float("nan")
    found = kernels.product(x, weight, variant=WITH_TILES[0])
    assert found[19].isnan().all()
    assert found[:19].isfinite().all()


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(3, 64), torch.zeros(32, 64)),
        (torch.zeros(3, 40, dtype=HALF), torch.zeros(32, 40, dtype=HALF)),
        (torch.zeros(3, 64, dtype=HALF), torch.zeros(30, 64, dtype=HALF)),
        (torch.zeros(0, 64, dtype=HALF), torch.zeros(32, 64, dtype=HALF)),
        (torch.zeros(3, 64, dtype=HALF), torch.zeros(32, 64, dtype=HALF, requires_grad=True)),
        (torch.zeros(3, 64, dtype=HALF), torch.zeros(64, 128, dtype=HALF)[::2, ::2]),
    ],
    ids=["fp32", "odd inputs", "odd outputs", "no rows", "a weight that learns", "a weight with gaps"],
)
def test_torch_serves_what_the_native_path_has_not(x: Tensor, weight: Tensor) -> None:
    assert not products_native.is_possible(WITH_TILES[0], x, weight)
    assert kernels.product(x, weight, variant=WITH_TILES[0]).shape == (len(x), len(weight))
