"""What a graft mixes: prompts of a bank that stay as they are, prompts that were trained, and words of a template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.method.job import Job, Source
from promptgraft.method.method import View
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Reading, at_mark
from promptgraft.readout.by_class import label_rates
from promptgraft.readout.classes import class_indices, encode_names
from promptgraft.readout.direction import Directional
from promptgraft.readout.evidence import JUDGED, RARITY, Candidates, Evidence, balanced, candidates, rarity, refitted
from promptgraft.readout.multilabel import MultilabelDirection
from promptgraft.readout.probe import deal_labels
from promptgraft.readout.readout import Readout
from promptgraft.task.draws import Array
from promptgraft.task.task import Task
from promptgraft.train.run import Tuned


class GraftMember(Protocol):
    """What may be mixed into a graft.

    Attributes:
        judged: what fits that had not seen a row say of it.
        gain: what it has gained on other tasks, in points; 0 where nothing is known.
    """

    @property
    def name(self) -> str: ...

    @property
    def judged(self) -> Evidence: ...

    @property
    def gain(self) -> float: ...

    def mixed(self, share: Float[Array, "J"], temperature: float) -> Tuned:
        """The model whose scores are a share of its candidates', over the temperature."""
        ...


@dataclass(frozen=True)
class SourceRead:
    """How rows are read under a banked prompt, or under none.

    Attributes:
        source: None: the backbone alone.
    """

    name: str
    source: Source | None
    reading: Reading

    @property
    def prompt(self) -> Prompt | None:
        """The prompt, which a large bank does not hold in memory."""
        return None if self.source is None else self.source.artefact.prompt


def neighbours(sources: Iterable[Source]) -> list[Source]:
    """The sources, those that are read alike side by side: they pass the backbone in shared batches."""
    return sorted(sources, key=lambda source: (at_mark(source.reading).pooling, _depth(source), source.name))


def _depth(source: Source) -> str:
    """Of its prompt; empty where it has none."""
    form = source.card.prompt
    return "" if form is None else "shallow" if form.layers is None else "deep"


@dataclass(frozen=True)
class JudgedRows:
    """The labelled rows that members are judged on.

    Attributes:
        everything: the class of every training row.
        chosen: which of them are judged on.
        y, fold, weight: class, part of the cross-validation and weight of each chosen row.
        power: how much a rare class counts (`readout.evidence.rarity`).
    """

    everything: Int[Array, "N"]
    chosen: Int[Array, "U"]
    y: Int[Array, "U"]
    fold: Int[Array, "U"]
    weight: Float[Array, "U"]
    power: float

    @property
    def numbers(self) -> tuple[int, ...]:
        """Which training rows are judged on."""
        return tuple(self.chosen.tolist())


def judged_rows(job: Job, view: View) -> JudgedRows:
    """The training rows that members are judged on: all, or a balanced sample."""
    everything = np.array(class_indices((row.label for row in view.task.train), view.task))
    chosen = balanced(everything, JUDGED, job.seed)
    power = RARITY if view.task.metric == "accuracy" else 1.0
    weight = rarity(everything[chosen], everything, power)
    return JudgedRows(everything, chosen, everything[chosen], deal_labels(everything, job.seed)[chosen], weight, power)


@dataclass(frozen=True)
class FrozenPrompt:
    """A banked prompt, or none, with readouts of the features under it.

    Attributes:
        described: the features of the label descriptions; None where none are read.
        judged: with the fits, as long as the prompt may be kept.
    """

    read: SourceRead
    classes: tuple[str, ...]
    described: Float[Array, "K H"] | None
    judged: Evidence
    gain: float

    @property
    def name(self) -> str:
        return self.read.name

    @property
    def fits(self) -> Candidates:
        """Its readouts, fitted to all rows; of a prompt that may be kept."""
        assert isinstance(self.judged, Candidates), "weaker prompts have none"
        return self.judged

    def lightened(self) -> FrozenPrompt:
        """The same without its fits."""
        return replace(self, judged=Evidence(self.judged.unseen))

    def fitted_to(self, features: Tensor, rows: Int[Array, "M"], known: JudgedRows) -> FrozenPrompt:
        """The same readouts, fitted to more rows than they were judged on."""
        y = known.everything[rows]
        weight = rarity(y, known.everything, known.power)
        values = features.double().numpy()
        return replace(self, judged=refitted(self.fits, values, y, self.described, weight, len(self.classes)))

    def mixed(self, share: Float[Array, "J"], temperature: float) -> Tuned:
        """The prompt under one readout: a product of experts adds the scores of its candidates."""
        weight = np.einsum("j,jkh->kh", share, self.fits.weights) / temperature
        readout = directional(weight, share @ self.fits.biases / temperature, self.classes)
        return Tuned(self.read.prompt, readout, self.read.reading)


def frozen_prompt(
    read: SourceRead,
    features: Tensor,
    described: Float[Array, "K H"] | None,
    rows: JudgedRows,
    classes: Sequence[str],
    gain: float,
) -> FrozenPrompt:
    """Fit and judge the readouts of features under a prompt.

    Args:
        features: `[U, H]`, of the rows that are judged on.
    """
    values = features.double().numpy()
    judged = candidates(values, rows.y, rows.fold, described, rows.weight, len(classes))
    return FrozenPrompt(read, tuple(classes), described, judged, gain)


@dataclass(frozen=True)
class TrainedPrompt:
    """A prompt that was trained on the rows.

    Attributes:
        judged: what runs that had not seen a row said of it.
    """

    name: str
    tuned: Tuned
    judged: Evidence
    gain: float = 0.0

    def mixed(self, share: Float[Array, "J"], temperature: float) -> Tuned:
        """The prompt with a share of its scores; it has one candidate."""
        return replace(self.tuned, readout=scaled(self.tuned.readout, float(share[0]) / temperature))


def directional(weight: Float[Array, "K H"], bias: Float[Array, "K"], classes: Sequence[str]) -> Readout:
    """A readout of directions with these weights."""
    tensors = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    return Directional.load({"labels": encode_names(classes), **tensors})


def label_directional(weight: Float[Array, "C H"], bias: Float[Array, "C"], task: Task) -> Readout:
    """A readout of directions with these weights, for several labels a row."""
    _, least = label_rates(task)
    tensors = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    rule = {"threshold": torch.tensor(0.0), "least": least}
    return MultilabelDirection.load({"labels": encode_names(task.classes), **tensors, **rule})


def scaled(readout: Readout, share: float) -> Readout:
    """The readout whose scores are a share of another's."""
    state = readout.state()
    return type(readout).load({**state, **{name: share * state[name] for name in readout.trained}})
