"""Causal attention over a tree of packed rows, forward and backward: in plain torch, or by the native path.

Levels (`kernels.pattern`) are merged by their maxima and sums, as parts of a softmax are (Milakov and Gimelshein 2018).
Where there are few keys a query the backward finds the scores' exponentials kept; where there are many it computes them
again from the merged sums (Dao et al. 2022, algorithm 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.kernels import causal_native, private
from promptgraft.kernels.pattern import HIDDEN, BlockBucket, KeySource, LevelPlan, Pattern, QueryPiece
from promptgraft.kernels.rotary import Turns

# Exponentials are kept for the backward if they are no more than so many times the queries' numbers.
MOST_KEPT = 3
# Scores of a block from which torch's own attention is faster than products and exponentials one after the other.
LEAST_AT_ONCE = 1 << 12
SideSlots = Sequence[Tensor | None]


@dataclass(frozen=True)
class Scoring:
    """How scores are made: what products are multiplied by, and their soft limit if they have one.

    Attributes:
        variant: of the native path, which makes scores that have no limit; None: plain torch.
    """

    scale: float
    cap: float | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Inputs:
    """What a layer attends with, its queries and keys turned to their places.

    Attributes:
        keys, values: of the packed rows; `values` stand in every second place of `keys_values`.
    """

    queries: Float[Tensor, "Q heads width"]
    keys: Float[Tensor, "R key_heads width"]
    values: Float[Tensor, "R key_heads width"]
    prompts: Float[Tensor, "2 N width_of_all"] | None
    past: Float[Tensor, "2 A width_of_all"] | None

    def of(self, source: KeySource) -> tuple[Tensor, Tensor]:
        """Keys and values of a source, a row a head."""
        width = self.queries.shape[-1]
        if source == "rows":
            return self.keys.reshape(-1, width), self.values.reshape(-1, width)
        table = self.prompts if source == "prompts" else self.past
        assert table is not None
        table = table.to(self.queries.dtype)
        return table[0].reshape(-1, width), table[1].reshape(-1, width)


def causal_attention(
    queries: Float[Tensor, "Q heads width"],
    keys_values: Float[Tensor, "R two_key_heads width"],
    pattern: Pattern,
    scoring: Scoring,
    *,
    turns: tuple[Turns, Turns] | None = None,
    window: int | None = None,
    prompts: Float[Tensor, "2 N width_of_all"] | None = None,
    past: Float[Tensor, "2 A width_of_all"] | None = None,
) -> Float[Tensor, "Q heads width"]:
    """Attend from every query to all that it sees.

    Args:
        keys_values: of the packed rows all heads of keys, then all of values.
        turns: of the queries and of the keys.
        window: how many tokens a query sees, itself among them; prompts are always seen.
        prompts: keys and values of all prompts, as they are.
        past: keys and values of kept beginnings, turned already; without gradient.
    """
    if not len(queries):
        return torch.zeros_like(queries)
    if scoring.variant is not None and scoring.cap is None and causal_native.is_possible(queries):
        kept = None if past is None else past.to(queries.dtype).contiguous()
        attended = causal_native.Attended(scoring.variant, pattern, scoring.scale, turns, window, kept)
        return causal_native.attend(queries, keys_values, prompts, attended)
    inputs = (queries, keys_values, prompts)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
        out: Tensor = _Attention.apply(*inputs, past, pattern, scoring, turns, window)  # type: ignore[no-untyped-call]
        return out
    turned = _turned(queries, keys_values, prompts, past, turns)
    return _attend(turned, pattern, scoring, window, None)[0]


def turned_keys(keys_values: Float[Tensor, "R two_key_heads width"], turns: Turns | None) -> Float[Tensor, "2 R wide"]:
    """The keys and values of packed rows as they are kept: keys turned, heads side by side."""
    keys, values = keys_values.chunk(2, 1)
    keys = keys if turns is None else turns.turn(keys)
    return torch.stack([keys.flatten(1), values.flatten(1)])


def _turned(
    queries: Tensor, keys_values: Tensor, prompts: Tensor | None, past: Tensor | None, turns: tuple[Turns, Turns] | None
) -> Inputs:
    keys, values = keys_values.chunk(2, 1)
    if turns is not None:
        queries, keys = turns[0].turn(queries), turns[1].turn(keys)
    return Inputs(queries, keys, values, prompts, past)


@dataclass(frozen=True)
class KeptLevel:
    """What the forward keeps of a level.

    Attributes:
        weights: of every piece the exponentials of its scores beyond the highest of their query.
        tops: of every slot's heads the highest score.
    """

    weights: list[Tensor]
    tops: Float[Tensor, "slots group"]


def _attend(
    inputs: Inputs, pattern: Pattern, scoring: Scoring, window: int | None, kept: list[KeptLevel] | None
) -> tuple[Tensor, Tensor]:
    """The attended values, and of every query and head the logarithm of what its scores' exponentials sum to.

    Args:
        kept: takes what a backward needs of every level; None: nothing.
    """
    queries = inputs.queries
    width = queries.shape[-1]
    flat = queries.reshape(len(queries) * pattern.key_heads, pattern.group * width)
    parts = [_level(flat, inputs, plan, pattern, scoring, kept) for plan in pattern.plans(window)]
    if len(parts) == 1:
        values, top, total = parts[0]
        return values.div_(total).view(queries.shape), total.log_().add_(top)
    highest = parts[0][1].clone()
    for _, top, _ in parts[1:]:
        torch.maximum(highest, top, out=highest)
    shares = [top.sub_(highest).exp_() for _, top, _ in parts]
    sums = torch.zeros_like(highest)
    for (_, _, total), share in zip(parts, shares, strict=True):
        sums.addcmul_(total, share)
    result: Tensor | None = None
    for (values, _, _), share in zip(parts, shares, strict=True):
        weight = share.div_(sums)
        result = values.mul_(weight) if result is None else result.addcmul_(values, weight.to(values.dtype))
    assert result is not None
    return result.view(queries.shape), sums.log_().add_(highest)


def _level(
    flat: Tensor,
    inputs: Inputs,
    plan: LevelPlan,
    pattern: Pattern,
    scoring: Scoring,
    kept: list[KeptLevel] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every query and head at one level: the sum of values by exponentials, the highest score, and their sum."""
    keys, values = (table.index_select(0, plan.key_slots) for table in inputs.of(plan.source))
    queries = flat.index_select(0, plan.query_slots)
    outputs = torch.empty_like(queries)
    tops = torch.empty(len(queries), pattern.group, dtype=torch.float32, device=queries.device)
    totals = torch.empty_like(tops)
    pieces: list[Tensor] = []
    for bucket, (query, output, top, total), (key, value) in _by_bucket(
        plan, pattern, [queries, outputs, tops, totals], [keys, values]
    ):
        for piece in bucket.pieces:
            part = slice(piece.queries.start * pattern.group, piece.queries.stop * pattern.group)
            if kept is None and _at_once(query, bucket, piece, scoring):
                output[:, part], top[:, part, 0] = private.attended(
                    query[:, part], key[:, piece.keys], value[:, piece.keys], scoring.scale
                )
                total[:, part] = 1
                continue
            scores = _scores(query[:, part], key[:, piece.keys], bucket, piece, pattern, scoring)
            highest = scores.amax(-1, keepdim=True)
            weights = scores.sub_(highest).exp_()
            top[:, part], total[:, part] = highest, weights.sum(-1, keepdim=True, dtype=torch.float32)
            output[:, part] = torch.bmm(weights, value[:, piece.keys])
            if kept is not None:
                pieces.append(weights)
    if kept is not None:
        kept.append(KeptLevel(pieces, tops))
    shape = (len(inputs.queries), inputs.queries.shape[1], -1)
    grown = [
        _of_rows(part, plan.query_back, plan.query_rows, len(inputs.queries), pattern.key_heads, empty).view(shape)
        for part, empty in ((outputs, 0.0), (tops, HIDDEN), (totals, 0.0))
    ]
    return grown[0], grown[1], grown[2]


