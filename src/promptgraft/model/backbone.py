"""This module has the contract of a backbone, a frozen pretrained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels.dropout import Dropout
from promptgraft.model.memory import MemoryLimit
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import PromptStack
from promptgraft.prompt.reading import Pooling, Reading
from promptgraft.sheet import LONG, short
from promptgraft.task.task import Example, Kind

if TYPE_CHECKING:
    from promptgraft.model.composed import TemplateTokenizer

Read = Literal["cls", "mean", "pooler", "tokens", "mark", "answer", "original"]
"""What of the last layer is wanted: the first state of a sequence, the mean over its tokens, the first through a
dense layer, all of them, the marked one as the head over words takes it, or the answer's tokens' log-probabilities."""
Speech = Literal["masked", "causal", "seq2seq"]
"""How a model gives words: at its mask, as what comes next, or from a decoder of its own."""
Arithmetic = Literal["fp32", "bf16", "int8", "int4"]


@dataclass(frozen=True)
class Batch:
    """The input of one pass through a backbone: packed rows, and the prompt of each sequence.

    Attributes:
        prompt_of: for every sequence the index of its prompt in the stack; None where no prompts are given.
    """

    tokens: Tokens
    prompt_of: Int[Tensor, "S"] | None = None


@runtime_checkable
class Backbone(Protocol):
    """A frozen pretrained encoder with its tokenizer.

    Never has trainable parameters of its own and never drops out unless handed a `Dropout`. Exact: values
    within 1e-5 and gradients within 1e-5 relative of transformers in fp32.

    Attributes:
        name: catalog name or folder, for people.
        fingerprint: sha256 over the weights' names and bytes (not over files, so that two packagings of
            the same weights agree); what artefacts are checked against.
        family: `bert`, `roberta`, `electra`, `albert`, `modernbert`, `deberta-v2`, ..., or `any`.
        embedding_width: E, width of a shallow prompt (differs from `hidden` for ALBERT and some ELECTRAs).
        max_length: positions, those of a prompt included.
        pooling: what the encoder's makers declare; None where they declare nothing.
        reads: what `forward` can be asked for.
        deep: whether deep prompts are supported; they are `[prompt_layers, 2, P, key_width]`.
        prompt_layers: attentions that take a prompt's keys and values.
        key_width: the width of these (less than `hidden` where heads share keys).
        key_heads: heads that have keys of their own.
        arithmetic: what its matrix products are computed in, or how their weights are stored (`int8` and `int4` of a
            causal model).
        learns: whether what it gives can have a gradient; an encoder's products in `int8` have none.
        device: where its weights lie, and what `forward` gives.
        weights: name -> tensor, frozen.
        words: the name of the table of word embeddings among them.
    """

    name: str
    family: str
    hidden: int
    embedding_width: int
    layers: int
    heads: int
    max_length: int
    pooling: Pooling | None
    deep: bool
    prompt_layers: int
    key_width: int
    key_heads: int
    arithmetic: Arithmetic
    learns: bool
    device: torch.device
    weights: Mapping[str, Tensor]
    words: str

    @property
    def reads(self) -> frozenset[Read]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def reading(self) -> str:
        """The identity of the tokenizer: equal where every text becomes the same tokens."""
        ...

    def tokenize(
        self, examples: Sequence[Example], kind: Kind, reading: Reading, *, max_length: int | None = None
    ) -> Tokens:
        """Turn examples into packed sequences; what is longer than `max_length` is cut and counted.

        Args:
            reading: how rows are shown; of readings that show them alike any will do.
            max_length: tokens a sequence, special tokens included; default and upper limit: the backbone's.
        """
        ...

    def template_tokenizer(self, examples: Sequence[Example], kind: Kind, max_length: int) -> TemplateTokenizer:
        """What tokenises many templates over the same examples, each as `tokenize` does."""
        ...

    def unread(self, examples: Sequence[Example], tokens: Tokens) -> list[int]:
        """The numbers of the rows whose texts have few or no words that the model knows; `tokens` are these rows'."""
        ...

    def slots(self, template: str) -> tuple[int | None, ...]:
        """Of every vector that a template leaves room for, the token that it starts from; None where it has none."""
        ...

    def tokenize_texts(self, texts: Sequence[str]) -> Tokens:
        """Tokenise single texts (label descriptions, initial prompts) like any classification row."""
        ...

    def forward(
        self, batch: Batch, prompts: PromptStack | None, read: Read, *, dropout: Dropout | None = None
    ) -> Float[Tensor, "N H"]:
        """Hidden states of the last layer.

        Returns: `[S, H]` for `cls` (first position; at placement `peft` with a shallow prompt that is a prompt
            vector), `mean` (over the text's tokens, special ones included, prompt vectors not) and `pooler`;
            `[T, H]` for `tokens`, prompt vectors left out; `[S, H]` for `mark`: the state that the head over words
            multiplies by its columns, at the token that `Tokens.marks` names; `[N, 1]` for `answer`: the
            log-probability of every token of `Tokens.answers`, over the whole vocabulary, and for `original` that the
            token was not put in another's place. The result has a gradient
            where the prompt table or the weights have one.
        """
        ...

    def lone_words(self) -> Mapping[str, int]:
        """The words that are a single token inside a sentence, with it."""
        ...

    def embed(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "P E"]:
        """Rows of the input embedding table, to start shallow prompts from (on the processor)."""
        ...

    def keys_values(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "L 2 P H"]:
        """Keys and values of every layer when `ids` alone are read, to start deep prompts from (on the processor)."""
        ...

    def with_weights(self, weights: Mapping[str, Tensor]) -> Backbone:
        """The same architecture and tokenizer over other weights (model tuning); shares everything else.

        The table of words may have fewer rows, for batches whose ids are numbered accordingly.
        """
        ...


@runtime_checkable
class Speaks(Protocol):
    """What a backbone with a head over words has beyond `Backbone`.

    Attributes:
        mask: the mask token; None for causal and sequence-to-sequence models.
    """

    mask: int | None

    @property
    def unknown_token(self) -> int | None:
        """The token that stands for what the vocabulary lacks; None where it lacks nothing."""
        ...

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """The tokens of each word as it stands inside a sentence."""
        ...

    def lone_words(self) -> Mapping[str, int]:
        """The words that are a single token inside a sentence, with it."""
        ...

    def columns(self, ids: Int[Tensor, "M"]) -> tuple[Float[Tensor, "M H"], Float[Tensor, "M"]]:
        """The head's weights and biases for these words, in fp32, on the processor.

        States that `mark` gives, times the weights plus the biases, are the model's logits.
        """
        ...


@runtime_checkable
class Writes(Protocol):
    """What a backbone that gives text has beyond `Speaks`.

    Attributes:
        speech: whether answers go on where a text ends, or come from a decoder of their own.
        memory: what may be taken while it writes.
    """

    speech: Speech
    memory: MemoryLimit

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
        """Continue each sequence with words; greedy at temperature 0.

        Args:
            most: tokens of an answer.
            stop: texts at which an answer ends; they are left out of it.
            among: of each sequence the texts of which one must be answered.
        """
        ...


def shown(backbone: Backbone) -> str:
    """What `repr` gives of a backbone, which has megabytes of weights."""
    sizes = f"{backbone.family}, {backbone.layers} layers of {backbone.hidden}"
    where = f"{backbone.arithmetic} on {backbone.device}"
    return f"{type(backbone).__name__} {short(backbone.name, LONG)} ({sizes}, {where})"
