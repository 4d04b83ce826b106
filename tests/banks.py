"""Small artefacts for the tests of prompts and banks."""

from __future__ import annotations

import torch

from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.card import BackboneCard, Card, PromptCard, SplitScore, TaskCard
from promptgraft.prompt.prompt import Prompt
from promptgraft.readout.classes import encode_names

MOOD = TaskCard(
    name="mood",
    kind="classification",
    metric="accuracy",
    labels={"good": "it is good", "bad": "it is bad"},
    family="sentiment",
    language="en",
    licence="CC0-1.0",
    source="written for promptgraft",
)
TINY = BackboneCard(name="splade-tiny", fingerprint="f" * 64, family="bert")


def small_card(prompt: Prompt | None, **changes: object) -> Card:
    card = Card(
        task=MOOD,
        backbone=TINY,
        prompt=None if prompt is None else PromptCard.of(prompt),
        pooling="mean",
        readout="linear",
        method="prompt-tuning",
        scores={"test": SplitScore(value=0.91, low=0.88, high=0.94, rows=200)},
        trainable=258,
    )
    return card.replace(**changes)


def small_artefact(seed: int = 0, *, size: int = 8, **changes: object) -> Artefact:
    """A deep prompt of 2 layers and a linear readout, random by `seed`; `changes` are of its card."""
    generator = torch.Generator().manual_seed(seed)
    prompt = Prompt(torch.randn(2, 2, 3, size, generator=generator))
    readout = {
        "labels": encode_names(tuple(MOOD.labels)),
        "weight": torch.randn(2, size, generator=generator),
        "bias": torch.zeros(2),
    }
    embeddings = {"cls": torch.randn(size, generator=generator), "mean": torch.randn(size, generator=generator)}
    return Artefact(prompt, readout, small_card(prompt, **({"seed": seed} | changes)), embeddings)