def _at_once(query: Tensor, bucket: BlockBucket, piece: QueryPiece, scoring: Scoring) -> bool:
    """Whether torch's own attention takes a piece without gradient: one large block in which all see all."""
    alike = bucket.blocks == 1 and piece.bias is None and scoring.cap is None
    return alike and query.device.type == "cpu" and bucket.queries * bucket.keys >= LEAST_AT_ONCE


def _scores(
    query: Tensor, key: Tensor, bucket: BlockBucket, piece: QueryPiece, pattern: Pattern, scoring: Scoring
) -> Float[Tensor, "bh mg n"]:
    """The scores of a piece, with what must not be seen far below all else."""
    nothing = query.new_zeros(1, 1, 1)
    scores = torch.baddbmm(nothing, query, key.mT, beta=0, alpha=scoring.scale)
    if scoring.cap is not None:
        scores.div_(scoring.cap).tanh_().mul_(scoring.cap)
    if piece.bias is not None:
        scores.view(bucket.blocks, pattern.key_heads, -1, pattern.group, scores.shape[-1]).add_(piece.bias)
    return scores


def _by_bucket(plan: LevelPlan, pattern: Pattern, query_side: SideSlots, key_side: SideSlots) -> Any:
    """Every bucket with its part of the slots: `[b * key_heads, m * group, width]` and `[b * key_heads, n, width]`."""
    at_query = at_key = 0
    for bucket in plan.buckets:
        count, rows = bucket.blocks * pattern.key_heads, bucket.queries * pattern.group
        queries = slice(at_query, at_query := at_query + count * bucket.queries)
        keys = slice(at_key, at_key := at_key + count * bucket.keys)
        yield (
            bucket,
            [None if slots is None else slots[queries].view(count, rows, -1) for slots in query_side],
            [None if slots is None else slots[keys].view(count, bucket.keys, -1) for slots in key_side],
        )


