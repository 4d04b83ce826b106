"""A template's words as a member of a graft, read by the backbone itself or by another that has a head over words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.members import JudgedRows
from promptgraft.method.method import View
from promptgraft.method.setup import columns_of, generator
from promptgraft.model.backbone import Backbone, Speaks
from promptgraft.readout.all import find
from promptgraft.readout.completion import Completion
from promptgraft.readout.evidence import Evidence
from promptgraft.readout.platt import scaled_evidence
from promptgraft.readout.readout import Given
from promptgraft.readout.verbalizer import Verbalizer
from promptgraft.task.draws import Array
from promptgraft.train.run import Tuned

MOST_GAIN, GAIN = 8.0, 2.0
"""Points that words count as having gained elsewhere at most, and for each unit of log likelihood over a guess. At 8
labels a class, smollm2-135m beside minilm, three seeds: sst2 76.8 to 80.4 %, emotion 44.9 to 50.2, trec 72.6 to 73.3,
subj 82.2 to 82.3, agnews 83.9 to 81.3; with 6 and 1: 77.9, 49.2, 73.3, 82.3, 83.7."""


@dataclass(frozen=True)
class Spoken:
    """The words of a template, with what the labelled rows say of them.

    Attributes:
        scales: of the scores as they are and of scaled ones: the scale, then the biases.
        gain: what the words count as having gained elsewhere, in points.
    """

    name: str
    tuned: Tuned
    judged: Evidence
    scales: Float[Array, "2 _"]
    gain: float

    def mixed(self, share: Float[Array, "2"], temperature: float) -> Tuned:
        """The model whose scores are a share of both, over the temperature."""
        total = share @ self.scales / temperature
        readout = self.tuned.readout
        assert isinstance(readout, Verbalizer | Completion), "words are read by these"
        return replace(self.tuned, readout=readout.moved(float(total[0]), torch.from_numpy(total[1:]).float()))


def _read_by(backbone: Backbone) -> tuple[Literal["mark", "answer", "original"], str]:
    """Where a backbone's words are read, and by which readout."""
    if "answer" in backbone.reads:
        return "answer", "completion"
    return ("original", "detector") if "original" in backbone.reads else ("mark", "verbalizer")


def words_alone(job: Job, view: View, model: str) -> Tuned:
    """The words of the job's template as they are read without training.

    Args:
        model: another one that reads them; empty for the job's own.
    Raises:
        RunError: there is no template, or the model has no head over words.
    """
    backbone = view.backbone if not model else view.other(model)
    if not isinstance(backbone, Speaks) or not {"mark", "answer"} & backbone.reads:
        what = f"{backbone.name} has no head over words, so that no template's answer can be read"
        raise RunError(what, where=view.task.name, do="name a model that has one: --words-model smollm2-135m")
    pooling, name = _read_by(backbone)
    reading = view.in_words(pooling, model)
    given = Given(lambda texts: view.describe(texts, view.pooling), view.words, partial(columns_of, backbone))
    readout = find(name).create(view.task, 1, generator(job, 1), given)
    return Tuned(None, readout, reading, model=backbone if model else None)


def spoken(job: Job, view: View, model: str, rows: JudgedRows) -> Spoken:
    """The template's words, judged on labelled rows."""
    tuned = words_alone(job, view, model)
    examples = tuple(view.task.train[row] for row in rows.numbers)
    scores = view.scores(tuned, examples).double().numpy()
    judged, scales = scaled_evidence(scores, rows.y, rows.fold, rows.weight)
    return Spoken(f"words of {model or view.backbone.name}", tuned, judged, scales, _gain(judged, rows.y))


def _gain(judged: Evidence, y: Int[Array, "U"]) -> float:
    """What words count as having gained elsewhere, in points, by how much better than a guess they are here.

    Nothing of them was fitted to the rows, so that few rows say more of them than of what was.
    """
    better = judged.likelihood(y).sum(1).max() + len(y) * np.log(judged.unseen.shape[2])
    return float(min(MOST_GAIN, GAIN * max(0.0, better)))
