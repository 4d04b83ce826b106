"""The native path runs all layers of an encoder in one call, and their backward in one more."""

from __future__ import annotations

import ctypes
import operator
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.kernels import private
from promptgraft.kernels.dropout import Dropout
from promptgraft.kernels.native.library import ACTIVATIONS, Call, address, load
from promptgraft.model.encoder import Encoder, Layer, Shape

PassDirection = Literal["forward", "backward"]
PARTS = 12
"""Arrays of a layer: weight and bias of four products, scale and shift of two norms."""


@dataclass(frozen=True)
class NativeRows:
    """The packed rows of a pass, and the prompt of each sequence; see `Layout` and `PromptStack`.

    Attributes:
        ids, types, positions: what is embedded; None where the rows come as they are.
        read_first: only the first row of each sequence comes out of the last layer.
    """

    starts: Int[Tensor, "S_plus_1"]
    ids: Int[Tensor, "R"] | None
    types: Int[Tensor, "R"] | None
    positions: Int[Tensor, "R"] | None
    prompt_of: Int[Tensor, "S"] | None
    prompt_starts: Int[Tensor, "K_plus_1"] | None
    read_first: bool
    dropout: Dropout | None = None


@dataclass(frozen=True)
class Seen:
    """A record of tensors at one time, which keeps them alive so that no identity is used twice."""

    tensors: Sequence[Tensor]
    versions: Sequence[int | None]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Seen:
        """Record tensors as they are now."""
        return cls(tensors, [private.version(tensor) for tensor in tensors])

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the same tensors, unchanged since."""
        versions = [private.version(tensor) for tensor in tensors]
        unchanged = None not in versions and versions == self.versions
        return unchanged and all(map(operator.is_, tensors, self.tensors))


class NativeEncoder:
    """The packed weights of an encoder, in the memory of the compiled library.

    Weights that learn are packed again whenever others are handed in.

    Args:
        variant: which library, see `kernels.native.library.runnable`.

    Raises:
        RunError: there is no memory for them.
    """

    def __init__(self, encoder: Encoder, shape: Shape, variant: str) -> None:
        self.shape, self.variant, self._library = shape, variant, load(variant)
        half = encoder.words.dtype == torch.bfloat16
        sizes = (int(half), int(encoder.is_int8), shape.hidden, shape.heads, shape.wide, ACTIVATIONS[shape.activation])
        self._handle = self._library.pg_new(*sizes, shape.epsilon)
        if not self._handle:
            raise RunError("the native path could not be set up", do="set PROMPTGRAFT_NATIVE=0")
        self._spare: list[Tensor] = []
        self._turned: tuple[Seen, Tensor | None] = (Seen.of(()), None)
        self._frozen = _weights(encoder)
        self._packed: dict[PassDirection, Seen] = {}
        weakref.finalize(self, self._library.pg_free, self._handle)
        self._pack("forward", ())
        if encoder.is_int8:
            self._frozen = ()  # not packed for a backward
        self._put_turns(encoder)
        if encoder.project is None:
            self._put_embeddings(encoder)

    def __call__(
        self,
        rows: NativeRows,
        table: Float[Tensor, "L 2 N H"] | None,
        values: Float[Tensor, "R H"] | None,
        learning: Encoder | None = None,
    ) -> Float[Tensor, "M H"]:
        """Compute the states of the last layer: of every row, or of every sequence's first.

        Args:
            values: what enters the first layer; None: the embeddings of `rows.ids`.
            learning: weights, in fp32, that are used instead of those packed before, and get gradients; its
                embeddings are not looked at.
        """
        weights = () if learning is None else _weights(learning)
        inputs = (table, values, *weights)
        if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
            out: Tensor = _Layers.apply(table, values, self, rows, *weights)  # type: ignore[no-untyped-call]
            return out
        return self._predict(rows, table, values, weights)

    def _predict(
        self, rows: NativeRows, table: Tensor | None, values: Tensor | None, weights: Sequence[Tensor]
    ) -> Float[Tensor, "M H"]:
        """Compute states without gradient; a prompt table that was used last time is not packed again."""
        if table is None:
            return self.forward(rows, table, _plain(values), weights, keep=False)[0]
        tensors = [table] if rows.prompt_starts is None else [table, rows.prompt_starts]
        before, turned = self._turned
        turned = turned if before.holds(tensors) else None
        state = Seen.of(tensors)
        out, turned, _ = self.forward(rows, _plain(table), _plain(values), weights, keep=False, turned=turned)
        self._turned = state, turned
        return out

    def forward(
        self,
        rows: NativeRows,
        table: Tensor | None,
        values: Tensor | None,
        weights: Sequence[Tensor],
        *,
        keep: bool,
        turned: Tensor | None = None,
    ) -> tuple[Float[Tensor, "M H"], Tensor, int]:
        """Run the forward: return the states, what the backward needs, and the number of threads that both must use.

        Args:
            turned: what an earlier pass without `keep` left of the same table.
        """
        threads = torch.get_num_threads()
        self._pack("forward", weights)
        call = self._call(rows, table, values, threads, keep=keep)
        call.learn = int(keep and len(weights) > 0)
        out = torch.empty(len(rows.starts) - 1 if rows.read_first else int(rows.starts[-1]), self.shape.hidden)
        size = self._library.pg_saved_bytes(self._handle, call)
        if size < 0:
            raise RunError("a token, position or prompt of the batch is out of range", where="native path")
        call.turned = int(turned is not None)
        if turned is None:
            turned = self._room(size) if keep else torch.empty(size, dtype=torch.uint8)
        saved = turned
        call.saved, call.output = address(saved), address(out)
        self._run("pg_forward", call)
        return out, saved, threads

    def backward(
        self, rows: NativeRows, table: Tensor | None, values: Tensor | None, saved: Tensor, threads: int, d_out: Tensor,
        *, want_table: bool, want_values: bool, weights: Sequence[Tensor],
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        """Run the backward: gradients of the prompt table, of the input rows, and of the weights that learn."""
        call = self._call(rows, table, values, threads, keep=True)
        d_table = torch.empty_like(table) if want_table and table is not None else None
        d_values = torch.empty_like(values) if want_values and values is not None else None
        d_out = d_out.float().contiguous()
        call.want_input = int(want_values)
        call.saved, call.d_output = address(saved), address(d_out)
        call.d_table, call.d_input = address(d_table), address(d_values)
        self._pack("forward", weights)
        self._pack("backward", weights)
        d_weights: list[Tensor] = []
        if weights:
            d_weights = [torch.empty_like(weight, memory_format=torch.contiguous_format) for weight in weights]
            pointers = (ctypes.c_void_p * len(weights))(*map(address, d_weights))
            call.learn, call.d_weights = 1, ctypes.addressof(pointers)
        self._run("pg_backward", call)
        return d_table, d_values, *d_weights

    def give_back(self, saved: Tensor) -> None:
        """Give memory back for the next pass: fresh memory costs more than the small kernels that write it."""
        if len(self._spare) < 2:
            self._spare.append(saved)

    def _room(self, size: int) -> Tensor:
        fitting = [buffer for buffer in self._spare if len(buffer) >= size]
        if fitting:
            best = min(fitting, key=len)
            self._spare = [buffer for buffer in self._spare if buffer is not best]
            return best
        self._spare.clear()  # too small for what is asked now
        return torch.empty(size + size // 8, dtype=torch.uint8)

    def _call(self, rows: NativeRows, table: Tensor | None, values: Tensor | None, threads: int, *, keep: bool) -> Call:
        """Fill in the call's fields, except for the outputs."""
        prompts = 0 if rows.prompt_starts is None or table is None else len(rows.prompt_starts) - 1
        call = Call(
            sequences=len(rows.starts) - 1,
            prompts=prompts,
            prompt_rows=0 if table is None else table.shape[2],
            threads=threads,
            read_first=int(rows.read_first),
            keep=int(keep),
        )
        call.starts, call.ids, call.types = address(rows.starts), address(rows.ids), address(rows.types)
        call.positions, call.input, call.table = address(rows.positions), address(values), address(table)
        call.prompt_of = address(rows.prompt_of) if prompts else None
        call.prompt_starts = address(rows.prompt_starts) if prompts else None
        if rows.dropout is not None:
            call.drop_below, call.drop_keys = rows.dropout.below, address(rows.dropout.keys)
            call.drop_narrow = int(self.shape.drops_narrow)
        return call

    def _run(self, name: str, call: Call) -> None:
        if getattr(self._library, name)(self._handle, ctypes.byref(call)):
            raise RunError("out of memory in the native path", do="use a smaller batch")

    def _put_turns(self, encoder: Encoder) -> None:
        places: dict[int, int] = {}
        for layer in encoder.layers:
            self._library.pg_turn(self._handle, places.setdefault(id(layer), len(places)))

    def _pack(self, direction: PassDirection, weights: Sequence[Tensor]) -> None:
        """Pack weights (none: the frozen ones) in the place of earlier ones, for one direction.

        Nothing is done where they are the same as before.
        """
        if direction in self._packed and self._packed[direction].holds(weights):
            return
        if weights:
            self._put_layers(0, weights, direction)
        for first in range(0, 0 if weights else len(self._frozen), PARTS):  # copies in fp32 of one layer at a time
            self._put_layers(first // PARTS, self._frozen[first : first + PARTS], direction)
        self._packed[direction] = Seen.of(weights)

    def _put_layers(self, first: int, weights: Sequence[Tensor], direction: PassDirection) -> None:
        values = [weight.detach().float().contiguous() for weight in weights]
        pointers = (ctypes.c_void_p * len(values))(*map(address, values))
        backward, threads = int(direction == "backward"), torch.get_num_threads()
        count = len(values) // PARTS
        if self._library.pg_layers(self._handle, first, count, pointers, backward, threads):
            raise RunError("no memory for the packed weights", do="set PROMPTGRAFT_NATIVE=0")

    def _put_embeddings(self, encoder: Encoder) -> None:
        norm = [encoder.embedded_norm.weight.float(), encoder.embedded_norm.bias.float()]
        self._tables = [table.contiguous() for table in (encoder.words, encoder.types, encoder.positions)]
        sizes = (ctypes.c_int64 * 3)(*map(len, self._tables))
        self._library.pg_embeddings(self._handle, sizes, *(address(table) for table in (*self._tables, *norm)))


class _Layers(torch.autograd.Function):
    """All layers as one step of the graph of gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor | None,
        values: Tensor | None,
        encoder: NativeEncoder,
        rows: NativeRows,
        *weights: Tensor,
    ) -> Tensor:
        table, values = _plain(table), _plain(values)
        out, saved, threads = encoder.forward(rows, table, values, weights, keep=True)
        ctx.state = (encoder, rows, table, values, saved, threads, weights)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.state is None:
            raise RunError("a second backward through the native path", do="run the forward again")
        encoder, rows, table, values, saved, threads, weights = ctx.state
        ctx.state = None
        want_table, want_values = ctx.needs_input_grad[:2]
        d_table, d_values, *d_weights = encoder.backward(
            rows, table, values, saved, threads, grads[0],
            want_table=want_table, want_values=want_values, weights=weights,
        )  # fmt: skip
        encoder.give_back(saved)
        return d_table, d_values, None, None, *d_weights


def _plain(values: Tensor | None) -> Tensor | None:
    """The values detached, in fp32 and contiguous."""
    return None if values is None else values.detach().float().contiguous()


def _weights(encoder: Encoder) -> tuple[Tensor, ...]:
    """The weights of all layers in the library's order; layers that share weights come once."""
    distinct = {id(layer): layer for layer in encoder.layers}
    return tuple(value for layer in distinct.values() for value in _values(layer))


def _values(layer: Layer) -> tuple[Tensor, ...]:
    """The weights of one layer in the library's order."""
    linears = (layer.qkv, layer.attended, layer.wide, layer.narrow)
    norms = (layer.attended_norm, layer.narrow_norm)
    return tuple(value for part in (*linears, *norms) for value in (part.weight, part.bias))
