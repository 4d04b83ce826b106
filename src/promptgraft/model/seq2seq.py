"""Sequence-to-sequence models (T5, mT5, BART) run through transformers, with prompts in every attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from promptgraft import kernels
from promptgraft.errors import ModelError, RunError
from promptgraft.kernels.dropout import Dropout
from promptgraft.kernels.logits import log_probabilities, logits
from promptgraft.kernels.rows import padded
from promptgraft.model.backbone import Arithmetic, Backbone, Batch, Read, Speech
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.gaps import FilledGaps, GapWriting, between, gap_tokens, with_gaps
from promptgraft.model.layout import lay_out
from promptgraft.model.memory import MemoryLimit
from promptgraft.model.prefixed import Prefix, Taken, prefix_rows
from promptgraft.model.seq2seq_form import Form, Tower
from promptgraft.model.sides import Sides, part
from promptgraft.model.tokenize import Tokenizer
from promptgraft.model.tokenized import Tokenizing
from promptgraft.model.watch import note_vectors
from promptgraft.model.writing import Rules, Writing
from promptgraft.prompt.prompt import PromptStack
from promptgraft.prompt.reading import Pooling


@dataclass(frozen=True)
class Encoded:
    """What the encoder made of a batch of sources, padded to a rectangle."""

    states: Float[Tensor, "B T H"]
    valid: Bool[Tensor, "B T"]

    def of(self, index: Int[Tensor, "S"]) -> Encoded:
        """The same for other rows."""
        index = index.to(self.states.device)
        return Encoded(self.states[index], self.valid[index])


@dataclass(frozen=True)
class Sources:
    """What the decoder reads beside words: of each sequence the encoded source, and the prompt."""

    encoded: Encoded
    batch: Batch
    prompts: PromptStack | None

    @property
    def behind(self) -> Int[Tensor, "S"] | None:
        """Of each sequence how many positions its prompt takes before the decoder's words; None where none does."""
        prompts = self.prompts
        if prompts is None or prompts.depth == "shallow" or prompts.placement != "peft":
            return None
        return prompts.starts.diff()[self.batch.prompt_of]


