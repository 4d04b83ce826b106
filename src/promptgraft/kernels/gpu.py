"""Triton kernels compute attention with a prompt table and the mean of sequences, for packed rows on a GPU.

One program is one head of one sequence; nothing is padded but the edges of its blocks. The softmax is summed up
block by block in fp32 and recomputed in the backward (Dao et al. 2022, FlashAttention). No atomics: every sequence
writes its own share of its prompt's gradient, which a last kernel sums in a fixed order, so that the same call gives
the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels import triton_kernels
from promptgraft.kernels.rows import Rows

LEAST = 16  # of any side of a product on the tensor cores
SUMMED_SEQUENCES, SUMMED_WIDTH = 16, 128


def attention(
    q: Float[Tensor, "Q H"],
    k: Float[Tensor, "T H"],
    v: Float[Tensor, "T H"],
    rows: Rows,
    prompt_keys: Float[Tensor, "N H"] | None,
    prompt_values: Float[Tensor, "N H"] | None,
) -> Float[Tensor, "Q H"]:
    """Compute `kernels.attention` without dropout, for tensors on a GPU."""
    q, k, v = (tensor if tensor.stride(1) == 1 else tensor.contiguous() for tensor in (q, k, v))
    out: Tensor = _Attention.apply(q, k, v, prompt_keys, prompt_values, rows)  # type: ignore[no-untyped-call]
    return out


def segment_mean(x: Float[Tensor, "T H"], starts: Int[Tensor, "S_plus_1"]) -> Float[Tensor, "S H"]:
    """The mean of the rows of each sequence; 0 for a sequence without rows."""
    out: Tensor = _SegmentMean.apply(x, starts)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    """Attention that keeps its output and the logarithms of the softmax's sums; probabilities are recomputed."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, prompt_keys: Tensor | None, prompt_values: Tensor | None, rows: Rows
    ) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        log_sums = torch.empty(len(q), rows.heads, dtype=torch.float32, device=q.device)
        call = _call(q, k, v, prompt_keys, prompt_values, rows)
        grid = call.grid(rows.limits.queries)
        triton_kernels.forward[grid](*call.inputs, out, log_sums, *call.geometry, **call.constants)
        ctx.rows = rows
        ctx.save_for_backward(q, k, v, prompt_keys, prompt_values, out, log_sums)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, prompt_keys, prompt_values, out, log_sums = ctx.saved_tensors
        want_q, want_k, want_v, want_pk, want_pv = ctx.needs_input_grad[:5]
        rows: Rows = ctx.rows
        call = _call(q, k, v, prompt_keys, prompt_values, rows)
        d_out, delta = grads[0].contiguous(), torch.empty_like(log_sums)
        d_q, d_k, d_v = (torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in (q, k, v))
        triton_kernels.backward_queries[call.grid(rows.limits.queries)](
            *call.inputs, out, d_out, log_sums, delta, d_q, *call.geometry, WANTED=want_q, **call.constants
        )
        prompts = rows.limits.prompt if want_pk or want_pv else 0
        shares = torch.empty(2, call.sequences, prompts, k.shape[1], dtype=torch.float32, device=k.device)
        before = triton.cdiv(prompts, call.block)
        blocks = before + (triton.cdiv(rows.limits.tokens, call.block) if want_k or want_v else 0)
        if blocks:
            triton_kernels.backward_keys[call.sequences, call.heads, blocks](
                *call.inputs, d_out, log_sums, delta, d_k, d_v, shares, *call.geometry, prompts,
                PROMPT_BLOCKS=before, **call.constants,
            )  # fmt: skip
        of_prompts = _summed(shares, rows, prompt_keys) if want_pk or want_pv else (None, None)
        gradients = (d_q, d_k, d_v, *of_prompts)
        needed = (want_q, want_k, want_v, want_pk, want_pv)
        return (*(tensor if want else None for tensor, want in zip(gradients, needed, strict=True)), None)


