"""A backbone whose packed forward is plain torch: a family says what a layer computes, the rest is shared here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft import kernels
from promptgraft.errors import ModelError, RunError
from promptgraft.kernels.attention import Dropped
from promptgraft.kernels.dropout import EMBEDDED, Dropout, RowDropout, attention_site
from promptgraft.model.backbone import Arithmetic, Backbone, Batch, Read, shown
from promptgraft.model.device import place
from promptgraft.model.encoder import Dense, Take
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.head import Head, assemble_head
from promptgraft.model.layout import Layout, lay_out
from promptgraft.model.resolved import Resolved
from promptgraft.model.tokenize import Tokenizer, load_tokenizer
from promptgraft.model.tokenized import Tokenizing
from promptgraft.model.tokens import Tokens
from promptgraft.model.watch import note_vectors, watching
from promptgraft.model.weights import check_weights, read_encoder, read_head
from promptgraft.prompt.prompt import PromptStack
from promptgraft.prompt.reading import Pooling

G = TypeVar("G")


@dataclass(frozen=True)
class Projection:
    """A dense product, `x W^T`, with a bias or without.

    Attributes:
        variant: of the native path; None: plain torch.
    """

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, "out"] | None
    variant: str | None = None

    def __call__(self, x: Float[Tensor, "T in"]) -> Float[Tensor, "T out"]:
        return kernels.product(x, self.weight, self.bias, variant=self.variant)

    def added(self, x: Float[Tensor, "T in"], residual: Float[Tensor, "T out"]) -> Float[Tensor, "T out"]:
        """The product added to what stands beside it, in one step."""
        return kernels.product(x, self.weight, self.bias, residual, self.variant)

    def rows(self, first: int, last: int) -> Projection:
        """The part that computes outputs `first:last`."""
        bias = None if self.bias is None else self.bias[first:last]
        return Projection(self.weight[first:last], bias, self.variant)


@dataclass(frozen=True)
class LayerNorm:
    """A LayerNorm, with a shift or without."""

    weight: Float[Tensor, "H"]
    bias: Float[Tensor, "H"] | None
    epsilon: float

    def __call__(self, x: Float[Tensor, "T H"]) -> Float[Tensor, "T H"]:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


def projection(take: Take, name: str, out: int, into: int, *, bias: bool) -> Projection:
    """Take a dense product."""
    return Projection(take(f"{name}.weight", out, into), take(f"{name}.bias", out) if bias else None)


def layer_norm(take: Take, name: str, width: int, epsilon: float, *, bias: bool) -> LayerNorm:
    """Take a LayerNorm."""
    return LayerNorm(take(f"{name}.weight", width), take(f"{name}.bias", width) if bias else None, epsilon)


class Stack(ABC, Generic[G]):
    """The weights of an encoder in the order they are used, and what its layers compute.

    `G` is what the layers of one pass share: which rows attend to which, and positions.

    Attributes:
        words: the table of word embeddings.
        pooler: a dense layer over a sequence's first state; None where there is none.
    """

    words: Float[Tensor, "V E"]
    pooler: Dense | None = None

    @abstractmethod
    def embedded(self, words: Float[Tensor, "R E"], layout: Layout) -> Float[Tensor, "R H"]:
        """What enters the first layer, of words and shallow prompts."""

    @abstractmethod
    def geometry(self, layout: Layout, rows: kernels.Rows, read: Int[Tensor, "Q"] | None) -> G:
        """What layers share in which the rows of `read` ask; None for all."""

    @abstractmethod
    def projected(
        self, number: int, x: Float[Tensor, "R H"], geometry: G, read: Int[Tensor, "Q"] | None
    ) -> tuple[Float[Tensor, "Q A"], Float[Tensor, "R A"], Float[Tensor, "R A"]]:
        """A layer's queries, keys and values."""

    @abstractmethod
    def attended(
        self,
        number: int,
        states: tuple[Float[Tensor, "Q A"], Float[Tensor, "R A"], Float[Tensor, "R A"]],
        geometry: G,
        prompt: Float[Tensor, "2 N A"] | None,
        dropped: Dropped | None,
    ) -> Float[Tensor, "Q A"]:
        """A layer's values, mixed by its attention."""

    @abstractmethod
    def after_attention(
        self, number: int, mixed: Float[Tensor, "Q A"], residual: Float[Tensor, "Q H"], dropout: RowDropout | None
    ) -> Float[Tensor, "Q H"]:
        """The rest of a layer."""

    def final(self, x: Float[Tensor, "Q H"]) -> Float[Tensor, "Q H"]:
        """What comes after the last layer."""
        return x


