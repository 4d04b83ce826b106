"""This module has the contract of a backbone, a frozen pretrained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.kernels.dropout import Dropout
from promptgraft.model.resolved import Pooling
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import PromptStack
from promptgraft.task.task import Example, Kind

Read = Literal["cls", "mean", "pooler", "tokens"]
Encoding = Literal["cross", "separate", "cosine"]
Arithmetic = Literal["fp32", "bf16", "int8"]


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
        family: `bert`, `roberta`, `electra`, `albert`, or `any`.
        embedding_width: E, width of a shallow prompt (differs from `hidden` for ALBERT and some ELECTRAs).
        max_length: positions, those of a prompt included.
        pooling: what the encoder's makers declare; None where they declare nothing.
        deep: whether deep prompts are supported.
        arithmetic: what its matrix products are computed in; in `int8` nothing has a gradient.
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
    arithmetic: Arithmetic
    device: torch.device
    weights: Mapping[str, Tensor]
    words: str

    @property
    def fingerprint(self) -> str: ...

    @property
    def reading(self) -> str:
        """The identity of the tokenizer: equal where every text becomes the same tokens."""
        ...

    def tokenize(
        self, examples: Sequence[Example], kind: Kind, encoding: Encoding = "cross", *, max_length: int | None = None
    ) -> Tokens:
        """Turn examples into packed sequences; what is longer than `max_length` is cut and counted.

        Args:
            encoding: pairs as one sequence (`cross`) or two (`separate`, `cosine`).
            max_length: tokens a sequence, special tokens included; default and upper limit: the backbone's.
        """
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
            `[T, H]` for `tokens`, prompt vectors left out. The result has a gradient where the prompt table
            or the weights have one.
        """
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
