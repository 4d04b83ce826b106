"""Texts are written for rows by a model of words, under a prompt or none, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from promptgraft.errors import RunError, within_memory
from promptgraft.model.backbone import Backbone, Batch, Writes
from promptgraft.model.filled import lead_of
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.readout.written import Written
from promptgraft.task.task import Example
from promptgraft.template.template import Template
from promptgraft.train.predict import batches_by_length
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Tuned

WRITTEN_TOKENS = 16_384
"""Tokens of the rows that are written for at once, where memory allows: each row keeps its keys and values."""
TO_WRITE = "write fewer tokens (--most), or use --memory low, a smaller model, or for a causal model --arithmetic int4"
"""What to do where there is no memory to write."""
MOST = int(Recipe.model_fields["most"].default)
"""Tokens of a text at most, where nothing else is said."""
LEAST_READ = 8


@dataclass(frozen=True)
class Decoding:
    """How texts are written.

    Attributes:
        most: tokens of a text.
        stop: what ends a text beside the model's own end; it is left out.
        temperature: 0 takes the likeliest token; else one is drawn, of scores divided by it.
        seed: draws.
        among: texts of which one is written; empty: any text.
    """

    most: int = MOST
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    among: tuple[str, ...] = ()


def decoding_of(tuned: Tuned, most: int) -> Decoding:
    """How a tuned model writes what it was tuned to write.

    Args:
        most: tokens of a text at most.
    """
    assert isinstance(tuned.readout, Written), "its answers are written"
    return Decoding(most, tuned.readout.stop)


def longest_read(backbone: Backbone, prompt: Prompt | None, limit: int, most: int) -> int:
    """How many tokens of a row are read, so that what is written has room behind them.

    Args:
        limit: tokens of a row at most.
        most: tokens that are written.
    Raises:
        RunError: there is no room left for a row.
    """
    beside = 0 if prompt is None or (prompt.depth == "deep" and prompt.placement == "after_cls") else prompt.length
    room = min(limit, backbone.max_length - most - beside)
    if room < LEAST_READ:
        message = f"{most} tokens to write leave no room for a text: {backbone.name} has {backbone.max_length} places"
        raise RunError(message, do="write fewer (--most)")
    return room


def write(
    backbone: Backbone, tuned: Tuned, tokens: Tokens, decoding: Decoding, generator: torch.Generator | None = None
) -> list[str]:
    """Write a text for every row.

    Args:
        tokens: of rows without answers, one sequence each.
        generator: draws, where more is drawn than here; None: by the decoding's seed.
    Raises:
        RunError: the backbone gives no text, or there is no memory for it.
    """
    model = backbone if tuned.weights is None else backbone.with_weights(tuned.weights)
    if not isinstance(model, Writes):
        raise RunError(f"{backbone.name} gives no text", do="use a causal or a sequence-to-sequence model")
    generator = generator or torch.Generator().manual_seed(decoding.seed)
    prompts = None if tuned.prompt is None else stack([tuned.prompt])
    among = _among(model, tuned, decoding)
    texts = [""] * tokens.count
    for index in _batches(model, model, tokens.lengths, decoding.most):
        owner = None if prompts is None else torch.zeros(len(index), dtype=torch.long)
        with within_memory(TO_WRITE):
            written = model.generate(
                Batch(tokens.select(index), owner),
                prompts,
                most=decoding.most,
                stop=decoding.stop,
                generator=generator,
                temperature=decoding.temperature,
                among=None if among is None else [among] * len(index),
            )
        for row, text in zip(index.tolist(), written, strict=True):
            texts[row] = text.strip()
    return texts


def _batches(backbone: Backbone, writes: Writes, lengths: Int[Tensor, "B"], most: int) -> Iterator[Int[Tensor, "N"]]:
    """Rows that are written for at once, longest first: as many as there is memory for when their turn comes."""
    width = backbone.weights[backbone.words].element_size()
    for index in batches_by_length(lengths, WRITTEN_TOKENS):
        longest = int(lengths[index[0]])
        size = written_bytes(
            longest, most, backbone.prompt_layers, backbone.key_width * width, len(backbone.weights[backbone.words])
        )
        if writes.speech == "seq2seq":  # an encoder's scores stand whole, those of one layer at a time
            size += 2 * 4 * backbone.heads * longest**2
        yield from index.split(writes.memory.rows(len(index), size, backbone.device))


def written_bytes(length: int, most: int, layers: int, kept: int, vocabulary: int) -> int:
    """Bytes that a row takes while a text is written for it.

    Keys and values, of which the first pass and the writing have their own, and scores of all words.

    Args:
        length: its tokens.
        most: tokens that are written.
        kept: bytes of the keys of a token in a layer; its values take as many.
    """
    return (2 * length + most) * 2 * layers * kept + 3 * 4 * vocabulary


def _among(model: Writes, tuned: Tuned, decoding: Decoding) -> list[str] | None:
    """The texts to choose from, as they go on behind the template's words."""
    if not decoding.among:
        return None
    if tuned.reading.template is None or model.speech != "causal":
        return list(decoding.among)
    lead = lead_of(Template.parse(tuned.reading.template).showing(()).filled(Example()))
    return [lead + text.strip() for text in decoding.among]