class Plan(ABC):
    """The shape of an encoder, as config.json gives it.

    Attributes:
        word_table: the name of the table of word embeddings among the weights.
        parts: beginnings of the names of the encoder's weights.
        head_parts: beginnings of the names of a head's weights.
    """

    family: ClassVar[str]
    word_table: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    head_parts: ClassVar[tuple[str, ...]]
    hidden: int
    embedding_width: int
    layers: int
    heads: int
    vocabulary: int
    max_length: int
    epsilon: float
    activation: str

    @property
    def segments(self) -> int:
        """How many segments it embeds; 0 where it does not."""
        return 0

    @abstractmethod
    def assemble(self, take: Take) -> Stack[Any]:
        """Put the weights in the order they are used."""

    def uses(self, name: str) -> bool:
        """Whether a weight of the encoder is computed with."""
        return True

    def head(self, weights: Mapping[str, Tensor], words: Tensor, where: str, like: Tensor) -> Head | None:
        """Put the weights of the head over words together; see `assemble_head`."""
        return assemble_head(self.family, self, weights, words, where, like)

    @abstractmethod
    def resized(self, vocabulary: int) -> Plan:
        """The same shape with another number of words."""


class PlainBackbone(Tokenizing):
    """A `Backbone` in plain torch; see the contract for what each method promises.

    Args:
        weights: those of the encoder, in the type that it computes in if they are frozen.
        head: over words; it never learns.
        columns: the table of words that the head multiplies by where it has no columns of its own; the frozen one, so
            that a model whose table is tuned, or holds only some words, is trained and asked with the same columns.
    """

    deep = True
    learns = True

    def __init__(
        self,
        name: str,
        plan: Plan,
        weights: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        *,
        dtype: torch.dtype,
        pooling: Pooling | None,
        fingerprint: str | None,
        head: Head | None,
        columns: Float[Tensor, "V E"],
    ) -> None:
        self.name, self.pooling, self.weights, self.head, self._columns = name, pooling, weights, head, columns
        self.family, self.hidden, self.layers, self.heads = plan.family, plan.hidden, plan.layers, plan.heads
        self.embedding_width, self.max_length = plan.embedding_width, plan.max_length
        self.prompt_layers, self.key_width, self.key_heads = plan.layers, plan.hidden, plan.heads
        self.words, self.device = plan.word_table, weights[plan.word_table].device
        self.arithmetic: Arithmetic = "bf16" if dtype == torch.bfloat16 else "fp32"
        self._plan, self._tokenizer, self._dtype, self._fingerprint = plan, tokenizer, dtype, fingerprint
        if not any(weight.requires_grad for weight in weights.values()):
            self._frozen  # noqa: B018  # what does not fit is said now

    def __repr__(self) -> str:
        return shown(self)

    @property
    def fingerprint(self) -> str:
        """The hash of the weights, made when it is asked for: weights that learn change at every step."""
        return fingerprint(self.weights) if self._fingerprint is None else self._fingerprint

    @property
    def reads(self) -> frozenset[Read]:
        pooler: tuple[Read, ...] = () if self._stack.pooler is None else ("pooler",)
        mark: tuple[Read, ...] = () if self.head is None else ("mark",)
        return frozenset({"cls", "mean", "tokens", *pooler, *mark})

    def forward(
        self, batch: Batch, prompts: PromptStack | None, read: Read, *, dropout: Dropout | None = None
    ) -> Float[Tensor, "N H"]:
        self._check(prompts, read)
        layout = lay_out(batch, prompts, read, self.max_length)
        batch, layout, prompts = place(batch, layout, prompts, self.device)
        stack = self._stack
        dropped = None if dropout is None else dropout.over(layout.starts)
        x = self._embedded(stack, batch.tokens.ids, layout, prompts)
        x = x if dropped is None else dropped(x, EMBEDDED)
        x = self._through_layers(stack, x, layout, batch, prompts, dropped)
        if read == "pooler" and stack.pooler is not None:
            return torch.tanh(stack.pooler(x)).float()
        x = x.float()
        if read == "mark" and self.head is not None:
            return self.head(x)
        return kernels.segment_mean(x, layout.read_starts) if read == "mean" else x

    @property
    def mask(self) -> int | None:
        return self._tokenizer.mask

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.word_ids(words)

    def columns(self, ids: Int[Tensor, "M"]) -> tuple[Float[Tensor, "M E"], Float[Tensor, "M"]]:
        if self.head is None:
            raise self._lacks("mark")
        return self.head.columns(ids, self._columns)

    def embed(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "P E"]:
        return self.weights[self.words][ids.to(self.device)].float().cpu()

    def keys_values(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "L 2 P H"]:
        stack, starts = self._stack, torch.tensor([0, len(ids)])
        batch = Batch(Tokens(ids, torch.zeros_like(ids), starts, torch.tensor([0, 1])))
        batch, layout, _ = place(batch, lay_out(batch, None, "tokens", self.max_length), None, self.device)
        x, pairs = self._embedded(stack, batch.tokens.ids, layout, None), []
        geometry = stack.geometry(layout, _rows(layout, batch, None, self.heads), None)
        for number in range(self.layers):
            states = stack.projected(number, x, geometry, None)
            pairs.append(torch.stack(states[1:]))
            x = stack.after_attention(number, stack.attended(number, states, geometry, None, None), x, None)
        return torch.stack(pairs).float().cpu()

    def with_weights(self, weights: Mapping[str, Tensor]) -> Backbone:
        weights = {name: weight.to(self.device) for name, weight in weights.items()}
        return PlainBackbone(
            self.name,
            self._plan.resized(len(weights[self.words])),
            weights,
            self._tokenizer,
            dtype=self._dtype,
            pooling=self.pooling,
            fingerprint=None,
            head=self.head,
            columns=self._columns,
        )

    @property
    def _stack(self) -> Stack[Any]:
        """The assembled weights; those that learn are assembled anew for every pass, each with its own graph."""
        learn = any(weight.requires_grad for weight in self.weights.values())
        return self._assembled() if learn else self._frozen

    @cached_property
    def _frozen(self) -> Stack[Any]:
        return self._assembled()

    def _assembled(self) -> Stack[Any]:
        return self._plan.assemble(Take(self.weights, self.name, self._dtype))

    def _embedded(
        self, stack: Stack[Any], ids: Tensor, layout: Layout, prompts: PromptStack | None
    ) -> Float[Tensor, "R H"]:
        """Embed tokens and shallow prompts."""
        words = F.embedding(ids if layout.source is None else ids.clamp_min(0), stack.words)
        if layout.source is not None and prompts is not None:
            words = torch.cat([words, prompts.table.to(words.dtype)]).index_select(0, layout.source)
            note_vectors(layout.source, len(ids))
        return stack.embedded(words, layout)

    def _through_layers(
        self,
        stack: Stack[Any],
        x: Float[Tensor, "R H"],
        layout: Layout,
        batch: Batch,
        prompts: PromptStack | None,
        dropout: RowDropout | None,
    ) -> Float[Tensor, "Q H"]:
        """Run all layers; the last one only for the rows that are read."""
        table = prompts.table if prompts is not None and prompts.depth == "deep" else None
        rows, read = _rows(layout, batch, prompts, self.heads), layout.read
        geometry = stack.geometry(layout, rows, None)
        for number in range(self.layers):
            residual, asking = x, None
            if number == self.layers - 1 and read is not None:
                geometry = stack.geometry(layout, rows.asking(layout.read_starts, layout.limits), read)
                residual, asking = x.index_select(0, read), read
                dropout = None if dropout is None else dropout.select(read)
            states = stack.projected(number, x, geometry, asking)
            dropped = None if dropout is None else (dropout, attention_site(number))
            prompt = None if table is None else table[number]
            self._watch(stack, number, states, geometry, prompt)
            mixed = stack.attended(number, states, geometry, prompt, dropped)
            x = stack.after_attention(number, mixed, residual, dropout)
        return stack.final(x)

    def _watch(
        self,
        stack: Stack[Any],
        number: int,
        states: tuple[Tensor, Tensor, Tensor],
        geometry: Any,
        prompt: Float[Tensor, "2 N A"] | None,
    ) -> None:
        """Let what reads off the pass see an attention."""
        watch = watching()
        if watch is None:
            return

        def attend(values: Tensor, deep: Tensor | None) -> Tensor:
            marked = None if prompt is None or deep is None else torch.stack([prompt[0], deep.flatten(1)])
            mixed = stack.attended(number, (*states[:2], values.flatten(1)), geometry, marked, None)
            return torch.unflatten(mixed, 1, (self.heads, -1))

        heads = (self.heads, -1)
        watch.see(attend, states[2].unflatten(1, heads), None if prompt is None else prompt[1].unflatten(1, heads))

    def _check(self, prompts: PromptStack | None, read: Read) -> None:
        if read not in self.reads:
            raise self._lacks(read)
        if prompts is None:
            return
        if prompts.depth == "deep":
            sizes: object = (*prompts.table.shape[:2], prompts.table.shape[-1])
            needed: object = (self.prompt_layers, 2, self.key_width)
        else:
            sizes, needed = prompts.table.shape[-1], self.embedding_width
        if sizes != needed:
            raise RunError(f"a {prompts.depth} prompt of {sizes} does not fit {self.name}, which needs {needed}")

    def _lacks(self, read: Read) -> ModelError:
        if read == "answer":
            return ModelError("it writes no answers", where=self.name, do="read mark, or use a causal model")
        if read == "mark":
            message, do = "its weights bring no head over words", "use a model with a masked-word head, or read mean"
            return ModelError(message, where=self.name, do=do)
        return ModelError("this model has no pooler", where=self.name, do="read cls or mean")


