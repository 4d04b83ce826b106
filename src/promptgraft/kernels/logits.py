"""Log-probabilities of words are computed in pieces, so that a table of all words for all rows never exists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels.plain import product

# Logits of a piece: 64 MiB in fp32.
MOST_LOGITS = 1 << 24


def log_probabilities(
    states: Float[Tensor, "N H"],
    words: Int[Tensor, "M"],
    row_of: Int[Tensor, "M"],
    head: Float[Tensor, "V H"],
    cap: float | None = None,
    bias: Float[Tensor, "V"] | None = None,
    variant: str | None = None,
) -> Float[Tensor, "M"]:
    """The log-probability of words over the whole vocabulary, in fp32.

    Args:
        states: as the head takes them.
        row_of: of every word the state that it is read at.
        cap: soft limit of the logits; None: none.
        bias: of every word, which gets no gradient; None: none.
        variant: of the native path; None: plain torch.
    """
    found: Tensor = _LogProbabilities.apply(states, words, row_of, head, cap, bias, variant)  # type: ignore[no-untyped-call]
    return found


def pieces(rows: int, vocabulary: int) -> Iterator[slice]:
    """Rows in pieces of so many that their logits are few enough."""
    step = max(1, MOST_LOGITS // vocabulary)
    for first in range(0, rows, step):
        yield slice(first, min(rows, first + step))


def logits(
    states: Float[Tensor, "N H"],
    head: Float[Tensor, "V H"],
    cap: float | None = None,
    bias: Float[Tensor, "V"] | None = None,
    variant: str | None = None,
) -> Float[Tensor, "N V"]:
    """The logits of all words in fp32, without gradient; `states` are few."""
    scores = product(states, head, variant=variant, dtype=torch.float32)
    if bias is not None:
        scores = scores.add_(bias)
    return scores if cap is None else scores.div_(cap).tanh_().mul_(cap)


class _LogProbabilities(torch.autograd.Function):
    """Keeps of the forward a number a row; the backward computes logits again, a piece at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        words: Tensor,
        row_of: Tensor,
        head: Tensor,
        cap: float | None,
        bias: Tensor | None,
        variant: str | None,
    ) -> Float[Tensor, "M"]:
        sums = states.new_empty(len(states), dtype=torch.float32)
        own = states.new_empty(len(words), dtype=torch.float32)
        order, bounds = _by_row(row_of, len(states))
        for piece in pieces(len(states), len(head)):
            scores = logits(states[piece], head, cap, bias, variant)
            sums[piece] = scores.logsumexp(1)
            chosen = order[bounds[piece.start] : bounds[piece.stop]]
            own[chosen] = scores[row_of[chosen] - piece.start, words[chosen]]
        ctx.cap, ctx.bias, ctx.variant = cap, bias, variant
        ctx.save_for_backward(states, words, row_of, head, sums)
        return own - sums[row_of]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, words, row_of, head, sums = ctx.saved_tensors
        of_rows = torch.zeros_like(sums).index_add_(0, row_of, grads[0])
        order, bounds = _by_row(row_of, len(states))
        want_states, want_head = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
        d_states = torch.empty_like(states) if want_states else None
        d_head = torch.zeros_like(head, dtype=torch.float32) if want_head else None
        for piece in pieces(len(states), len(head)):
            scores = logits(states[piece], head, ctx.cap, ctx.bias, ctx.variant)
            slope = None if ctx.cap is None else 1 - (scores / ctx.cap).square_()
            d_scores = scores.sub_(sums[piece, None]).exp_().mul_(-of_rows[piece, None])
            chosen = order[bounds[piece.start] : bounds[piece.stop]]
            d_scores.index_put_((row_of[chosen] - piece.start, words[chosen]), grads[0][chosen], accumulate=True)
            d_scores = (d_scores if slope is None else d_scores.mul_(slope)).to(head.dtype)
            if d_states is not None:
                d_states[piece] = product(d_scores, head.t(), variant=ctx.variant)
            if d_head is not None:
                d_head += d_scores.t() @ states[piece]
        return d_states, None, None, None if d_head is None else d_head.to(head.dtype), None, None, None


def _by_row(row_of: Int[Tensor, "M"], rows: int) -> tuple[Int[Tensor, "M"], list[int]]:
    """The words in the order of their rows, and where each row's begin."""
    order = row_of.argsort(stable=True)
    counts = torch.bincount(row_of, minlength=rows)
    return order, [0, *counts.cumsum(0).tolist()]
