"""A trial times a small training step on each path of this processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F

from promptgraft.model.backbone import Arithmetic, Batch
from promptgraft.model.encoder import Dense, Encoder, Layer, Norm, Shape
from promptgraft.model.packed import WORDS, PackedBackbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import PromptStack

LAYERS, HIDDEN, HEADS, WIDE, VOCABULARY = 2, 256, 8, 1024, 64
SEQUENCES, LENGTH, PROMPT = 12, 24, 20
TOKENS = SEQUENCES * LENGTH
ROUNDS = 3
SHAPE = Shape("bert", HIDDEN, HIDDEN, LAYERS, HEADS, WIDE, VOCABULARY, 1, LENGTH + PROMPT, 0, 1e-12, "gelu", True)


class Trial:
    """An encoder with random weights, and a batch for it."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        starts = torch.arange(SEQUENCES + 1) * LENGTH
        ids = torch.arange(TOKENS) % VOCABULARY
        tokens = Tokens(ids, torch.zeros_like(ids), starts, torch.arange(SEQUENCES + 1))
        self._batch = Batch(tokens, torch.zeros(SEQUENCES, dtype=torch.long))
        self._table = torch.randn(LAYERS, 2, PROMPT, HIDDEN, generator=self._generator)

    def seconds(self, arithmetic: Arithmetic, paths: Sequence[str | None]) -> dict[str | None, float]:
        """Time a step on each path, the shortest of several that take turns; in int8 a pass without gradient.

        One thread, and its time on the processor: what else the machine does must not choose.

        Args:
            paths: variants of the native path; None: plain torch.
        """
        best = dict.fromkeys(paths, float("inf"))
        with one_thread():
            steps = {path: self._step(arithmetic, path) for path in paths}
            for _ in range(ROUNDS):
                for path, step in steps.items():
                    best[path] = min(best[path], _seconds(step))
        return best

    @cached_property
    def is_bf16_worth_a_trial(self) -> bool:
        """Whether plain torch's product in bf16 is not far slower than in fp32, as it is where bf16 is emulated."""
        x, weight = torch.ones(64, HIDDEN), torch.ones(HIDDEN, HIDDEN)
        spans = []
        with one_thread():
            for dtype in (torch.float32, torch.bfloat16):
                product = partial(F.linear, x.to(dtype), weight.to(dtype))
                spans.append(min(_seconds(product) for _ in range(5)))
        return spans[1] < 1.5 * spans[0]

    def _step(self, arithmetic: Arithmetic, path: str | None) -> Callable[[], object]:
        """Make the step that is timed, run once already, since weights are packed at the first pass."""
        backbone = self._backbone(arithmetic, path)
        table = self._table.clone().requires_grad_(arithmetic != "int8")
        starts = torch.tensor([0, PROMPT])

        def step() -> None:
            stack = PromptStack(table, starts, "deep", "after_cls")
            states = backbone.forward(self._batch, stack, "cls")
            if states.requires_grad:
                torch.autograd.grad(states.sum(), table)

        step()
        return step

    def _backbone(self, arithmetic: Arithmetic, path: str | None) -> PackedBackbone:
        halved = arithmetic == "bf16" or (arithmetic == "int8" and path == "amx")
        dtype = torch.bfloat16 if halved else torch.float32
        exact = self._encoder
        frozen = cast(exact, dtype)
        if arithmetic == "int8":
            frozen = frozen.in_int8(exact)
        absent: Any = None  # nothing is tokenised, and no weights are put in
        return PackedBackbone(
            "trial", SHAPE, absent, {WORDS: frozen.words}, absent,
            dtype=dtype, pooling=None, fingerprint="", frozen=frozen, variant=path,
        )  # fmt: skip

    @cached_property
    def _encoder(self) -> Encoder:
        def draw(*size: int) -> torch.Tensor:
            values: torch.Tensor = torch.randn(size, generator=self._generator) * size[-1] ** -0.5
            return values

        def linear(out: int, into: int) -> Dense:
            return Dense(draw(out, into), draw(out))

        norm = Norm(torch.ones(HIDDEN), torch.zeros(HIDDEN))
        layers = tuple(
            Layer(
                qkv=linear(3 * HIDDEN, HIDDEN),
                attended=linear(HIDDEN, HIDDEN),
                attended_norm=norm,
                wide=linear(WIDE, HIDDEN),
                narrow=linear(HIDDEN, WIDE),
                narrow_norm=norm,
            )
            for _ in range(LAYERS)
        )
        positions = draw(LENGTH + PROMPT, HIDDEN)
        return Encoder(draw(VOCABULARY, HIDDEN), draw(1, HIDDEN), positions, norm, None, layers, None)


def cast(encoder: Encoder, dtype: torch.dtype) -> Encoder:
    """The encoder's weights in another dtype."""

    def linear(dense: Any) -> Dense:
        return Dense(dense.weight.to(dtype), dense.bias.to(dtype))

    def norm(layer_norm: Norm) -> Norm:
        return Norm(layer_norm.weight.to(dtype), layer_norm.bias.to(dtype))

    layers = tuple(
        Layer(
            qkv=linear(layer.qkv),
            attended=linear(layer.attended),
            attended_norm=norm(layer.attended_norm),
            wide=linear(layer.wide),
            narrow=linear(layer.narrow),
            narrow_norm=norm(layer.narrow_norm),
        )
        for layer in encoder.layers
    )
    tables = (encoder.words.to(dtype), encoder.types.to(dtype), encoder.positions.to(dtype))
    return Encoder(*tables, norm(encoder.embedded_norm), None, layers, None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch and the native path on one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began