def _rows(layout: Layout, batch: Batch, prompts: PromptStack | None, heads: int) -> kernels.Rows:
    """Which rows attend to which, all of them asking."""
    deep = prompts if prompts is not None and prompts.depth == "deep" else None
    starts, prompt_of = (None, None) if deep is None else (deep.starts, batch.prompt_of)
    limits = layout.limits
    every = None if limits is None else replace(limits, queries=limits.tokens)
    return kernels.Rows(layout.starts, layout.starts, heads, starts, prompt_of, every)


def load_plain(resolved: Resolved, plan: Plan, dtype: torch.dtype, device: torch.device) -> PlainBackbone:
    """Load the model in a folder, whose config.json gave the plan.

    Raises:
        ModelError: its weights or its tokenizer cannot be used.
    """
    found = read_encoder(resolved.path, plan.word_table, plan.parts)
    weights = {name: weight for name, weight in found.items() if plan.uses(name)}
    head_weights = read_head(resolved.path, plan.head_parts)
    check_weights({**weights, **head_weights}, resolved.path)
    identity = fingerprint(weights)
    tokenizer = load_tokenizer(resolved.path, prefix=resolved.text_prefix, to_traditional=resolved.to_traditional)
    tokenizer = tokenizer.checked(plan.vocabulary, plan.segments, resolved.path)
    cast = {name: weight.to(device, dtype) for name, weight in weights.items()}
    words = cast[plan.word_table]
    return PlainBackbone(
        resolved.name,
        plan,
        cast,
        tokenizer,
        dtype=dtype,
        pooling=resolved.pooling,
        fingerprint=identity,
        head=plan.head(head_weights, weights[plan.word_table], str(resolved.path), words),
        columns=words,
    )
