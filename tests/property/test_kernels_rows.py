"""Norms and gates of the native path against plain torch in double precision, for any shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from encoders import VARIANTS
from promptgraft import kernels

pytestmark = pytest.mark.skipif(not VARIANTS, reason="the native path is not compiled here")
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 2e-2}
dtypes = st.sampled_from(list(TOLERANCES))


def check(native: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], x: Tensor, seed: int) -> None:
    """Compare values and gradients, with a graph and without."""
    mine, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    found, wanted = native(mine), plain(exact)
    direction = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(seed)).to(x.dtype)
    (d_mine,) = torch.autograd.grad(found, mine, direction)
    (d_exact,) = torch.autograd.grad(wanted, exact, direction.double())
    with torch.no_grad():
        assert torch.equal(native(x.clone()), found)
    for result, expected in ((found, wanted), (d_mine, d_exact)):
        scale = max(1.0, float(expected.detach().abs().max()))
        torch.testing.assert_close(result.double(), expected, atol=TOLERANCES[x.dtype] * scale, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@given(rows=st.integers(1, 9), heads=st.integers(1, 3), width=st.integers(1, 70), dtype=dtypes)
@settings(max_examples=8)
def test_root_mean_square(variant: str, rows: int, heads: int, width: int, dtype: torch.dtype) -> None:
    seed = torch.Generator().manual_seed(width)
    x, weight = torch.randn(rows, heads, width, generator=seed).to(dtype), torch.randn(width, generator=seed).to(dtype)
    by_formula = partial(F.rms_norm, normalized_shape=(width,), weight=weight.double(), eps=1e-5)
    check(lambda x: kernels.rms_norm(x, weight, 1e-5, variant), by_formula, x, 1)


@pytest.mark.parametrize("variant", VARIANTS)
@given(rows=st.integers(1, 9), width=st.integers(1, 70), dtype=dtypes, reach=st.sampled_from([1.0, 100.0]))
@settings(max_examples=8)
@pytest.mark.parametrize("name", ["silu", "gelu_pytorch_tanh", "gelu", "relu"])
def test_gate(variant: str, name: str, rows: int, width: int, dtype: torch.dtype, reach: float) -> None:
    x = reach * torch.randn(rows, 2 * width, generator=torch.Generator().manual_seed(width)).to(dtype)
    check(lambda x: kernels.gated(x, name, variant), lambda x: kernels.gated(x, name), x, 2)
