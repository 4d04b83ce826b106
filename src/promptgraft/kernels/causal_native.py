"""Causal attention over packed rows is computed by the native path, forward and backward (`native/causal.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.kernels.native.library import CausalCall, KeyTable, address, load
from promptgraft.kernels.pattern import SOURCES, KeySource, Pattern
from promptgraft.kernels.rotary import Turns

WIDEST = 1024
"""Of a head, in the library."""

DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Attended:
    """What a layer attends with, beside queries, keys and values.

    Attributes:
        scale: what scores are multiplied by.
        turns: of the queries and of the keys.
        window: how many tokens a query sees.
        past: keys and values of kept beginnings, in the queries' type and in one piece: the library reads them where
            they lie for as long as this lives.
    """

    variant: str
    pattern: Pattern
    scale: float
    turns: tuple[Turns, Turns] | None
    window: int | None
    past: Float[Tensor, "2 A width_of_all"] | None


def is_possible(queries: Float[Tensor, "Q heads width"]) -> bool:
    """Whether the native path has such queries."""
    return queries.device.type == "cpu" and queries.dtype in DTYPES and queries.shape[-1] <= WIDEST


def attend(
    queries: Float[Tensor, "Q heads width"],
    keys_values: Float[Tensor, "R two_key_heads width"],
    prompts: Float[Tensor, "2 N width_of_all"] | None,
    attended: Attended,
) -> Float[Tensor, "Q heads width"]:
    """Attend from every query to all that it sees; see `causal.causal_attention`."""
    inputs = (queries, keys_values, prompts)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
        out: Tensor = _NativeAttention.apply(*inputs, attended)  # type: ignore[no-untyped-call]
        return out
    return _forward(queries.contiguous(), keys_values.contiguous(), _exact(prompts), attended, None)


class _NativeAttention(torch.autograd.Function):
    """Keeps what came in, what came out, and a number of every query and head."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys_values: Tensor, prompts: Tensor | None, attended: Attended) -> Tensor:
        queries, keys_values, table = queries.contiguous(), keys_values.contiguous(), _exact(prompts)
        norms = torch.empty(queries.shape[:2])
        out = _forward(queries, keys_values, table, attended, norms)
        ctx.attended, ctx.prompt_dtype = attended, None if prompts is None else prompts.dtype
        ctx.save_for_backward(queries, keys_values, table, out, norms)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys_values, prompts, out, norms = ctx.saved_tensors
        d_queries, d_keys_values, d_prompts = (
            torch.empty_like(tensor) if wanted else None
            for tensor, wanted in zip((queries, keys_values, prompts), ctx.needs_input_grad, strict=False)
        )
        call = _call(queries, keys_values, prompts, ctx.attended)
        _put(call.sources, "rows", keys_values, d_keys_values, queries.shape[2])
        _put(call.sources, "prompts", prompts, d_prompts, queries.shape[2])
        d_out = grads[0].contiguous()
        call.out, call.norms, call.d_out, call.d_query = map(address, (out, norms, d_out, d_queries))
        _run(ctx.attended.variant, call, backward=True)
        if d_prompts is not None:
            d_prompts = d_prompts.to(ctx.prompt_dtype)
        return d_queries, d_keys_values, d_prompts, None


def _exact(prompts: Tensor | None) -> Tensor | None:
    """A table of prompts as the library reads it."""
    return None if prompts is None else prompts.detach().float().contiguous()


def _forward(
    queries: Tensor, keys_values: Tensor, prompts: Tensor | None, attended: Attended, norms: Tensor | None
) -> Tensor:
    out = torch.empty_like(queries)
    call = _call(queries, keys_values, prompts, attended)
    call.out, call.norms = address(out), address(norms)
    _run(attended.variant, call, backward=False)
    return out


def _call(queries: Tensor, keys_values: Tensor, prompts: Tensor | None, attended: Attended) -> CausalCall:
    """Fill in what both directions need; the tensors outlive the call."""
    pattern = attended.pattern
    call = _asked(queries, pattern.ranges, pattern.key_heads, attended.scale)
    call.window, call.query_places = attended.window or 0, address(pattern.query_places)
    given: dict[KeySource, Tensor | None] = {"rows": keys_values, "prompts": prompts, "past": attended.past}
    for source, values in given.items():
        _put(call.sources, source, values, None, queries.shape[2])
    rows = call.sources[SOURCES.index("rows")]
    rows.places = address(pattern.key_places)
    call.sources[SOURCES.index("past")].places = address(pattern.past_places)
    if attended.turns is not None:
        of_queries, of_keys = attended.turns
        call.cosine, call.sine = address(of_queries.cosine), address(of_queries.sine)
        rows.cosine, rows.sine = address(of_keys.cosine), address(of_keys.sine)
    return call


def _asked(queries: Tensor, ranges: Tensor, key_heads: int, scale: float) -> CausalCall:
    """A call with its queries, and which ranges of keys they see."""
    call = CausalCall(
        queries=len(queries),
        heads=queries.shape[1],
        key_heads=key_heads,
        width=queries.shape[2],
        half=int(queries.dtype == torch.bfloat16),
        threads=torch.get_num_threads(),
        ranges=len(ranges),
        scale=scale,
    )
    call.query, call.seen = address(queries), address(ranges)
    return call


def attend_to_tables(
    queries: Float[Tensor, "A heads width"],
    tables: Sequence[Float[Tensor, "2 _ key_heads _ width"]],
    ranges: Int[Tensor, "N 6"],
    scale: float,
    variant: str,
) -> Float[Tensor, "A heads width"]:
    """Attend from every query to all rows of some ranges, without gradient.

    Args:
        tables: keys and values in the dtype of queries, the rows of a head side by side: a row in row r, place n of
            m is `r * key_heads * m + n`.
        ranges: of each the number of its table, 0, first query, one past the last, first row, one past the last.
    """
    queries = queries.contiguous()
    out, call = torch.empty_like(queries), _asked(queries, ranges, tables[0].shape[2], scale)
    for table, values in zip(call.sources, tables, strict=False):
        _, _, key_heads, count, width = values.shape
        assert values.is_contiguous()
        table.rows, table.stride, table.apart = len(values[0]) * key_heads * count, width, count * width
        table.half = call.half
        table.keys, table.values = _pair(values, table.rows * width)
    call.out = address(out)
    _run(variant, call, backward=False)
    return out


def _put(tables: Any, source: KeySource, values: Tensor | None, grads: Tensor | None, width: int) -> None:
    """Say where the keys of a source stand: beside their values in every row, or in a table of their own."""
    if values is None:
        return
    beside = source == "rows"
    apart = values.shape[1] * values.shape[2] // 2 if beside else values.shape[1] * values.shape[2]
    table: KeyTable = tables[SOURCES.index(source)]
    table.rows, table.stride = (len(values), 2 * apart) if beside else values.shape[1:]
    table.apart, table.half = width, int(values.dtype == torch.bfloat16)
    table.keys, table.values = _pair(values, apart)
    if grads is not None:
        table.d_keys, table.d_values = _pair(grads, apart)


def _pair(tensor: Tensor, apart: int) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.data_ptr() + apart * tensor.element_size()


def _run(variant: str, call: CausalCall, *, backward: bool) -> None:
    if load(variant).pg_causal(ctypes.byref(call), int(backward)):
        raise RunError("causal attention has no memory or no sense in the native path", do="set PROMPTGRAFT_NATIVE=0")
