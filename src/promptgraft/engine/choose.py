"""Pooling and encoding are chosen by cross-validated probes on the training rows where the recipe leaves them open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.prompt.reading import Encoding, Pooling, Reading
from promptgraft.readout.features import features
from promptgraft.readout.probe import choose

if TYPE_CHECKING:
    from promptgraft.engine.view import JobView

POOLINGS: tuple[Pooling, ...] = ("mean", "cls")
ENCODINGS: tuple[Encoding, ...] = ("cross", "separate", "cosine")


def choose_pooling(view: JobView) -> Pooling:
    """The pooling: as the recipe says, as the encoder declares, by a cross-validated probe, else the mean."""
    if view.job.recipe.pooling != "auto":
        return view.job.recipe.pooling
    if view.backbone.pooling is not None:
        return view.backbone.pooling
    if view.task.facts.scored != "row" or not view.task.train:
        return "mean"
    readable = [pooling for pooling in POOLINGS if pooling in view.backbone.reads]
    if len(readable) == 1:
        return readable[0]
    tokens = view.tokens("train", Reading("mean"))
    options: dict[str, tuple[Tensor, Tokens]] = {
        pooling: (view.states("train", None, Reading(pooling)), tokens) for pooling in readable
    }
    return cast("Pooling", _probe(view, "pooling", "", options))


def choose_encoding(view: JobView) -> Encoding:
    """Whether pairs are read as one sequence: as the recipe says, else by a cross-validated probe; other kinds are."""
    if not view.task.facts.pairs_apart or not view.task.train or view.task.train[0].pair is None:
        return "cross"
    if view.job.recipe.encoding != "auto":
        return view.job.recipe.encoding
    options: dict[str, tuple[Tensor, Tokens]] = {}
    for encoding in ENCODINGS:
        reading = Reading(view.pooling, encoding)
        states, tokens = view.states("train", None, reading), view.tokens("train", reading)
        options[encoding] = features(states, tokens, encoding), tokens
    return cast("Encoding", _probe(view, "encoding", view.pooling, options))


def _probe(view: JobView, question: str, under: str, options: Mapping[str, tuple[Tensor, Tokens]]) -> str:
    """The option a probe reads best, chosen once for all jobs on these rows.

    Args:
        under: the pooling that the options were read with, if any.
    """

    def probed() -> tuple[str, str]:
        name, estimates = choose(view.task, view.task.train, options, view.job.seed)
        figures = ", ".join(f"{option} {100 * estimate.value:.1f}" for option, estimate in estimates.items())
        basis = "by the likelihood of a cross-validated probe on the training rows"
        return name, f"{question}: {name}, {basis} (its score {figures})"

    key = (question, under, view.task.train, view.job.recipe.max_length, view.job.seed)
    name, note = view.shared.choice(key, probed)
    view.notes.append(note)
    return name
