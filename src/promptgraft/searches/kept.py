"""What a search found becomes an artefact, so that it predicts, is banked and is carried like any other."""

from __future__ import annotations

import torch

from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.card import BackboneCard, Card, PromptCard, SearchCard, TaskCard, card_of
from promptgraft.readout.all import find
from promptgraft.searches.answers import WHOLE_ANSWERS
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.scorer import Scorer
from promptgraft.searches.space import Space

METHOD = "search"
"""What the card names as the method."""


def artefact_of(space: Space, scorer: Scorer, candidate: Candidate, card: SearchCard) -> Artefact:
    """A found prompt with the readout that it was scored by; whose rows, seed and seconds are still to be said.

    Args:
        card: what found it, and at what cost.
    """
    reading = scorer.reading(candidate.written_out(space.task, scorer.pool), candidate)
    readout = find(WHOLE_ANSWERS[space.task.facts.label] if scorer.answers else "verbalizer")
    prompt = candidate.vectors
    content = Card(
        task=TaskCard.of(space.task),
        backbone=BackboneCard.of(scorer.backbone),
        prompt=None if prompt is None else PromptCard.of(prompt),
        **card_of(reading),
        readout=readout.name,
        words=dict(candidate.words),
        method=METHOD,
        options={"algorithm": card.algorithm},
        recipe={"max_length": scorer.limit_of(candidate), "arithmetic": scorer.backbone.arithmetic},
        lineage=() if prompt is None or space.banked is None else space.banked.origins,
        search=card,
        scores={"validation": card.choosing, "test": card.report},
        trainable=0 if prompt is None else prompt.values.numel(),
    )
    state = readout.create(space.task, 1, torch.Generator(), scorer.given(candidate.words)).state()
    return Artefact(prompt, state, content)
