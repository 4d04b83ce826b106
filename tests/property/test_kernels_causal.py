"""Causal attention against its formula on every path: prompts, kept and shared beginnings, windows, any lengths."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from encoders import VARIANTS
from promptgraft.kernels import causal_native
from promptgraft.kernels.causal import Scoring, causal_attention
from promptgraft.kernels.pattern import Level, Pattern
from promptgraft.kernels.rotary import Turns, turned

KEY_HEADS = 2
PATHS = [None, *VARIANTS]


@dataclass(frozen=True)
class Family:
    """Sequences of one prompt: lengths of the prompt, of what is kept of their beginning, of what they share here."""

    prompt: int
    past: int
    shared: int
    own: tuple[int, ...]


@dataclass(frozen=True)
class Case:
    families: tuple[Family, ...]
    group: int = 1
    width: int = 16
    window: int | None = None
    every: int = 1
    """Which rows are read: each so many."""


lengths = st.lists(st.integers(1, 24), min_size=1, max_size=4).map(tuple)
families = st.builds(Family, st.integers(0, 9), st.integers(0, 20), st.integers(0, 9), lengths)
cases = st.builds(
    Case,
    st.lists(families, min_size=1, max_size=4).map(tuple),
    st.integers(1, 3),
    st.sampled_from([6, 16, 48, 64]),
    st.one_of(st.none(), st.integers(1, 30)),
    st.sampled_from([1, 3]),
)
MANY = Case(tuple(Family(20, 0, 0, (30, 25, 41, 17)) for _ in range(6)), 3, 64)
BEHIND = Case((Family(0, 270, 0, (30, 20, 35) * 5),), 3, 64)
LONG = Case((Family(5, 3, 300, (400, 2)), Family(0, 0, 0, (1,))), 2, 32)


def laid_out(case: Case) -> tuple[Pattern, Tensor, Tensor]:
    """The pattern of a case, the places of its rows, and of every query which keys of all sources it sees."""
    levels: dict[str, list[list[int]]] = {"prompts": [], "past": [], "shared": [], "own": []}
    places: list[int] = []
    past_places: list[int] = []
    prompts = 0
    for family in case.families:
        first, before = len(places), len(past_places)
        past_places += range(family.past)
        places += range(family.past, family.past + family.shared)
        shared = len(places)
        levels["own"].append([first, shared, first, shared])
        for length in family.own:
            start = len(places)
            places += range(family.past + family.shared, family.past + family.shared + length)
            levels["own"].append([start, len(places), start, len(places)])
        levels["prompts"].append([first, len(places), prompts, prompts := prompts + family.prompt])
        levels["past"].append([first, len(places), before, len(past_places)])
        levels["shared"].append([shared, len(places), first, shared])
    sources = {"prompts": "prompts", "past": "past", "shared": "rows", "own": "rows"}
    found = [Level(sources[name], torch.tensor(blocks), name == "own") for name, blocks in levels.items()]  # type: ignore[arg-type]
    at, past_at = torch.tensor(places), torch.tensor(past_places, dtype=torch.long)
    rows = torch.arange(0, len(at), case.every)
    asked = tuple(level if case.every == 1 else level.asking(rows) for level in found)
    pattern = Pattern(asked, at[rows], at, past_at, prompts, KEY_HEADS, case.group, torch.device("cpu"))
    offset = {"prompts": 0, "past": prompts, "rows": prompts + len(past_at)}
    key_at = torch.cat([torch.full((prompts,), 1 << 30), past_at, at])
    seen = torch.zeros(len(at), len(key_at), dtype=torch.bool)
    for level in found:
        for first, last, key, end in level.blocks.tolist():
            begin = offset[level.source]
            visible = key_at[begin + key : begin + end][None] <= at[first:last, None]
            near = key_at[begin + key : begin + end][None] > at[first:last, None] - (case.window or 1 << 20)
            whole = torch.ones_like(near)
            seen[first:last, begin + key : begin + end] = (visible if level.causal else whole) & near
    return pattern, at, seen[rows]


def by_formula(inputs: list[Tensor | None], past: Tensor, seen: Tensor, case: Case, turns: list[Turns]) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over what is seen, heads of keys repeated."""
    queries, keys_values, prompts = inputs
    assert queries is not None
    assert keys_values is not None
    keys, values = keys_values.chunk(2, 1)
    queries, keys = (turned(x.flatten(1), turn).view(x.shape) for x, turn in zip((queries, keys), turns, strict=True))
    tables = [
        part.unflatten(-1, (KEY_HEADS, -1)) for part in (past if prompts is None else torch.cat([prompts, past], 1))
    ]
    key, value = (
        torch.cat([table, x]).repeat_interleave(case.group, 1) for table, x in zip(tables, (keys, values), strict=True)
    )
    scores = torch.einsum("qhd,khd->hqk", queries, key) / case.width**0.5
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("variant", PATHS)
@given(case=cases)
@example(case=MANY)
@example(case=BEHIND)
@example(case=LONG)
@settings(max_examples=15)
def test_values_and_gradients(variant: str | None, half: bool, case: Case) -> None:
    dtype, tolerance = (torch.bfloat16, 3e-2) if half else (torch.float32, 2e-5)
    pattern, places, seen = laid_out(case)
    seed = torch.Generator().manual_seed(len(places))
    heads, wide = KEY_HEADS * case.group, KEY_HEADS * case.width
    shapes = [
        (len(pattern.query_places), heads, case.width),
        (len(places), 2 * KEY_HEADS, case.width),
        (2, pattern.prompt_rows, wide),
    ]
    dtypes = [dtype, dtype, torch.float32]
    exact = [
        torch.randn(shape, generator=seed).to(kind).double().requires_grad_()
        for shape, kind in zip(shapes, dtypes, strict=True)
    ]
    inputs = [value.detach().to(kind).requires_grad_() for value, kind in zip(exact, dtypes, strict=True)]
    past = torch.randn(2, len(pattern.past_places), wide, generator=seed).to(dtype)
    frequencies = 100.0 ** -torch.linspace(0, 1, case.width // 2)
    turns = [Turns.at(at, frequencies, dtype) for at in (pattern.query_places, places)]
    doubled = [Turns(turn.cosine.double(), turn.sine.double()) for turn in turns]
    wanted = by_formula(list(exact), past.double(), seen, case, doubled)
    ours = causal_attention(
        inputs[0], inputs[1], pattern, Scoring(case.width**-0.5, variant=variant),
        turns=(turns[0], turns[1]), window=case.window, prompts=inputs[2], past=past,
    )  # fmt: skip
    near(ours, wanted, tolerance)
    weight = torch.randn(wanted.shape, generator=seed, dtype=torch.float64)
    mine = torch.autograd.grad((ours * weight.to(dtype)).sum(), inputs)
    reference = torch.autograd.grad((wanted * weight).sum(), exact)
    for found, expected in zip(mine, reference, strict=True):
        near(found, expected, tolerance)


def near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    scale = max(1.0, float(wanted.detach().abs().max())) if wanted.numel() else 1.0
    torch.testing.assert_close(found.double(), wanted, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_threads_change_no_bit(variant: str) -> None:
    pattern, places, _ = laid_out(MANY)
    seed, threads = torch.Generator().manual_seed(0), torch.get_num_threads()
    shapes = [
        (len(places), 3 * KEY_HEADS, 64),
        (len(places), 2 * KEY_HEADS, 64),
        (2, pattern.prompt_rows, 64 * KEY_HEADS),
    ]
    inputs = [torch.randn(shape, generator=seed).bfloat16().requires_grad_() for shape in shapes]
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        out = causal_attention(
            inputs[0], inputs[1], pattern, Scoring(0.1, variant=variant), prompts=inputs[2].float()
        )  # fmt: skip
        results.append([out, *torch.autograd.grad(out.float().square().sum(), inputs)])
    torch.set_num_threads(threads)
    assert all(torch.equal(alone, shared) for alone, shared in zip(*results, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_kept_beginnings_that_lie_in_pieces_are_there_while_they_are_read(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the library is told the address of has to outlive the call, the copy of a strided table too."""
    pattern, places, _ = laid_out(BEHIND)
    seed, width = torch.Generator().manual_seed(0), 64 * KEY_HEADS
    queries = torch.randn(len(pattern.query_places), 3 * KEY_HEADS, 64, generator=seed)
    keys_values = torch.randn(len(places), 2 * KEY_HEADS, 64, generator=seed)
    past = torch.randn(2, len(pattern.past_places), 2 * width, generator=seed)[..., :width]
    assert not past.is_contiguous()
    wanted = causal_attention(queries, keys_values, pattern, Scoring(0.1), past=past)
    run = causal_native._run

    def after_others_took_what_is_free(*arguments: object, **options: object) -> None:
        taken = [torch.full(past.shape, torch.nan) for _ in range(16)]
        run(*arguments, **options)  # type: ignore[arg-type]
        assert taken

    monkeypatch.setattr(causal_native, "_run", after_others_took_what_is_free)
    near(
        causal_attention(queries, keys_values, pattern, Scoring(0.1, variant=variant), past=past), wanted.double(), 2e-5
    )