class SequenceBackbone(Tokenizing):
    """A `Backbone` that `Speaks`, around a sequence-to-sequence module of transformers.

    A deep prompt has a part for each attention: the encoder's, the decoder's own, the cross ones. One with as many
    parts as the decoder has layers is for the decoder's own attentions alone, as PEFT has it. With placement `peft` the
    decoder's words have positions behind the prompt. Shallow prompts stand before the encoder's words.
    """

    deep = True
    learns = True
    mask: int | None = None
    speech: Speech = "seq2seq"
    pooling: Pooling | None = None
    reads: frozenset[Read] = frozenset({"mean", "tokens", "mark", "answer"})

    def __init__(
        self,
        name: str,
        module: Any,
        form: Form,
        weights: Mapping[str, Tensor],
        bias: Float[Tensor, "V"] | None,
        tokenizer: Tokenizer,
        *,
        fingerprint: str | None,
        memory: MemoryLimit | None = None,
    ) -> None:
        config = module.config
        self.name, self.family, self.weights, self.words = name, str(config.model_type), weights, form.words
        self.hidden = self.embedding_width = int(config.d_model)
        self.heads = self.key_heads = form.heads
        self.max_length, self.key_width = form.max_length, form.key_width
        self.layers = len(form.attentions[0]) + len(form.attentions[1])
        self.prompt_layers = sum(map(len, form.attentions))
        self.device = weights[form.words].device
        self.arithmetic: Arithmetic = "bf16" if weights[form.words].dtype == torch.bfloat16 else "fp32"
        self._module, self._form, self._bias, self._tokenizer = module, form, bias, tokenizer
        self._fingerprint, self.memory = fingerprint, memory or MemoryLimit()

    @property
    def fingerprint(self) -> str:
        """The hash of the weights, made when it is asked for: weights that learn change at every step."""
        return fingerprint(self.weights) if self._fingerprint is None else self._fingerprint

    @property
    def text_end(self) -> tuple[int, ...]:
        return self._form.ends[:1]

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.word_ids(words)

    def columns(self, ids: Int[Tensor, "M"]) -> tuple[Float[Tensor, "M H"], Float[Tensor, "M"]]:
        ids = ids.to(self.device)
        weights = self.weights[self._form.head].detach()[ids].float().cpu()
        return weights, torch.zeros(len(ids)) if self._bias is None else self._bias[ids].float().cpu()

    def forward(
        self, batch: Batch, prompts: PromptStack | None, read: Read, *, dropout: Dropout | None = None
    ) -> Float[Tensor, "N H"]:
        if dropout is not None:
            raise RunError(f"dropout is not supported for {self.name}", do="use the BERT family")
        if read not in self.reads:
            raise ModelError(f"a model of two sides has no state {read!r}", where=self.name, do="read mean")
        prompts = self._checked(batch, prompts)
        if not batch.tokens.sequences:
            return torch.zeros(0, 1 if read == "answer" else self.hidden, device=self.device)
        if read in ("mean", "tokens"):
            return self._of_words(part(batch, once=False).sources, prompts, read)
        sides = part(batch, once=True)
        sources = Sources(self._encoded(sides.sources, prompts).of(sides.source_of), batch, prompts)
        return self._marked(sources, sides) if read == "mark" else self._log_probabilities(sources, sides)

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
        prompts = self._checked(batch, prompts)
        rules = Rules(most, self._form.ends, self._form.last, stop, temperature, generator)
        writing = Writing(batch.tokens.sequences, rules, self._decode, among, self._answer_ids)
        if batch.tokens.answers is not None and bool(batch.tokens.answers.any()):
            raise RunError("a row brings an answer of its own, so none can be written", do="give rows without answers")
        if not writing.done:
            sides = part(batch, once=True)
            with torch.no_grad():
                self._write(Sources(self._encoded(sides.sources, prompts).of(sides.source_of), batch, prompts), writing)
        return [text or "" for text in writing.texts]

    @property
    def fills(self) -> bool:
        """Whether it can be asked to fill gaps."""
        return gap_tokens(self._tokenizer, 3) is not None

    def fill(
        self, texts: Sequence[Sequence[str]], *, most: int, generator: torch.Generator, temperature: float = 0.0
    ) -> FilledGaps:
        """Fill the gaps between the pieces of each text, as T5 was trained to.

        Args:
            texts: of each as many pieces, with a gap between any two of them.
            most: tokens that are written for a text, those that stand for its gaps among them.
        """
        gaps = gap_tokens(self._tokenizer, len(texts[0]))
        assert gaps is not None, "it was checked to know gaps"
        tokens = with_gaps(self._tokenizer, texts, gaps, self.max_length)
        ends = frozenset({*self._form.ends, gaps[-1]})
        writing = GapWriting(len(texts), Rules(most, ends, None, (), temperature, generator), self._decode)
        sides = part(Batch(tokens), once=False)
        with torch.no_grad():
            self._write(Sources(self._encoded(sides.sources, None).of(sides.source_of), Batch(tokens), None), writing)
        spans = [tuple(self._decode(own).strip() for own in between(ids, gaps[:-1], ends)) for ids in writing.written]
        return FilledGaps(tuple(spans), len(tokens.ids), sum(map(len, writing.written)))

    def embed(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "P E"]:
        return self._embedded(ids.to(self.device)).float().cpu()

    def keys_values(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "L 2 P W"]:
        taken: Taken = {}
        words, valid = self._embedded(ids.to(self.device))[None], torch.ones(1, len(ids), device=self.device)
        with torch.no_grad():
            encoded = self._through(self._form.encoder, words, attention_mask=valid, taken=taken).last_hidden_state
            self._through(self._form.decoder, words, encoder_hidden_states=encoded, use_cache=False, taken=taken)
        pairs = [torch.stack(taken[attention]) for side in self._form.attentions for attention in side]
        return torch.stack([pair[:, 0].transpose(1, 2).flatten(2) for pair in pairs]).float().cpu()

    def with_weights(self, weights: Mapping[str, Tensor]) -> Backbone:
        placed = {name: weight.to(self.device) for name, weight in weights.items()}
        return SequenceBackbone(
            self.name, self._module, self._form, placed, self._bias, self._tokenizer, fingerprint=None,
            memory=self.memory,
        )  # fmt: skip

    def _checked(self, batch: Batch, prompts: PromptStack | None) -> PromptStack | None:
        """The prompts where they are to stand: without a first special token, before the text."""
        if prompts is None:
            return None
        if batch.prompt_of is None:
            raise RunError("prompts were given, but the batch does not say which sequence has which")
        sizes, needed = tuple(prompts.table.shape), (self.prompt_layers, 2, self.key_width)
        if prompts.depth == "shallow":
            if sizes[-1] != self.embedding_width:
                message = f"a prompt of width {sizes[-1]} does not fit {self.name}, which is {self.embedding_width}"
                raise RunError(message)
            has_first = bool(self._tokenizer.frames.single.gaps[0])
            return prompts if has_first or prompts.placement != "after_cls" else replace(prompts, placement="peft")
        given = (*sizes[:2], sizes[-1])
        if given not in (needed, (len(self._form.attentions[1]), *needed[1:])):
            raise RunError(f"a deep prompt of {given} does not fit {self.name}, which needs {needed}")
        return prompts

    def _embedded(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... E"]:
        return F.embedding(ids.clamp_min(0), self.weights[self.words]) * self._form.words_scale

    def _through(self, tower: Tower, words: Float[Tensor, "B T E"], **arguments: Any) -> Any:
        """Run the encoder or the decoder with the weights of this backbone."""
        own = {
            name.removeprefix(tower.stem): weight
            for name, weight in self.weights.items()
            if name.startswith(tower.stem)
        }
        return functional_call(tower.module, own, kwargs={"inputs_embeds": words, **arguments})

    def _encoded(self, sources: Batch, prompts: PromptStack | None) -> Encoded:
        return self._encode(sources, prompts)[0]

    def _of_words(self, sources: Batch, prompts: PromptStack | None, read: Read) -> Float[Tensor, "N H"]:
        """The encoder's states of the words, or their mean a sequence."""
        encoded, rows, starts = self._encode(sources, prompts)
        states = encoded.states[encoded.valid].float()
        states = states if rows is None else states.index_select(0, rows.to(self.device))
        return kernels.segment_mean(states, starts.to(self.device)) if read == "mean" else states

    def _encode(
        self, sources: Batch, prompts: PromptStack | None
    ) -> tuple[Encoded, Int[Tensor, "N"] | None, Int[Tensor, "B_plus_1"]]:
        """Run the encoder; a shallow prompt stands among the words, a deep one before the keys.

        Returns: with the states, which of the packed ones are of words (None: all), and offsets among these.
        """
        shallow = prompts if prompts is not None and prompts.depth == "shallow" else None
        layout = lay_out(sources, shallow, "tokens", self.max_length)
        words = self._embedded(sources.tokens.ids.to(self.device))
        if layout.source is not None and shallow is not None:
            table = shallow.table.to(self.device, words.dtype)
            words = torch.cat([words, table]).index_select(0, layout.source.to(self.device))
            note_vectors(layout.source, len(sources.tokens.ids))
        index, valid = padded(layout.starts, torch.arange(sources.tokens.sequences))
        prefix = self._prefix(sources, prompts, self._form.attentions[0])
        valid = valid.to(self.device)
        done = self._through(
            self._form.encoder, words[index.to(self.device)], attention_mask=valid.long(), prefix=prefix
        )
        return Encoded(done.last_hidden_state, valid), layout.read, layout.read_starts

    def _decode_states(
        self, sources: Sources, ids: Int[Tensor, "S M"], *, cache: Any = None, keep: bool = False
    ) -> tuple[Float[Tensor, "S M H"], Any]:
        """Run the decoder over `ids`: its states as the head takes them and, with `keep`, a cache to go on with."""
        past, count = 0 if cache is None else cache.get_seq_length(), ids.shape[1]
        words, behind = self._embedded(ids.to(self.device)), sources.behind
        if past + count + (0 if behind is None else int(behind.max())) > self.max_length:
            message = f"an answer and its prompt take more than the {self.max_length} positions of {self.name}"
            raise RunError(message, do="shorten the answer or the prompt")
        if behind is not None and self._form.positions is not None:
            words = words + self._shift(past, count, behind)
        own, cross = self._form.attentions[1:]
        done = self._through(
            self._form.decoder,
            words,
            encoder_hidden_states=sources.encoded.states,
            encoder_attention_mask=sources.encoded.valid.long(),
            past_key_values=cache,
            use_cache=keep,
            prefix=self._prefix(
                sources.batch, sources.prompts, (*own, *cross), None if behind is None else (past, count)
            ),
        )
        return done.last_hidden_state * self._form.states_scale, done.past_key_values

    def _shift(self, past: int, count: int, behind: Int[Tensor, "S"]) -> Float[Tensor, "S M E"]:
        """From the positions that the decoder adds, counted from 0, to those behind a prompt."""
        assert self._form.positions is not None
        name, first = self._form.positions
        places = torch.arange(past, past + count) + first
        table = self.weights[name]
        return table[(places + behind[:, None]).to(self.device)] - table[places.to(self.device)]

    def _prefix(
        self,
        batch: Batch,
        prompts: PromptStack | None,
        attentions: Sequence[nn.Module],
        passed: tuple[int, int] | None = None,
    ) -> Prefix | None:
        """The deep prompts of a batch for some attentions.

        Args:
            passed: where prompts have positions before the decoder's words, how many of these were read before this
                pass, and are in it.
        """
        if prompts is None or prompts.depth == "shallow" or batch.prompt_of is None:
            return None
        encoder, own, cross = self._form.attentions
        filled = (*encoder, *own, *cross) if len(prompts.table) == self.prompt_layers else own
        parts = dict(zip(filled, prompts.table.to(self.device).unbind(0), strict=True))
        rows, absent = prefix_rows(prompts.starts, batch.prompt_of)
        near = None if passed is None or self._form.biases is None else self._near(rows.shape[1], *passed)
        chosen = {attention: parts[attention] for attention in attentions if attention in parts}
        return Prefix(chosen, rows.to(self.device), absent.to(self.device), near)

    def _near(self, length: int, past: int, count: int) -> Float[Tensor, "1 heads M P"]:
        """T5's biases between the decoder's words and a prompt that has the positions before them."""
        assert self._form.biases is not None
        attention: Any = self._form.attentions[1][0]
        places = torch.arange(past, past + count, device=self.device)[:, None] + length
        buckets = attention._relative_position_bucket(
            torch.arange(length, device=self.device)[None] - places,
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        return self.weights[self._form.biases][buckets].permute(2, 0, 1)[None]

    def _marked(self, sources: Sources, sides: Sides) -> Float[Tensor, "S H"]:
        """The states that predict the first token of the answer, or the one behind a mark within it."""
        states, _ = self._decode_states(sources, self._inputs(sides, int(sides.marked.max())))
        place = (sides.marked + len(self._form.start) - 1).to(self.device)
        return states[torch.arange(len(place), device=self.device), place].float()

    def _log_probabilities(self, sources: Sources, sides: Sides) -> Float[Tensor, "N 1"]:
        lengths = sides.starts.diff()
        longest = int(lengths.max())
        states, _ = self._decode_states(sources, self._inputs(sides, max(longest - 1, 0)))
        inside = torch.arange(longest) < lengths[:, None]
        first = len(self._form.start) - 1
        rows = states[:, first : first + longest][inside.to(self.device)][sides.scored.to(self.device)]
        words = sides.answers[sides.scored].to(self.device)
        every = torch.arange(len(words), device=self.device)
        return log_probabilities(rows, words, every, self.weights[self._form.head], bias=self._bias)[:, None]

    def _inputs(self, sides: Sides, longest: int) -> Int[Tensor, "S M"]:
        """What the decoder reads: its start, then up to `longest` tokens of each answer."""
        start = torch.tensor(self._form.start).expand(len(sides.starts) - 1, -1)
        if not longest:
            return start
        index, valid = padded(sides.starts, torch.arange(len(start)), longest)
        return torch.cat([start, torch.where(valid, sides.answers[index], 0)], dim=1)

    def _write(self, sources: Sources, writing: Writing) -> None:
        """Write the answers of all sequences, a token a pass."""
        ids, cache = torch.tensor(self._form.start).expand(sources.batch.tokens.sequences, -1), None
        while not writing.done:
            states, cache = self._decode_states(sources, ids, cache=cache, keep=True)
            scores = logits(states[:, -1], self.weights[self._form.head], bias=self._bias)
            ids = writing.add(scores)[:, None]

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.engine.decode(list(tokens), skip_special_tokens=True))

    def _answer_ids(self, text: str) -> list[int]:
        """The tokens of an answer that is written out, its end among them."""
        return [*self._tokenizer.engine.encode(text, add_special_tokens=False).ids, self._form.ends[0]]
