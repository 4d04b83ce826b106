"""The encoder runs over packed rows: nothing is computed for padding, or for rows that nobody reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft import kernels
from promptgraft.errors import ModelError, RunError
from promptgraft.kernels.dropout import EMBEDDED, Dropout, RowDropout, attended_site, attention_site, narrow_site
from promptgraft.model.backbone import Arithmetic, Backbone, Batch, Read, shown
from promptgraft.model.device import place
from promptgraft.model.encoder import Assemble, Encoder, Layer, Norm, Shape, Take
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.graphs import Graphs, fits
from promptgraft.model.head import Head
from promptgraft.model.layout import Layout, lay_out, marked_first
from promptgraft.model.native import NativeEncoder, NativeRows
from promptgraft.model.tokenize import Tokenizer
from promptgraft.model.tokenized import Tokenizing
from promptgraft.model.tokens import Tokens
from promptgraft.model.watch import note_vectors, watching
from promptgraft.prompt.prompt import PromptStack
from promptgraft.prompt.reading import Pooling

WORDS = "embeddings.word_embeddings.weight"


class PackedBackbone(Tokenizing):
    """A `Backbone` of the BERT family; see the contract for what each method promises.

    Weights are used in `dtype`, results are always fp32.

    Args:
        frozen: the weights in the order of use; None where they learn.
        variant: of the native path; None: plain torch.
        learner: the native path's memory for weights that learn; None: they learn in plain torch.
        head: over words; it never learns.
        columns: the table of words that the head goes by; None: that of `weights`. A table that is tuned, or that holds
            only some words, is not the one that the head was made for.
    """

    deep = True

    def __init__(
        self,
        name: str,
        shape: Shape,
        assemble: Assemble,
        weights: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        *,
        dtype: torch.dtype,
        pooling: Pooling | None,
        fingerprint: str | None,
        frozen: Encoder | None = None,
        variant: str | None = None,
        learner: NativeEncoder | None = None,
        head: Head | None = None,
        columns: Float[Tensor, "V E"] | None = None,
    ) -> None:
        self.name, self.pooling, self.weights = name, pooling, weights
        self.family, self.hidden, self.layers, self.heads = shape.family, shape.hidden, shape.layers, shape.heads
        self.embedding_width, self.max_length = shape.embedding_width, shape.max_length
        self._shape, self._assemble, self._tokenizer, self._dtype = shape, assemble, tokenizer, dtype
        self.arithmetic: Arithmetic = "bf16" if dtype == torch.bfloat16 else "fp32"
        if frozen is not None and frozen.is_int8:
            self.arithmetic = "int8"
        self.learns = self.arithmetic != "int8"
        self.device = weights[WORDS].device
        self._frozen, self._fingerprint, self._variant, self._learner = frozen, fingerprint, variant, learner
        self.prompt_layers, self.key_width, self.key_heads = self.layers, self.hidden, self.heads
        self.words, self.head = WORDS, head
        self._columns = weights[WORDS] if columns is None else columns

    def __repr__(self) -> str:
        return shown(self)

    @property
    def fingerprint(self) -> str:
        """The hash of the weights, made when it is asked for: weights that learn change at every step."""
        return fingerprint(self.weights) if self._fingerprint is None else self._fingerprint

    @cached_property
    def reads(self) -> frozenset[Read]:
        pooler: tuple[Read, ...] = ("pooler",) if self._encoder.pooler is not None else ()
        mark: tuple[Read, ...] = () if self.head is None else ("mark", "original") if self.head.detects else ("mark",)
        return frozenset({"cls", "mean", "tokens", *pooler, *mark})

    def forward(
        self, batch: Batch, prompts: PromptStack | None, read: Read, *, dropout: Dropout | None = None
    ) -> Float[Tensor, "N H"]:
        encoder = self._encoder
        self._check(prompts, read, encoder)
        if read == "original":
            return self._originals(batch, self.forward(batch, prompts, "tokens", dropout=dropout))
        layout = lay_out(batch, prompts, read, self.max_length)
        if read == "mark":
            batch, layout = marked_first(batch, layout)
        plain = watching() is not None  # an attention can be read off in plain torch alone
        if not plain and self._graphs is not None and prompts is not None and dropout is None and fits(layout, prompts):
            return self._graphs(batch, layout, prompts, read)
        return self._states(encoder, *place(batch, layout, prompts, self.device), read, dropout)

    def _states(
        self,
        encoder: Encoder,
        batch: Batch,
        layout: Layout,
        prompts: PromptStack | None,
        read: Read,
        dropout: Dropout | None = None,
    ) -> Float[Tensor, "N H"]:
        """Run the whole pass over inputs on the backbone's device."""
        native = self._native if batch.tokens.sequences and watching() is None else None
        if native is not None:
            x = self._natively(native, encoder, layout, batch, prompts, read, dropout)
        else:
            rows = None if dropout is None else dropout.over(layout.starts)
            x = self._embedded(encoder, batch.tokens.ids, layout, prompts, rows)
            x = self._through_layers(encoder, x, layout, batch, prompts, rows)
        if read == "mean":
            return kernels.segment_mean(x.float(), layout.read_starts)
        if read == "pooler" and encoder.pooler is not None:
            return torch.tanh(encoder.pooler(x)).float()
        return self.head(x) if read == "mark" and self.head is not None else x.float()

    def _originals(self, batch: Batch, states: Float[Tensor, "T H"]) -> Float[Tensor, "N 1"]:
        """The log-probability that each token of an answer is original, from the states of all tokens."""
        assert self.head is not None, "there is a head that detects"
        assert batch.tokens.answers is not None, "words stand in the answer's place"
        weights, biases = self.head.columns(torch.zeros(1, dtype=torch.long), self._columns)
        asked = self.head(states[batch.tokens.answers.to(states.device)])
        return F.logsigmoid(-(asked @ weights.to(asked).T + biases.to(asked)))

    @property
    def mask(self) -> int | None:
        return self._tokenizer.mask

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.word_ids(words)

    def columns(self, ids: Int[Tensor, "M"]) -> tuple[Float[Tensor, "M E"], Float[Tensor, "M"]]:
        if self.head is None:
            raise self._no_head()
        return self.head.columns(ids, self._columns)

    def embed(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "P E"]:
        return self.weights[WORDS][ids.to(self.device)].float().cpu()

    def keys_values(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "L 2 P H"]:
        encoder, starts = self._encoder, torch.tensor([0, len(ids)])
        tokens = Tokens(ids, torch.zeros_like(ids), starts, torch.tensor([0, 1]))
        layout = lay_out(Batch(tokens), None, "tokens", self.max_length)
        batch, layout, _ = place(Batch(tokens), layout, None, self.device)
        x, pairs = self._embedded(encoder, batch.tokens.ids, layout, None, None), []
        rows = kernels.Rows(layout.starts, layout.starts, self.heads, known=layout.limits)
        for layer in encoder.layers:
            q, k, v = layer.qkv(x).chunk(3, -1)
            pairs.append(torch.stack([k, v]))
            x = self._after_attention(layer, len(pairs) - 1, kernels.attention(q, k, v, rows), x, None)
        return torch.stack(pairs).float().cpu()

    def with_weights(self, weights: Mapping[str, Tensor]) -> Backbone:
        learn = any(weight.requires_grad for weight in weights.values())
        if learn and self.arithmetic == "int8":
            raise self._no_gradient()
        weights = {name: weight.to(self.device) for name, weight in weights.items()}
        shape = replace(self._shape, vocabulary=len(weights.get(WORDS, self.weights[WORDS])))
        return PackedBackbone(
            self.name,
            shape,
            self._assemble,
            weights,
            self._tokenizer,
            dtype=self._dtype,
            pooling=self.pooling,
            fingerprint=None,
            frozen=None if learn else self._freeze(shape, weights),
            variant=self._variant,
            learner=self._for_learning if learn else None,
            head=self.head,
            columns=self._columns,
        )

    def _freeze(self, shape: Shape, weights: Mapping[str, Tensor]) -> Encoder:
        """Assemble frozen weights in the backbone's arithmetic."""
        encoder = self._assemble(shape, Take(weights, self.name, self._dtype))
        if self.arithmetic != "int8":
            return encoder
        return encoder.in_int8(self._assemble(shape, Take(weights, self.name, torch.float32)))

    @cached_property
    def _for_learning(self) -> NativeEncoder | None:
        """The native memory in which weights that learn are packed at every step."""
        if self._frozen is None or self._native is None:
            return self._learner
        return NativeEncoder(self._frozen, self._shape, self._native.variant)

    @property
    def _encoder(self) -> Encoder:
        """The assembled weights; those that learn are assembled anew for every pass, each with its own graph."""
        dtype = self._dtype if self._learner is None else torch.float32
        return self._frozen or self._assemble(self._shape, Take(self.weights, self.name, dtype))

    @cached_property
    def _native(self) -> NativeEncoder | None:
        """The packed weights of the native path; None if it is not used."""
        if self._frozen is None or self._variant is None:
            return self._learner
        return NativeEncoder(self._frozen, self._shape, self._variant)

    @cached_property
    def _graphs(self) -> Graphs | None:
        """The recorded CUDA passes; None if weights learn, or on a processor."""
        if self._frozen is None or self.device.type != "cuda":
            return None
        return Graphs(partial(self._states, self._frozen), self.device)

    def _natively(
        self,
        native: NativeEncoder,
        encoder: Encoder,
        layout: Layout,
        batch: Batch,
        prompts: PromptStack | None,
        read: Read,
        dropout: Dropout | None,
    ) -> Float[Tensor, "Q H"]:
        """Run all layers in one native call; inputs that the library does not embed itself enter as rows."""
        deep = prompts if prompts is not None and prompts.depth == "deep" else None
        first = read in ("cls", "pooler", "mark")
        prompt_of, offsets = (None, None) if deep is None else (batch.prompt_of, deep.starts)
        table = None if deep is None else deep.table
        learning = encoder if self._frozen is None else None
        if encoder.project is None and layout.source is None and learning is None:
            places = layout.positions + self._shape.first_position
            rows = NativeRows(layout.starts, batch.tokens.ids, layout.types, places, prompt_of, offsets, first, dropout)
            return native(rows, table, None)
        dropped = None if dropout is None else dropout.over(layout.starts)
        values = self._embedded(encoder, batch.tokens.ids, layout, prompts, dropped).float()
        x = native(
            NativeRows(layout.starts, None, None, None, prompt_of, offsets, first, dropout), table, values, learning
        )
        return x if first or layout.read is None else x.index_select(0, layout.read)

    def _check(self, prompts: PromptStack | None, read: Read, encoder: Encoder) -> None:
        if read == "pooler" and encoder.pooler is None:
            raise ModelError("this model has no pooler", where=self.name, do="read cls or mean")
        if read == "mark" and self.head is None:
            raise self._no_head()
        if read == "original" and "original" not in self.reads:
            raise ModelError("it does not tell original words from others", where=self.name, do="read mark")
        if read == "answer":
            raise ModelError("it writes no answers", where=self.name, do="read mark, or use a causal model")
        if prompts is None:
            return
        if self.arithmetic == "int8" and torch.is_grad_enabled() and prompts.table.requires_grad:
            raise self._no_gradient()
        deep = (self.prompt_layers, 2, self.key_width)
        sizes = (
            (*prompts.table.shape[:2], prompts.table.shape[-1]) if prompts.depth == "deep" else prompts.table.shape[-1]
        )
        needed = deep if prompts.depth == "deep" else self.embedding_width
        if sizes != needed:
            raise RunError(f"a {prompts.depth} prompt of {sizes} does not fit {self.name}, which needs {needed}")

    def _no_head(self) -> ModelError:
        do = "use a model with a masked-word head (splade-tiny, albert-tiny-zh), or read cls or mean"
        return ModelError("its weights bring no head over words", where=self.name, do=do)

    def _no_gradient(self) -> RunError:
        do = "tune in bf16 or fp32; what is tuned there can be used in int8"
        return RunError("int8 has no gradients", where=self.name, do=do)

    def _embedded(
        self, encoder: Encoder, ids: Tensor, layout: Layout, prompts: PromptStack | None, dropout: RowDropout | None
    ) -> Float[Tensor, "R H"]:
        """Embed tokens and shallow prompts, normalised and brought to the width of the layers."""
        words = F.embedding(ids if layout.source is None else ids.clamp_min(0), encoder.words)
        if layout.source is not None and prompts is not None:
            words = torch.cat([words, prompts.table.to(words.dtype)]).index_select(0, layout.source)
            note_vectors(layout.source, len(ids))
        types = F.embedding(layout.types, encoder.types)
        positions = F.embedding(layout.positions + self._shape.first_position, encoder.positions)
        norm = encoder.embedded_norm
        x = kernels.embed_norm(words, types, positions, norm.weight, norm.bias, self._shape.epsilon)
        x = x if dropout is None else dropout(x, EMBEDDED)
        return x if encoder.project is None else encoder.project(x)

    def _through_layers(
        self,
        encoder: Encoder,
        x: Float[Tensor, "R H"],
        layout: Layout,
        batch: Batch,
        prompts: PromptStack | None,
        dropout: RowDropout | None,
    ) -> Float[Tensor, "Q H"]:
        """Run all layers; the last one only for the rows that are read."""
        table = prompts if prompts is not None and prompts.depth == "deep" else None
        starts, prompt_of = (None, None) if table is None else (table.starts, batch.prompt_of)
        limits = layout.limits
        every = None if limits is None else replace(limits, queries=limits.tokens)
        rows = kernels.Rows(layout.starts, layout.starts, self.heads, starts, prompt_of, every)
        last = rows if layout.read is None else rows.asking(layout.read_starts, limits)
        layer_prompts = [None] * self.layers if table is None else table.table.unbind(0)
        for number, (layer, prompt) in enumerate(zip(encoder.layers, layer_prompts, strict=True)):
            if number == self.layers - 1:
                if dropout is not None and layout.read is not None:
                    dropout = dropout.select(layout.read)
                return self._layer(layer, number, x, last, layout.read, prompt, dropout)
            x = self._layer(layer, number, x, rows, None, prompt, dropout)
        return x

    def _layer(
        self,
        layer: Layer,
        number: int,
        x: Float[Tensor, "R H"],
        rows: kernels.Rows,
        read: Int[Tensor, "Q"] | None,
        prompt: Float[Tensor, "2 N H"] | None,
        dropout: RowDropout | None,
    ) -> Float[Tensor, "Q H"]:
        residual = x if read is None else x.index_select(0, read)
        if read is None:
            q, k, v = layer.qkv(x).chunk(3, -1)
        else:
            q = layer.qkv.rows(0, self.hidden)(residual)
            k, v = layer.qkv.rows(self.hidden, 3 * self.hidden)(x).chunk(2, -1)
        prompt_k, prompt_v = (None, None) if prompt is None else prompt.unbind(0)
        dropped = None if dropout is None else (dropout, attention_site(number))
        self._watch(q, k, v, rows, prompt_k, prompt_v)
        mixed = kernels.attention(q, k, v, rows, prompt_k, prompt_v, dropped)
        return self._after_attention(layer, number, mixed, residual, dropout)

    def _watch(
        self, q: Tensor, k: Tensor, v: Tensor, rows: kernels.Rows, prompt_k: Tensor | None, prompt_v: Tensor | None
    ) -> None:
        """Let what reads off the pass see an attention."""
        watch = watching()
        if watch is None:
            return

        def attend(values: Tensor, deep: Tensor | None) -> Tensor:
            mixed = kernels.attention(
                q, k, values.flatten(1), rows, prompt_k, None if deep is None else deep.flatten(1)
            )
            return torch.unflatten(mixed, 1, (self.heads, -1))

        heads = (self.heads, -1)
        watch.see(attend, v.unflatten(1, heads), None if prompt_v is None else prompt_v.unflatten(1, heads))

    def _after_attention(
        self,
        layer: Layer,
        number: int,
        mixed: Float[Tensor, "Q H"],
        residual: Float[Tensor, "Q H"],
        dropout: RowDropout | None,
    ) -> Float[Tensor, "Q H"]:
        attended = layer.attended(mixed)
        attended = attended if dropout is None else dropout(attended, attended_site(number))
        x = self._add_norm(attended, residual, layer.attended_norm)
        narrow = layer.narrow(kernels.activation(layer.wide(x), self._shape.activation))
        if dropout is not None and self._shape.drops_narrow:
            narrow = dropout(narrow, narrow_site(number))
        return self._add_norm(narrow, x, layer.narrow_norm)

    def _add_norm(self, x: Tensor, residual: Tensor, norm: Norm) -> Float[Tensor, "Q H"]:
        return kernels.add_norm(x, residual, norm.weight, norm.bias, self._shape.epsilon)
