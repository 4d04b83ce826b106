"""A run is one trainable thing inside the loop; this module also holds what comes out of it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.backbone import Backbone, Read
from promptgraft.prompt.prompt import Placement, Prompt
from promptgraft.prompt.reading import Reading
from promptgraft.prompt.reparam import Parameterisation
from promptgraft.readout.readout import Readout
from promptgraft.train.data import Data
from promptgraft.train.recipe import Recipe
from promptgraft.train.terms import Term
from promptgraft.train.weights import Weights


@dataclass(frozen=True, eq=False)
class HeldOut:
    """How sure a model was of labelled rows that it was not fitted to, and whether it was right.

    Of several labels a row an answer is a label that a row got.

    Attributes:
        confidence: probability of the answer.
    """

    confidence: Float[Tensor, "N"]
    correct: Bool[Tensor, "N"]

    def joined(self, other: HeldOut | None) -> HeldOut:
        """These rows and more."""
        if other is None:
            return self
        confidence, correct = (self.confidence, other.confidence), (self.correct, other.correct)
        return HeldOut(torch.cat(confidence), torch.cat(correct))


@dataclass(frozen=True)
class Tuned:
    """All that is needed to predict: a prompt (or none), a readout, and how rows are shown and read.

    Attributes:
        weights: the backbone's own weights after model tuning; None where it stayed frozen.
        others: models whose scores are added to its own; empty for most.
        model: another backbone that it is read by; None: that of the artefact.
        held_out: what all of them together answered on labelled rows they had not seen; None where there are none.
        unseen: of several labels a row, the log odds by which the threshold was set: of rows by fits that had not seen
            them; None where nothing is made of them later.
    """

    prompt: Prompt | None
    readout: Readout
    reading: Reading
    weights: Mapping[str, Tensor] | None = None
    others: tuple[Tuned, ...] = ()
    held_out: HeldOut | None = None
    model: Backbone | None = None
    unseen: Float[Tensor, "N C"] | None = None

    @property
    def members(self) -> tuple[Tuned, ...]:
        """The model and the others, each alone."""
        return (replace(self, others=()), *self.others) if self.others else (self,)

    @property
    def read(self) -> Read:
        """Which hidden states the readout reads."""
        return "tokens" if self.readout.reads == "tokens" else self.reading.pooling

    @property
    def company(self) -> Hashable:
        """A key: models with equal keys can share a batch, since they read alike and have prompts of one kind."""
        prompt = None if self.prompt is None else (self.prompt.depth, self.prompt.placement)
        other = None if self.model is None else self.model.fingerprint
        return self.read, prompt, None if self.weights is None else id(self), other


@dataclass(frozen=True)
class Run:
    """One trainable thing: prompt, readout, loss terms, recipe, order of the data.

    Attributes:
        name: id of its job; names its checkpoint.
        prompt: None where no prompt is trained (model tuning).
        weights: the backbone's, where they are trained (model tuning), `train` being numbered by them; None keeps it
            frozen.
        terms: loss terms beyond the loss of the labels.
        dropout: train-mode dropout of the whole backbone; only PANDA as released has any.
        streams: random numbers that its terms draw on, kept in checkpoints.
        carried: prompt and readout both come from a source, so that the untouched start is an answer too, and one
            that validation may choose.
        answers: the readout and reading that the finished model predicts with; None: those that it is trained with.
    """

    name: str
    seed: int
    recipe: Recipe
    prompt: Parameterisation | None
    placement: Placement
    readout: Readout
    reading: Reading
    train: Data
    validation: Data
    terms: tuple[Term, ...] = ()
    weights: Weights | None = None
    dropout: float = 0.0
    streams: tuple[torch.Generator, ...] = ()
    carried: bool = False
    answers: tuple[Readout, Reading] | None = None

    @property
    def read(self) -> Read:
        return "tokens" if self.readout.reads == "tokens" else self.reading.pooling

    @property
    def pack(self) -> tuple[object, ...]:
        """A key: runs with equal keys can share a batch; a run with its own weights stays alone."""
        alone = self.name if self.weights is not None else ""
        depth = self.recipe.depth if self.prompt is not None else None
        return (self.read, depth, self.placement, self.dropout, alone)

    def trainable(self) -> dict[str, Tensor]:
        """Every leaf tensor the optimiser moves, by a name that says where it belongs."""
        prompt = self.prompt.parameters() if self.prompt is not None else {}
        weights = self.weights.leaves if self.weights is not None else {}
        groups = {"prompt": prompt, "readout": self.readout.parameters(), "weights": weights}
        return {f"{group}.{name}": value for group, members in groups.items() for name, value in members.items()}

    def tuned(self) -> Tuned:
        """The run's present prompt and readout as a model that predicts (it shares the run's tensors)."""
        prompt = None if self.prompt is None else Prompt(self.prompt.values(), self.placement)
        return Tuned(prompt, self.readout, self.reading)

    @property
    def parameters(self) -> int:
        """How many numbers are trained, rows of a table of words that no text reads included."""
        frozen = 0 if self.weights is None else self.weights.parameters - _size(self.weights.leaves)
        return _size(self.trainable()) + frozen


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for value in tensors.values())


@dataclass(frozen=True)
class Fit:
    """A model that needs no training in the loop, as a method gives it (a probe, zero-shot)."""

    name: str
    tuned: Tuned
    parameters: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trained:
    """The result that the loop gives for a run.

    Attributes:
        history: a dictionary a row: step, loss, validation score, terms' logs.
        best_step: the step whose state was kept; 0 is the untouched start.
        seconds: of this run's share of the loop.
    """

    name: str
    tuned: Tuned
    history: tuple[dict[str, float], ...]
    best_step: int
    seconds: float
    parameters: int

    @property
    def steps(self) -> int:
        """How many optimiser steps were taken."""
        return int(self.history[-1]["step"]) if self.history else 0


@dataclass(frozen=True)
class Failed:
    """A run that could not be finished.

    Attributes:
        problem: what went wrong at which step, and what to do.
    """

    name: str
    problem: RunError
