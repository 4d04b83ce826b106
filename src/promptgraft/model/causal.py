"""A decoder runs over packed rows: nothing is computed for padding, for rows that nobody reads, or twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft import kernels
from promptgraft.errors import ModelError, RunError
from promptgraft.kernels.causal import Scoring, causal_attention, turned_keys
from promptgraft.kernels.dropout import Dropout
from promptgraft.kernels.logits import log_probabilities, logits
from promptgraft.kernels.pattern import Pattern
from promptgraft.kernels.rotary import Turns
from promptgraft.model.again import computed_again
from promptgraft.model.backbone import Arithmetic, Backbone, Batch, Read, Speech
from promptgraft.model.beginnings import LEAST_KEPT, Beginning, Beginnings, joined
from promptgraft.model.causal_pass import DecoderPass, Found, NewBeginning, answer_tokens, wanted_elements
from promptgraft.model.continuing import Continued, KeptRows
from promptgraft.model.decoder import (
    Decoder,
    DecoderLayer,
    DecoderShape,
    TakeParts,
    after_attention,
    assemble,
    kept_bytes,
    key_value_heads,
    query_heads,
)
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.memory import MemoryLimit
from promptgraft.model.plain_text import PlainReader
from promptgraft.model.stored import FEW_BITS, Room, StoredProjection, TakeFrozen
from promptgraft.model.tokenize import Tokenizer
from promptgraft.model.tokenized import Tokenizing
from promptgraft.model.tokens import Tokens
from promptgraft.model.tree import Elements, Tree, common, first_wanted, grow, lay_out_elements
from promptgraft.model.watch import note_vectors, watching
from promptgraft.model.writing import Rules, Writing
from promptgraft.prompt.prompt import PromptStack
from promptgraft.prompt.reading import Pooling


class CausalBackbone(Tokenizing):
    """A `Backbone` of the Llama kind or GPT-2 that also `Speaks`; see the contracts for what each method promises.

    Weights are used in `dtype`, results are always fp32.

    Args:
        arithmetic: of the products; in `int8` and `int4` their weights are stored in so many bits.
        frozen: the weights in the order of use; None where they learn.
        ends: tokens that end a text.
        memory: what a training step, and what is written, may take.
        variant: of the native path; None: plain torch.
    """

    deep = True
    learns = True
    mask = None
    speech: Speech = "causal"
    reads: frozenset[Read] = frozenset({"mark", "answer", "mean", "tokens"})

    def __init__(
        self,
        name: str,
        shape: DecoderShape,
        weights: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        *,
        dtype: torch.dtype,
        arithmetic: Arithmetic,
        pooling: Pooling | None,
        fingerprint: str | None,
        frozen: Decoder | None,
        ends: frozenset[int] = frozenset(),
        memory: MemoryLimit | None = None,
        variant: str | None = None,
    ) -> None:
        self.name, self.pooling, self.weights = name, pooling, weights
        self.family, self.hidden, self.layers, self.heads = shape.family, shape.hidden, shape.layers, shape.heads
        self.embedding_width, self.max_length = shape.hidden, shape.positions
        self.prompt_layers, self.key_width, self.key_heads = shape.layers, shape.key_width, shape.key_heads
        self.words = "wte.weight" if shape.family == "gpt2" else "embed_tokens.weight"
        self.arithmetic, self.memory = arithmetic, memory or MemoryLimit()
        self.device = weights[self.words].device
        self._shape, self._tokenizer, self._dtype = shape, tokenizer, dtype
        self._fingerprint, self._frozen, self.ends = fingerprint, frozen, ends
        self._beginnings = Beginnings()
        self._begin = next(iter(tokenizer.frames.single.gaps[0]), None)
        self._frequencies = [rotary.frequencies(shape.head_width).to(self.device) for rotary in shape.rotaries]
        self._scoring = Scoring(shape.score_scale, shape.score_cap, variant)

    def forget(self) -> None:
        """Let go of the beginnings that are kept."""
        self._beginnings = Beginnings()

    @property
    def fingerprint(self) -> str:
        """The hash of the weights, made when it is asked for: weights that learn change at every step."""
        return fingerprint(self.weights) if self._fingerprint is None else self._fingerprint

    @property
    def text_end(self) -> tuple[int, ...]:
        return self._end

    def forward(
        self, batch: Batch, prompts: PromptStack | None, read: Read, *, dropout: Dropout | None = None
    ) -> Float[Tensor, "N H"]:
        self._check(prompts, read, dropout)
        elements = self._elements(batch, prompts)
        wanted = wanted_elements(batch.tokens, elements, read)
        decoder = self._decoder
        if not len(wanted):
            return torch.zeros(0, 1 if read == "answer" else self.hidden, device=self.device)
        run, row_of = self._pass(batch, elements, prompts, wanted, keeps=read in ("mark", "answer"))
        x, kept = self._through_layers(decoder, self._embedded(decoder, run.tree, prompts), run)
        self._keep(run, kept)
        x = decoder.norm(x)
        if read == "answer":
            words = batch.tokens.ids[answer_tokens(batch.tokens)].to(self.device)
            found = log_probabilities(x, words, row_of, decoder.head, self._shape.logit_cap, variant=decoder.variant)
            return found[:, None]
        states = x.float().index_select(0, row_of)
        if read == "mean":
            return kernels.segment_mean(states, batch.tokens.starts.to(self.device))
        return states

    def embed(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "P E"]:
        return self.weights[self.words][ids.to(self.device)].float().cpu() * self._shape.embedding_scale

    def keys_values(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "L 2 P H"]:
        starts, rows = torch.tensor([0, len(ids)]), torch.tensor([0, 1])
        batch = Batch(Tokens(ids, torch.zeros_like(ids), starts, rows))
        run, _ = self._pass(batch, self._elements(batch, None), None, torch.arange(len(ids)), keeps=False)
        run = replace(run, keeps=torch.arange(len(ids), device=self.device))
        _, kept = self._through_layers(self._decoder, self._embedded(self._decoder, run.tree, None), run)
        return torch.stack(kept).float().cpu()

    def with_weights(self, weights: Mapping[str, Tensor]) -> Backbone:
        learn = any(weight.requires_grad for weight in weights.values())
        if learn and self._is_stored:
            message = "the weights of this model learn in fp32 and bf16 alone, where all of them fit on the device"
            raise RunError(message, where=self.name, do="use --arithmetic bf16 and a larger device, or tune a prompt")
        weights = {name: weight.to(self.device) for name, weight in weights.items()}
        shape = replace(self._shape, vocabulary=len(weights.get(self.words, self.weights[self.words])))
        return CausalBackbone(
            self.name,
            shape,
            weights,
            self._tokenizer,
            dtype=self._dtype,
            arithmetic=self.arithmetic,
            pooling=self.pooling,
            fingerprint=None if self.arithmetic not in FEW_BITS else fingerprint(weights),
            frozen=None if learn else self._frozen_of(shape, weights),
            ends=self.ends,
            memory=self.memory,
            variant=self._scoring.variant,
        )

    def _frozen_of(self, shape: DecoderShape, weights: dict[str, Tensor]) -> Decoder:
        variant = self._scoring.variant
        take = TakeFrozen(weights, self.name, self._dtype, self.device, self.arithmetic, Room(), variant=variant)
        return assemble(shape, take)

    @property
    def _is_stored(self) -> bool:
        """Whether some weights are in few bits, or not on the device."""
        if self._frozen is None:
            return False
        return any(isinstance(layer.queries, StoredProjection) for layer in self._frozen.layers)

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.word_ids(words)

    def columns(self, ids: Int[Tensor, "M"]) -> tuple[Float[Tensor, "M H"], Float[Tensor, "M"]]:
        head = self._decoder.head[ids.to(self.device)].float().cpu()
        return head, torch.zeros(len(ids))

    def generate(
        self,
        batch: Batch,
        prompts: PromptStack | None,
        *,
        most: int,
        stop: Sequence[str] = (),
        generator: torch.Generator | None = None,
        temperature: float = 0.0,
        among: Sequence[Sequence[str]] | None = None,
    ) -> list[str]:
        self._check(prompts, "mark", None)
        rules = Rules(most, self.ends, None, stop, temperature, generator)
        answers = self._answer_ids({text for texts in among or () for text in texts})
        writing = Writing(batch.tokens.sequences, rules, self._decode, among, answers.__getitem__)
        longest = most if among is None else max(map(len, answers.values()), default=1)
        if not writing.done:
            with torch.no_grad():
                self._write(batch, prompts, writing, longest)
        return [text or "" for text in writing.texts]

    def _write(self, batch: Batch, prompts: PromptStack | None, writing: Writing, longest: int) -> None:
        """Read the rows, then write an answer to each, token by token."""
        elements, decoder = self._elements(batch, prompts), self._decoder
        needed = int((elements.starts.diff() + elements.shift).max()) + longest - 1
        if needed > self.max_length:
            message = f"a sequence and its answer take {needed} positions, the backbone has {self.max_length}"
            raise RunError(message, do="cut the text (max_length), or ask for fewer tokens")
        run, row_of = self._pass(batch, elements, prompts, wanted_elements(batch.tokens, elements, "mark"), keeps=True)
        every = replace(run, keeps=torch.arange(len(run.tree.codes), device=self.device))
        x, kept = self._through_layers(decoder, self._embedded(decoder, run.tree, prompts), every)
        self._keep(run, [layer.index_select(1, run.keeps) for layer in kept])
        none = torch.zeros(1, dtype=torch.long)
        starts = prompts.starts if prompts is not None and prompts.depth == "deep" else none
        rows = KeptRows.of(elements, run.tree, starts, run.found.rows)
        before = [part for part in (run.prompts, run.found.keys_values) if part is not None]
        layers = _behind(before, kept)
        continued = Continued(self._shape, decoder, self._frequencies, self._scoring, rows, layers, longest)
        states = x.index_select(0, row_of.index_select(0, rows.order.to(self.device)))
        while True:
            scores = logits(decoder.norm(states), decoder.head, self._shape.logit_cap, variant=decoder.variant)
            chosen = writing.add(continued.of_all(scores, batch.tokens.sequences))
            if writing.done:
                return
            states = continued.step(chosen, [text is None for text in writing.texts])

    @property
    def _end(self) -> tuple[int, ...]:
        """The token that ends an answer, where the model has one."""
        return tuple(sorted(self.ends)[:1])

    @cached_property
    def _plain(self) -> PlainReader:
        return PlainReader(self._tokenizer)

    def _decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens that go on behind others."""
        before = self._plain.anchors[0][1]
        text: str = self._tokenizer.engine.decode([*before, *tokens])
        return text[len(self._tokenizer.engine.decode(before)) :]

    def _answer_ids(self, texts: Collection[str]) -> dict[str, list[int]]:
        """The tokens of each text, and the one that ends it where the model has one."""
        read = self._plain.read(list(texts), goes_on=True)
        return {text: [*tokens.ids, *self._end] for text, tokens in zip(texts, read, strict=True)}

    @property
    def _decoder(self) -> Decoder:
        """The assembled weights; those that learn are assembled anew for every pass, each with its own graph."""
        return self._frozen or assemble(self._shape, TakeParts(self.weights, self.name, self._dtype))

    def _elements(self, batch: Batch, prompts: PromptStack | None) -> Elements:
        return lay_out_elements(batch, prompts, self._shape.vocabulary, self._begin, self.max_length)

    def _pass(
        self, batch: Batch, elements: Elements, prompts: PromptStack | None, wanted: Int[Tensor, "N"], *, keeps: bool
    ) -> tuple[DecoderPass, Int[Tensor, "N"]]:
        """Plan a pass; also the state of every element that is wanted, among those that the pass gives."""
        deep = prompts if prompts is not None and prompts.depth == "deep" else None
        beginning = common(elements)
        found = (
            self._found(elements, prompts, beginning, wanted)
            if keeps and self._frozen is not None
            else Found.nothing(len(beginning))
        )
        deep_starts = None if deep is None else deep.starts
        tree = grow(elements, batch.tokens.rows, beginning, found.length, deep_starts, found.rows)
        rows, row_of = tree.row_of[wanted].unique(return_inverse=True)
        every = len(rows) == len(tree.codes)
        places, count = tree.places, 0 if deep is None else deep.table.shape[2]
        shape = (found.places, count, self._shape.key_heads, self.heads // self._shape.key_heads, self.device)
        all_rows = Pattern(tree.levels, places, places, *shape)
        read_rows = all_rows if every else Pattern(tree.asking(rows), places[rows], places, *shape)
        positions = tree.positions.to(self.device)
        turns = [Turns.at(positions, frequencies, self._dtype) for frequencies in self._frequencies]
        read = None if every else rows.to(self.device)
        pairs = tuple((turn, turn if read is None else turn.select(read)) for turn in turns)
        table = None if deep is None else deep.table.to(self.device)
        of_new = [tree.row_of[new.first + new.known : new.first + len(new.codes)] for new in found.new]
        to_keep = torch.cat(of_new or [rows[:0]]).to(self.device)
        return DecoderPass(tree, read, all_rows, read_rows, pairs, table, found, to_keep), row_of.to(self.device)

    def _found(
        self, elements: Elements, prompts: PromptStack | None, beginning: Int[Tensor, "S"], wanted: Int[Tensor, "N"]
    ) -> Found:
        """Look for the beginnings of a pass among those that are kept, up to the first state that is wanted."""
        limit = torch.minimum(beginning, first_wanted(elements, wanted))
        length, at = torch.zeros_like(beginning), 0
        rows: dict[int, tuple[int, int]] = {}
        keys_values: list[Tensor] = []
        new: list[NewBeginning] = []
        for prompt in elements.prompt_of.unique().tolist():
            group = (elements.prompt_of == prompt).nonzero().flatten()
            first = int(elements.starts[group[0]])
            codes = elements.codes[first : first + int(beginning[group[0]])]
            codes, owner = self._content(codes, prompts, prompt)
            if owner is None:  # the vectors learn, and what stands behind them changes
                continue
            count, old = self._beginnings.longest(owner, codes[: int(limit[group].min())])
            if old is not None:
                length[group], rows[prompt] = count, (at, at := at + count)
                keys_values.append(old.keys_values[:, :, :count])
            if len(group) > 1 and len(codes) - count >= LEAST_KEPT:
                new.append(NewBeginning(owner, codes, prompt, first, count))
        places = torch.cat([torch.arange(last - start) for start, last in rows.values()] or [length[:0]])
        past = joined(keys_values) if keys_values else None
        return Found(length, rows, places, past, tuple(new))

    def _content(
        self, codes: Int[Tensor, "N"], prompts: PromptStack | None, prompt: int
    ) -> tuple[Int[Tensor, "M"], bytes | None]:
        """The beginning of a prompt's sequences, and what of the prompt decides its keys and values.

        Vectors are counted from the prompt's first; where they learn, the beginning ends before them.
        """
        if prompts is None:
            return codes, b""
        start, end = prompts.starts[prompt : prompt + 2].tolist()
        learns = torch.is_grad_enabled() and prompts.table.requires_grad
        vectors = (codes >= self._shape.vocabulary).nonzero().flatten()
        if prompts.depth == "shallow" and (learns or not len(vectors)):
            return codes[: int(vectors[0])] if len(vectors) else codes, b""
        if learns:
            return codes, None
        codes = codes.clone()
        codes[vectors] -= start
        values = prompts.table[..., start:end, :].detach().contiguous().cpu()
        content = hashlib.sha256(values.view(torch.uint8).numpy().data)
        content.update(f"{prompts.depth} {prompts.placement}".encode())
        return codes, content.digest()

    def _keep(self, run: DecoderPass, kept: Sequence[Float[Tensor, "2 A K"]]) -> None:
        """Keep the new beginnings of a pass, whose keys and values its layers gave."""
        at = 0
        for new in run.found.new:
            count = len(new.codes) - new.known
            keys_values = torch.stack([layer[:, at : at + count] for layer in kept])
            at += count
            if new.known and run.found.keys_values is not None:
                first, last = run.found.rows[new.prompt]
                keys_values = torch.cat([run.found.keys_values[:, :, first:last], keys_values], 2)
            self._beginnings.keep(new.owner, Beginning(new.codes, keys_values.detach().clone()))

    def _embedded(self, decoder: Decoder, tree: Tree, prompts: PromptStack | None) -> Float[Tensor, "R H"]:
        """The rows of words and of shallow prompts, with their positions where these are in a table."""
        codes = tree.codes.to(self.device)
        words = F.embedding(codes.clamp_max(self._shape.vocabulary - 1), decoder.words)
        if self._shape.embedding_scale != 1:
            words = words * torch.tensor(self._shape.embedding_scale, dtype=words.dtype)
        vectors = (codes >= self._shape.vocabulary).nonzero().flatten()
        if len(vectors) and prompts is not None:
            table = prompts.table.to(self.device, words.dtype)
            words = words.index_copy(0, vectors, table.index_select(0, codes[vectors] - self._shape.vocabulary))
            note_vectors(codes, self._shape.vocabulary)
        if decoder.positions is None:
            return words
        return words + F.embedding(tree.positions.to(self.device), decoder.positions)

    def _through_layers(
        self, decoder: Decoder, x: Float[Tensor, "R H"], run: DecoderPass
    ) -> tuple[Float[Tensor, "Q H"], list[Float[Tensor, "2 A K"]]]:
        """Run all layers, the last one only for the rows that are read; also every layer's keys and values to keep."""
        kept: list[Tensor] = []
        again = self._is_again(x, run)
        tables = [None] * self.layers if run.prompts is None else run.prompts.unbind(0)
        for number, layer in enumerate(decoder.layers):
            read = run.read if number == self.layers - 1 else None

            def step(
                x: Tensor, prompts: Tensor | None, layer: DecoderLayer = layer, number: int = number,
                read: Tensor | None = read,
            ) -> Tensor:  # fmt: skip
                return self._layer(layer, number, x, prompts, run, read, kept)

            prompts = tables[number]
            x = computed_again(step, x, prompts) if again else step(x, prompts)
        return x, kept

    def _is_again(self, x: Float[Tensor, "R H"], run: DecoderPass) -> bool:
        """Whether layers are computed again in the backward, since what all of them keep for it has no room."""
        learns = x.requires_grad or (run.prompts is not None and run.prompts.requires_grad)
        if not learns or not torch.is_grad_enabled() or self._frozen is None:
            return False
        return not self.memory.has(len(x) * kept_bytes(self._shape, x.element_size()), x.device)

    def _layer(
        self,
        layer: DecoderLayer,
        number: int,
        x: Float[Tensor, "R H"],
        prompts: Float[Tensor, "2 N K"] | None,
        run: DecoderPass,
        read: Int[Tensor, "Q"] | None,
        kept: list[Tensor],
    ) -> Float[Tensor, "Q H"]:
        normed = layer.norm(x)
        keys_values = key_value_heads(layer, normed, self._shape)
        if read is not None:
            x, normed = x.index_select(0, read), normed.index_select(0, read)
        queries = query_heads(layer, normed, self._shape)
        turns = None
        if run.turns:
            of_all, of_read = run.turns[self._shape.rotary_of[number]]
            turns = (of_all if read is None else of_read, of_all)
        if len(run.keeps) and len(kept) == number:  # a layer that is computed again has been kept already
            of_kept = None if turns is None else turns[1].select(run.keeps)
            kept.append(turned_keys(keys_values.detach().index_select(0, run.keeps), of_kept))
        attend = partial(
            causal_attention,
            queries,
            pattern=run.all_rows if read is None else run.read_rows,
            scoring=self._scoring,
            turns=turns,
            window=self._shape.windows[number],
            past=None if run.found.keys_values is None else run.found.keys_values[number],
        )
        self._watch(attend, keys_values, prompts)
        return after_attention(layer, attend(keys_values, prompts=prompts).flatten(1), x, self._shape)

    def _watch(
        self,
        attend: Callable[..., Tensor],
        keys_values: Float[Tensor, "R two_key_heads width"],
        prompts: Float[Tensor, "2 N K"] | None,
    ) -> None:
        """Let what reads off the pass see an attention."""
        watch = watching()
        if watch is None:
            return
        keys, values = keys_values.chunk(2, 1)

        def marked(others: Tensor, deep: Tensor | None) -> Tensor:
            table = None if prompts is None or deep is None else torch.stack([prompts[0], deep.flatten(1)])
            return attend(torch.cat([keys, others], 1), prompts=table)

        own = None if prompts is None else prompts[1].unflatten(1, (self.key_heads, -1))
        watch.see(marked, values, own, "decoder")

    def _check(self, prompts: PromptStack | None, read: str, dropout: Dropout | None) -> None:
        if read not in self.reads:
            message = f"a causal model cannot be read at {read!r}"
            raise ModelError(message, where=self.name, do=f"read {', '.join(sorted(self.reads))}")
        if dropout is not None:
            raise RunError(f"dropout is not supported for {self.name}", do="use the BERT family")
        if prompts is None:
            return
        if prompts.depth == "deep":
            sizes: object = (*prompts.table.shape[:2], prompts.table.shape[-1])
            needed: object = (self.prompt_layers, 2, self.key_width)
        else:
            sizes, needed = prompts.table.shape[-1], self.embedding_width
        if sizes != needed:
            raise RunError(f"a {prompts.depth} prompt of {sizes} does not fit {self.name}, which needs {needed}")


def _behind(before: Sequence[Tensor], kept: list[Float[Tensor, "2 A K"]]) -> Iterator[Float[Tensor, "2 B K"]]:
    """Each layer's keys and values behind those of prompts and kept beginnings; `kept` is emptied on the way."""
    for number in range(len(kept)):
        layer = kept.pop(0)
        yield torch.cat([*(part[number].to(layer.dtype) for part in before), layer], 1)
