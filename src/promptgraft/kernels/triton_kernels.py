"""`gpu.py` launches these programs; each computes one head (or some columns) of one sequence.

Offsets are rows: sequence s has keys `starts[s]:starts[s + 1]`, queries `queries[s]:queries[s + 1]` and prompt
`prompt_of[s]`, rows `prompt_starts[p]:prompt_starts[p + 1]` of the prompt table; a prompt below 0 is none.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def forward(
    q, k, v, prompt_k, prompt_v, out, log_sums, starts, queries, prompt_starts, prompt_of, q_row, k_row, v_row,
    PROMPTS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
    SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attend from one block of queries to the sequence's prompt, then its tokens."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    H: tl.constexpr = HEADS * WIDTH
    column = tl.arange(0, D)
    cell, wide = head * WIDTH + column, column < WIDTH
    first, last = tl.load(queries + sequence), tl.load(queries + sequence + 1)
    row = first + tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    inside = (row < last)[:, None] & wide[None, :]
    query = tl.load(q + row[:, None] * q_row + cell[None, :], mask=inside, other=0.0)
    highest = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    mixed = tl.zeros([BLOCK, D], tl.float32)
    if PROMPTS:
        begin, end = _prompt_rows(prompt_starts, prompt_of, sequence)
        for at in range(begin, end, BLOCK):
            key, valid = _rows(prompt_k, at, end, H, cell, wide, BLOCK)
            value, valid = _rows(prompt_v, at, end, H, cell, wide, BLOCK)
            key, value = key.to(query.dtype), value.to(query.dtype)
            highest, total, mixed = _absorb(query, key, value, valid, highest, total, mixed, SCALE, PRECISION)
    begin, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    for at in range(begin, end, BLOCK):
        key, valid = _rows(k, at, end, k_row, cell, wide, BLOCK)
        value, valid = _rows(v, at, end, v_row, cell, wide, BLOCK)
        highest, total, mixed = _absorb(query, key, value, valid, highest, total, mixed, SCALE, PRECISION)
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(out + row[:, None] * H + cell[None, :], mixed.to(out.dtype.element_ty), mask=inside)
    tl.store(log_sums + row * HEADS + head, highest + tl.log(total), mask=row < last)


@triton.jit
@no_type_check
def _prompt_rows(prompt_starts, prompt_of, sequence):
    """The first and one-past-last row of the sequence's prompt."""
    prompt = tl.load(prompt_of + sequence)
    begin = tl.load(prompt_starts + tl.maximum(prompt, 0))
    end = tl.load(prompt_starts + tl.maximum(prompt, 0) + 1)
    return begin, tl.where(prompt < 0, begin, end)


@triton.jit
@no_type_check
def _rows(x, at, end, stride, cell, wide, BLOCK: tl.constexpr):
    """Load a block of rows of one head, and a mask of those that are real."""
    row = at + tl.arange(0, BLOCK)
    valid = row < end
    block = tl.load(x + row[:, None] * stride + cell[None, :], mask=valid[:, None] & wide[None, :], other=0.0)
    return block, valid


@triton.jit
@no_type_check
def _absorb(query, key, value, valid, highest, total, mixed, SCALE: tl.constexpr, PRECISION: tl.constexpr):
    """Add one block of keys to the running softmax."""
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * SCALE
    scores = tl.where(valid[None, :], scores, -float("inf"))
    above = tl.maximum(highest, tl.max(scores, 1))
    weights = tl.exp(scores - above[:, None])
    decay = tl.exp(highest - above)
    total = total * decay + tl.sum(weights, 1)
    mixed = mixed * decay[:, None] + tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
    return above, total, mixed