def _of_rows(slots: Tensor, back: Tensor, rows: Tensor | None, count: int, key_heads: int, empty: float) -> Tensor:
    """Slots as rows again; rows that the level does not have are `empty`."""
    found = slots.index_select(0, back)
    if rows is None:
        return found
    full = found.new_full((count, key_heads * slots.shape[1]), empty)
    return full.index_copy_(0, rows, found.view(len(rows), -1)).view(count * key_heads, -1)


class _Attention(torch.autograd.Function):
    """Attention with a written-out backward that keeps no scores."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        queries, keys_values, prompts, past, pattern, scoring, turns, window = arguments
        inputs = _turned(queries, keys_values, prompts, past, turns)
        ctx.kept = [] if scoring.cap is None and pattern.scores(window) <= MOST_KEPT * queries.numel() else None
        out, sums = _attend(inputs, pattern, scoring, window, ctx.kept)
        ctx.pattern, ctx.scoring, ctx.turns, ctx.window = pattern, scoring, turns, window
        ctx.save_for_backward(inputs.queries, inputs.keys, inputs.values, prompts, past, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, prompts, past, out, sums = ctx.saved_tensors
        inputs = Inputs(queries, keys, values, prompts, past)
        wanted = WantedGradients(*ctx.needs_input_grad[:3])
        d_queries, d_keys_values, d_prompts = _gradients(inputs, grads[0], out, sums, ctx, wanted)
        if ctx.turns is not None:
            if d_queries is not None:
                d_queries = ctx.turns[0].back.turn(d_queries)
            if d_keys_values is not None:
                heads = d_keys_values.shape[1] // 2
                d_keys_values[:, :heads] = ctx.turns[1].back.turn(d_keys_values[:, :heads])
        return d_queries, d_keys_values, d_prompts, None, None, None, None, None


@dataclass(frozen=True)
class WantedGradients:
    """Which inputs have a gradient: queries, keys and values of the rows, prompts."""

    queries: bool
    rows: bool
    prompts: bool

    def of_keys(self, source: KeySource) -> bool:
        return {"prompts": self.prompts, "rows": self.rows, "past": False}[source]


def _gradients(
    inputs: Inputs, d_out: Tensor, out: Tensor, sums: Tensor, ctx: Any, wanted: WantedGradients
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    pattern: Pattern = ctx.pattern
    queries, keys = inputs.queries, inputs.keys
    count, cells = len(queries), len(queries) * pattern.key_heads
    means = (d_out * out).sum(-1, dtype=torch.float32)
    flat = [tensor.reshape(cells, -1) for tensor in (queries, d_out, sums, means)]
    d_queries: Tensor | None = None
    d_rows = torch.zeros(len(keys), 2, *keys.shape[1:], dtype=keys.dtype, device=keys.device) if wanted.rows else None
    d_prompts = None if inputs.prompts is None else torch.zeros_like(inputs.prompts, dtype=torch.float32)
    for number, plan in enumerate(pattern.plans(ctx.window)):
        if not (wanted.queries or wanted.of_keys(plan.source)):
            continue
        kept = None if ctx.kept is None else ctx.kept[number]
        d_query, d_key, d_value = _level_gradients(flat, inputs, plan, pattern, ctx.scoring, wanted, kept)
        if d_query is not None:
            grown = _of_rows(d_query, plan.query_back, plan.query_rows, count, pattern.key_heads, 0.0)
            d_queries = grown if d_queries is None else d_queries.add_(grown)
        for place, grad in enumerate((d_key, d_value)):
            if grad is None:
                continue
            rows = grad.index_select(0, plan.key_back)
            if plan.source == "prompts" and d_prompts is not None:
                _add(d_prompts[place], plan.key_rows, rows.view(-1, d_prompts.shape[-1]))
            elif d_rows is not None:
                _add(d_rows[:, place], plan.key_rows, rows.view(-1, *keys.shape[1:]))
    if d_prompts is not None and inputs.prompts is not None:
        d_prompts = d_prompts.to(inputs.prompts.dtype)
    return (
        None if d_queries is None else d_queries.view(queries.shape),
        None if d_rows is None else d_rows.view(len(keys), -1, keys.shape[-1]),
        d_prompts if wanted.prompts else None,
    )


def _add(total: Tensor, rows: Tensor | None, addend: Tensor) -> None:
    """Add to some rows, none of them twice, or to all."""
    if rows is None:
        total += addend
    else:
        total[rows] += addend.to(total.dtype)


def _level_gradients(
    flat: Sequence[Tensor],
    inputs: Inputs,
    plan: LevelPlan,
    pattern: Pattern,
    scoring: Scoring,
    wanted: WantedGradients,
    kept: KeptLevel | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of a level's queries, keys and values, in slots.

    With what the forward kept, its exponentials are those of a probability but for a factor a query, which is taken
    into the queries and gradients that they are multiplied by.
    """
    of_keys = wanted.of_keys(plan.source)
    keys, values = (table.index_select(0, plan.key_slots) for table in inputs.of(plan.source))
    queries, d_outs, sums, means = (tensor.index_select(0, plan.query_slots) for tensor in flat)
    if len(plan.padding):
        d_outs.index_fill_(0, plan.padding, 0)
        means.index_fill_(0, plan.padding, 0)
    shares = torch.ones_like(sums) if kept is None else (kept.tops - sums).exp_()
    factors, lower = (shares * scoring.scale).to(queries.dtype), means.neg_().to(queries.dtype)
    scaled = _scaled(queries, factors) if of_keys else None
    passed = _scaled(d_outs, shares.to(queries.dtype)) if of_keys else None
    d_queries = torch.empty_like(queries) if wanted.queries else None
    d_keys, d_values = (torch.zeros_like(keys), torch.zeros_like(values)) if of_keys else (None, None)
    query_side = [queries, scaled, d_outs, passed, sums, lower, d_queries]
    weights_of = iter(() if kept is None else kept.weights)
    for bucket, query_part, key_part in _by_bucket(plan, pattern, query_side, [keys, values, d_keys, d_values]):
        query, query_scaled, d_out, d_passed, sum_, less, d_query = query_part
        key, value, d_key, d_value = key_part
        for piece in bucket.pieces:
            part = slice(piece.queries.start * pattern.group, piece.queries.stop * pattern.group)
            slope = None
            if kept is None:
                scores = _scores(query[:, part], key[:, piece.keys], bucket, piece, pattern, scoring)
                slope = None if scoring.cap is None else 1 - (scores / scoring.cap).clamp(-1, 1).square_()
                weights = scores.sub_(sum_[:, part]).exp_()
            else:
                weights = next(weights_of)
            d_scores = torch.baddbmm(less[:, part], d_out[:, part], value[:, piece.keys].mT).mul_(weights)
            d_scores = d_scores if slope is None else d_scores.mul_(slope)
            if d_query is not None:
                d_query[:, part] = torch.bmm(d_scores, key[:, piece.keys])
            if d_key is not None:
                d_key[:, piece.keys].add_(torch.bmm(d_scores.mT, query_scaled[:, part]))
                d_value[:, piece.keys].add_(torch.bmm(weights.mT, d_passed[:, part]))
    if d_queries is not None:
        d_queries.unflatten(1, (pattern.group, -1)).mul_(factors[..., None])
    return d_queries, d_keys, d_values


def _scaled(slots: Tensor, factors: Float[Tensor, "slots group"]) -> Tensor:
    """The slots with every head times its own factor."""
    heads: Tensor = slots.unflatten(1, (factors.shape[1], -1))
    return (heads * factors[..., None]).flatten(1)