@dataclass(frozen=True)
class _Call:
    """The arguments that the kernels of one attention call share.

    Attributes:
        inputs: queries, keys, values, the prompts' keys and values.
        geometry: offsets and prompts of the sequences, and how far apart rows lie.
        block: rows of queries, or of keys, that a program holds.
    """

    inputs: tuple[Tensor, ...]
    geometry: tuple[Tensor | int, ...]
    constants: dict[str, Any]
    sequences: int
    heads: int
    block: int

    def grid(self, longest: int) -> tuple[int, int, int]:
        """The launch grid: a program for every block of every head of sequences up to that many rows."""
        return self.sequences, self.heads, triton.cdiv(longest, self.block)


def _call(
    q: Tensor, k: Tensor, v: Tensor, prompt_keys: Tensor | None, prompt_values: Tensor | None, rows: Rows
) -> _Call:
    width = q.shape[1] // rows.heads
    # Short sequences fit one block; wide heads leave registers for small ones only.
    longest = triton.next_power_of_2(max(rows.limits.queries, rows.limits.tokens))
    block = min(64 if width <= 64 else 32, max(LEAST, longest))
    table = (q if prompt is None else prompt.contiguous() for prompt in (prompt_keys, prompt_values))
    prompts = (rows.starts, rows.starts)
    if prompt_keys is not None and rows.prompt_starts is not None and rows.prompt_of is not None:
        prompts = (rows.prompt_starts, rows.prompt_of)
    constants = {
        "PROMPTS": prompt_keys is not None,
        "HEADS": rows.heads,
        "WIDTH": width,
        "D": max(LEAST, triton.next_power_of_2(width)),
        "BLOCK": block,
        "SCALE": width**-0.5,
        # fp32 as three products of tf32, near exact and far faster than without tensor cores; one is far from 1e-5.
        "PRECISION": "tf32x3" if q.dtype == torch.float32 else "tf32",
    }
    strides = (q.stride(0), k.stride(0), v.stride(0))
    geometry = (rows.starts, rows.queries, *prompts, *strides)
    return _Call((q, k, v, *table), geometry, constants, len(rows.starts) - 1, rows.heads, block)


def _summed(shares: Float[Tensor, "2 S P H"], rows: Rows, table: Float[Tensor, "N H"]) -> tuple[Tensor, ...]:
    """Sum each prompt's gradient over its sequences' shares."""
    assert rows.prompt_starts is not None
    total = torch.empty(2, *table.shape, dtype=table.dtype, device=table.device)
    _, sequences, longest, width = shares.shape
    grid = (len(rows.prompt_starts) - 1, rows.limits.table, 2 * triton.cdiv(width, SUMMED_WIDTH))
    triton_kernels.sum_shares[grid](
        shares, rows.prompt_starts, rows.prompt_of, total, sequences, longest, len(table),
        H=width, SEQUENCES=SUMMED_SEQUENCES, BLOCK=SUMMED_WIDTH,
    )  # fmt: skip
    return total.unbind(0)


class _SegmentMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, starts: Tensor) -> Tensor:
        x = x.contiguous()
        out = torch.empty(len(starts) - 1, x.shape[1], dtype=x.dtype, device=x.device)
        triton_kernels.mean[_mean_grid(out)](x, starts, out, x.shape[1], BLOCK=SUMMED_WIDTH)
        ctx.rows = len(x)
        ctx.save_for_backward(starts)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (starts,) = ctx.saved_tensors
        d_out = grads[0].contiguous()
        d_x = torch.empty(ctx.rows, d_out.shape[1], dtype=d_out.dtype, device=d_out.device)
        triton_kernels.mean_backward[_mean_grid(d_out)](d_out, starts, d_x, d_out.shape[1], BLOCK=SUMMED_WIDTH)
        return d_x, None


def _mean_grid(out: Float[Tensor, "S H"]) -> tuple[int, int]:
    return len(out), triton.cdiv(out.shape[1], SUMMED_WIDTH)