@triton.jit
@no_type_check
def backward_queries(
    q, k, v, prompt_k, prompt_v, out, d_out, log_sums, delta, d_q, starts, queries, prompt_starts, prompt_of,
    q_row, k_row, v_row,
    WANTED: tl.constexpr, PROMPTS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute one block of queries' gradient, and delta = sum(d_out * out), which the keys' gradient needs too."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    H: tl.constexpr = HEADS * WIDTH
    column = tl.arange(0, D)
    cell, wide = head * WIDTH + column, column < WIDTH
    first, last = tl.load(queries + sequence), tl.load(queries + sequence + 1)
    row = first + tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    real = row < last
    inside = real[:, None] & wide[None, :]
    packed = row[:, None] * H + cell[None, :]
    d_mixed = tl.load(d_out + packed, mask=inside, other=0.0)
    mixed = tl.load(out + packed, mask=inside, other=0.0)
    both = tl.sum(d_mixed.to(tl.float32) * mixed.to(tl.float32), 1)
    tl.store(delta + row * HEADS + head, both, mask=real)
    if WANTED:
        query = tl.load(q + row[:, None] * q_row + cell[None, :], mask=inside, other=0.0)
        log_sum = tl.load(log_sums + row * HEADS + head, mask=real, other=float("inf"))
        d_query = tl.zeros([BLOCK, D], tl.float32)
        if PROMPTS:
            begin, end = _prompt_rows(prompt_starts, prompt_of, sequence)
            for at in range(begin, end, BLOCK):
                key, valid = _rows(prompt_k, at, end, H, cell, wide, BLOCK)
                value, valid = _rows(prompt_v, at, end, H, cell, wide, BLOCK)
                key, value = key.to(query.dtype), value.to(query.dtype)
                d_query += _query_share(query, key, value, valid, d_mixed, log_sum, both, SCALE, PRECISION)
        begin, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
        for at in range(begin, end, BLOCK):
            key, valid = _rows(k, at, end, k_row, cell, wide, BLOCK)
            value, valid = _rows(v, at, end, v_row, cell, wide, BLOCK)
            d_query += _query_share(query, key, value, valid, d_mixed, log_sum, both, SCALE, PRECISION)
        tl.store(d_q + packed, d_query.to(d_q.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _query_share(query, key, value, valid, d_mixed, log_sum, both, SCALE: tl.constexpr, PRECISION: tl.constexpr):
    """The part of the queries' gradient that comes from one block of keys."""
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * SCALE
    weights = tl.where(valid[None, :], tl.exp(scores - log_sum[:, None]), 0.0)
    d_weights = tl.dot(d_mixed, tl.trans(value), input_precision=PRECISION)
    d_scores = weights * (d_weights - both[:, None]) * SCALE
    return tl.dot(d_scores.to(key.dtype), key, input_precision=PRECISION)


@triton.jit(do_not_specialize=["longest_prompt"])
@no_type_check
def backward_keys(
    q, k, v, prompt_k, prompt_v, d_out, log_sums, delta, d_k, d_v, shares, starts, queries, prompt_starts, prompt_of,
    q_row, k_row, v_row, longest_prompt,
    PROMPT_BLOCKS: tl.constexpr, PROMPTS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of one block of keys and values: the prompt's in the first blocks, then the tokens'."""
    sequence, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    H: tl.constexpr = HEADS * WIDTH
    column = tl.arange(0, D)
    cell, wide = head * WIDTH + column, column < WIDTH
    if part < PROMPT_BLOCKS:
        begin, end = _prompt_rows(prompt_starts, prompt_of, sequence)
        begin += part * BLOCK
        prompt_key, valid = _rows(prompt_k, begin, end, H, cell, wide, BLOCK)
        prompt_value, valid = _rows(prompt_v, begin, end, H, cell, wide, BLOCK)
        d_key, d_value = _key_share(
            q, prompt_key.to(q.dtype.element_ty), prompt_value.to(q.dtype.element_ty), d_out, log_sums, delta, queries,
            sequence, head, begin < end, q_row, cell, wide, HEADS, H, D, BLOCK, SCALE, PRECISION,
        )  # fmt: skip
        place = part * BLOCK + tl.arange(0, BLOCK)
        share = (sequence.to(tl.int64) * longest_prompt + place)[:, None] * H + cell[None, :]
        of_values = tl.num_programs(0).to(tl.int64) * longest_prompt * H
        tl.store(shares + share, d_key, mask=valid[:, None] & wide[None, :])
        tl.store(shares + of_values + share, d_value, mask=valid[:, None] & wide[None, :])
    else:
        begin, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
        begin += (part - PROMPT_BLOCKS) * BLOCK
        key, valid = _rows(k, begin, end, k_row, cell, wide, BLOCK)
        value, valid = _rows(v, begin, end, v_row, cell, wide, BLOCK)
        d_key, d_value = _key_share(
            q, key, value, d_out, log_sums, delta, queries,
            sequence, head, begin < end, q_row, cell, wide, HEADS, H, D, BLOCK, SCALE, PRECISION,
        )  # fmt: skip
        packed = (begin + tl.arange(0, BLOCK))[:, None] * H + cell[None, :]
        tl.store(d_k + packed, d_key.to(d_k.dtype.element_ty), mask=valid[:, None] & wide[None, :])
        tl.store(d_v + packed, d_value.to(d_v.dtype.element_ty), mask=valid[:, None] & wide[None, :])


@triton.jit
@no_type_check
def _key_share(
    q, key, value, d_out, log_sums, delta, queries, sequence, head, any_key, q_row, cell, wide,
    HEADS: tl.constexpr, H: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
    SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of one block of keys and values over all the sequence's queries; none are read without a key."""
    d_key = tl.zeros([BLOCK, D], tl.float32)
    d_value = tl.zeros([BLOCK, D], tl.float32)
    first, last = tl.load(queries + sequence), tl.load(queries + sequence + 1)
    for at in range(first, tl.where(any_key, last, first), BLOCK):
        query, real = _rows(q, at, last, q_row, cell, wide, BLOCK)
        d_mixed, real = _rows(d_out, at, last, H, cell, wide, BLOCK)
        row = at + tl.arange(0, BLOCK)
        log_sum = tl.load(log_sums + row * HEADS + head, mask=real, other=float("inf"))
        both = tl.load(delta + row * HEADS + head, mask=real, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * SCALE
        weights = tl.exp(scores - log_sum[:, None])
        d_value += tl.dot(tl.trans(weights).to(value.dtype), d_mixed, input_precision=PRECISION)
        d_weights = tl.dot(d_mixed, tl.trans(value), input_precision=PRECISION)
        d_scores = weights * (d_weights - both[:, None]) * SCALE
        d_key += tl.dot(tl.trans(d_scores).to(key.dtype), query, input_precision=PRECISION)
    return d_key, d_value


@triton.jit(do_not_specialize=["sequences", "longest", "table"])
@no_type_check
def sum_shares(
    shares, prompt_starts, prompt_of, total, sequences, longest, table,
    H: tl.constexpr, SEQUENCES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum some columns of one prompt position's gradient (key or value) over its sequences, in their order."""
    prompt, place = tl.program_id(0), tl.program_id(1)
    blocks: tl.constexpr = (H + BLOCK - 1) // BLOCK
    side = tl.program_id(2) // blocks
    column = (tl.program_id(2) % blocks) * BLOCK + tl.arange(0, BLOCK)
    begin, end = tl.load(prompt_starts + prompt), tl.load(prompt_starts + prompt + 1)
    if begin + place < end:
        sums = tl.zeros([SEQUENCES, BLOCK], tl.float32)
        for at in range(0, sequences, SEQUENCES):
            sequence = at + tl.arange(0, SEQUENCES)
            belongs = tl.load(prompt_of + sequence, mask=sequence < sequences, other=-1) == prompt
            row = (side * sequences + sequence).to(tl.int64) * longest + place
            mask = belongs[:, None] & (column < H)[None, :]
            sums += tl.load(shares + row[:, None] * H + column[None, :], mask=mask, other=0.0)
        to = total + (side * table + begin + place) * H + column
        tl.store(to, tl.sum(sums, 0).to(total.dtype.element_ty), mask=column < H)


@triton.jit
@no_type_check
def mean(x, starts, out, width, BLOCK: tl.constexpr):
    """Compute some columns of one sequence's mean."""
    sequence, column = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    begin, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    total = tl.zeros([BLOCK], tl.float32)
    for row in range(begin, end):
        total += tl.load(x + row * width + column, mask=column < width, other=0.0).to(tl.float32)
    average = total / tl.maximum(end - begin, 1)
    tl.store(out + sequence * width + column, average.to(out.dtype.element_ty), mask=column < width)


@triton.jit
@no_type_check
def mean_backward(d_out, starts, d_x, width, BLOCK: tl.constexpr):
    """Compute the mean's gradient, an equal share for each row."""
    sequence, column = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    begin, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    gradient = tl.load(d_out + sequence * width + column, mask=column < width, other=0.0).to(tl.float32)
    share = gradient / tl.maximum(end - begin, 1)
    for row in range(begin, end):
        tl.store(d_x + row * width + column, share.to(d_x.dtype.element_ty), mask=column < width)
