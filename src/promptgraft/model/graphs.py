"""Training passes of a frozen encoder are recorded as CUDA graphs, a forward and a backward for each shape.

A small encoder's pass is some hundred kernels of a few microseconds, and starting them from Python takes longer than
they run. A recorded pass starts at once, but its shape is fixed: batches are padded to a few sizes with tokens that
belong to no sequence and sequences that have no token.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels.rows import Limits
from promptgraft.model.backbone import Batch, Read
from promptgraft.model.device import limits_of
from promptgraft.model.layout import Layout
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Placement, PromptStack

# Beyond this many tokens a layer's kernels run longer than they take to start.
MOST_TOKENS = 8192
# Shapes that are kept; each holds the activations of one pass only while it runs, since all share one memory.
MOST_GRAPHS = 48
# A shape is recorded when it comes for the second time: recording takes as long as some tens of passes.
RECORDED_AT = 2

Pass = Callable[[Batch, Layout, PromptStack, Read], Tensor]


@dataclass(frozen=True)
class Size:
    """The shape of a padded pass; equal sizes share a recording.

    Attributes:
        tokens, sequences: rounded up, with room for at least one of padding.
        prompts, table: K and N of the prompt table.
        limits: lengths, rounded up.
    """

    tokens: int
    sequences: int
    prompts: int
    table: int
    limits: Limits
    placement: Placement
    read: Read

    @property
    def sizes(self) -> list[int]:
        """Lengths of the lists of whole numbers: ids, types, positions, starts, prompt_of, prompt_starts."""
        return [*[self.tokens] * 3, self.sequences + 1, self.sequences, self.prompts + 1]


def fits(layout: Layout, prompts: PromptStack) -> bool:
    """Whether a pass is one to record: a training step of deep prompts, and small."""
    trains = torch.is_grad_enabled() and prompts.table.requires_grad
    return trains and prompts.depth == "deep" and 0 < len(layout.positions) <= MOST_TOKENS


class Graphs:
    """Runs training passes, and replays a recording if their shape has come before.

    Args:
        run: the pass itself, over what lies on the device.
    """

    def __init__(self, run: Pass, device: torch.device) -> None:
        self._run, self._device = run, device
        self._pool: Any = torch.cuda.graph_pool_handle()
        # One stream for all recordings: libraries keep tens of MiB for every stream they are called on.
        self._beside = torch.cuda.Stream(device)
        self._counts: OrderedDict[Size, int] = OrderedDict()
        self._recorded: OrderedDict[Size, _Recorded] = OrderedDict()
        self.latest: object = None

    def __call__(self, batch: Batch, layout: Layout, prompts: PromptStack, read: Read) -> Float[Tensor, "N H"]:
        """Run the padded batch; values are the same whether it is recorded or not."""
        size = size_of(batch, layout, prompts, read)
        count = len(layout.positions) if read == "tokens" else batch.tokens.sequences
        numbers = padded(batch, layout, prompts, size).pin_memory()
        table = prompts.table.to(self._device)
        self._counts[size] = self._counts.get(size, 0) + 1
        if self._counts[size] < RECORDED_AT:
            on_device = numbers.to(self._device, non_blocking=True)
            return self._run(*unpacked(on_device, table, size), size.read)[:count]
        out: Tensor = _Replay.apply(table, self, self._recording(size, numbers, table), numbers, count)  # type: ignore[no-untyped-call]
        return out

    def _recording(self, size: Size, numbers: Tensor, table: Tensor) -> _Recorded:
        if size not in self._recorded:
            self.latest = None  # recording runs passes of its own in the shared memory
            on_device = numbers.to(self._device, non_blocking=True)
            self._recorded[size] = _Recorded(self._run, size, on_device, table, self._pool, self._beside)
        self._recorded.move_to_end(size)
        if len(self._recorded) > MOST_GRAPHS:
            oldest, _ = self._recorded.popitem(last=False)
            self._counts[oldest] = 0
        return self._recorded[size]


class _Recorded:
    """The recorded forward and backward of one shape, with the memory they read and write."""

    def __init__(
        self, run: Pass, size: Size, numbers: Tensor, table: Tensor, pool: Any, beside: torch.cuda.Stream
    ) -> None:
        self.numbers, self.table = numbers, table.detach().clone().requires_grad_()
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            self.d_out = self._warm_up(run, size)
            with recording(self._forward, pool):
                out = run(*unpacked(self.numbers, self.table, size), size.read)
            with recording(self._backward, pool):
                (self.d_table,) = torch.autograd.grad(out, self.table, self.d_out)
        torch.cuda.current_stream().wait_stream(beside)
        self.out = out.detach()

    def _warm_up(self, run: Pass, size: Size) -> Tensor:
        """Run a pass unrecorded, since libraries set themselves up at their first calls; return room for d_out."""
        out = run(*unpacked(self.numbers, self.table, size), size.read)
        d_out = torch.zeros_like(out)
        torch.autograd.grad(out, self.table, d_out)
        return d_out

    def forward(self, numbers: Tensor, table: Tensor) -> None:
        self.numbers.copy_(numbers, non_blocking=True)
        self.table.detach().copy_(table)
        self._forward.replay()

    def backward(self, d_out: Float[Tensor, "N H"]) -> None:
        self.d_out[: len(d_out)].copy_(d_out)
        self.d_out[len(d_out) :].zero_()
        self._backward.replay()


@contextmanager
def recording(graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
    """Record like `torch.cuda.graph`, without emptying torch's caches first, which takes longer than recording.

    Garbage waits meanwhile: what it would free must not be freed while a stream records.
    """
    collects = gc.isenabled()
    gc.disable()
    graph.capture_begin(pool=pool)
    try:
        yield
    finally:
        graph.capture_end()
        if collects:
            gc.enable()


class _Replay(torch.autograd.Function):
    """A recorded pass as one step of the graph of gradients."""

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, graphs: Graphs, recorded: _Recorded, numbers: Tensor, count: int
    ) -> Float[Tensor, "N H"]:
        recorded.forward(numbers, table)
        ctx.turn = graphs.latest = object()
        ctx.graphs, ctx.recorded, ctx.numbers = graphs, recorded, numbers
        ctx.save_for_backward(table)
        return recorded.out[:count].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.graphs.latest is not ctx.turn:  # another pass has written over the activations since
            ctx.recorded.forward(ctx.numbers, *ctx.saved_tensors)
        ctx.recorded.backward(grads[0])
        ctx.graphs.latest = None
        return ctx.recorded.d_table.clone(), None, None, None, None


def size_of(batch: Batch, layout: Layout, prompts: PromptStack, read: Read) -> Size:
    """The sizes of a batch, rounded up."""
    limits = limits_of(batch, layout, prompts)
    longest = max(32, 1 << (limits.tokens - 1).bit_length())  # programs behind a sequence's end leave at once
    queries = 1 if layout.read is not None else longest
    return Size(
        tokens=rounded(len(layout.positions) + 1),
        sequences=-(-(batch.tokens.sequences + 1) // 8) * 8,
        prompts=len(prompts.starts) - 1,
        table=prompts.table.shape[2],
        limits=Limits(queries, longest, limits.prompt, limits.table),
        placement=prompts.placement,
        read=read,
    )


def rounded(count: int) -> int:
    """Round a count up by at most an eighth, or to a multiple of 128, so that few sizes serve all."""
    step = max(128, 1 << max(0, (count - 1).bit_length() - 4))
    return -(-count // step) * step


def padded(batch: Batch, layout: Layout, prompts: PromptStack, size: Size) -> Int[Tensor, "numbers"]:
    """Pad all whole numbers of a pass and lay them end to end; sequences of padding are empty and have no prompt."""
    assert batch.prompt_of is not None
    starts = layout.starts
    lists = (
        (batch.tokens.ids, 0),
        (layout.types, 0),
        (layout.positions, 0),
        (starts, int(starts[-1])),
        (batch.prompt_of, -1),
        (prompts.starts, 0),
    )
    return torch.cat([_filled(values, to, value) for (values, value), to in zip(lists, size.sizes, strict=True)])


def _filled(numbers: Int[Tensor, "N"], size: int, value: int) -> Int[Tensor, "M"]:
    return F.pad(numbers, (0, size - len(numbers)), value=value)


def unpacked(
    numbers: Int[Tensor, "numbers"], table: Float[Tensor, "L 2 N H"], size: Size
) -> tuple[Batch, Layout, PromptStack]:
    """Rebuild the pass that `padded` laid out."""
    parts: Sequence[Tensor] = numbers.split(size.sizes)
    ids, types, positions, starts, prompt_of, prompt_starts = parts
    read, read_starts = None, starts
    if size.read in ("cls", "pooler", "mark"):  # the marked row stands first
        read, read_starts = starts[:-1], torch.arange(len(starts), device=starts.device)
    layout = Layout(starts, positions, types, None, read, read_starts, size.limits)
    tokens = Tokens(ids, types, starts, starts)
    return Batch(tokens, prompt_of), layout, PromptStack(table, prompt_starts, "deep", size.placement)
