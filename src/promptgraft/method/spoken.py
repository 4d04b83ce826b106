"""A template's words as a member of a graft, read by the backbone itself or by another that has a head over words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.members import JudgedRows
from promptgraft.method.method import View
from promptgraft.method.setup import columns_of, generator
from promptgraft.model.backbone import Speaks, Writes
from promptgraft.readout.all import find
from promptgraft.readout.by_class import ByWords
from promptgraft.readout.evidence import Evidence
from promptgraft.readout.platt import scaled_evidence
from promptgraft.readout.readout import Given
from promptgraft.task.draws import Array
from promptgraft.task.task import Example
from promptgraft.train.run import Tuned

MOST_GAIN, GAIN = 8.0, 2.0
"""Points that words count as having gained elsewhere at most, and for each unit of log likelihood over a guess. At 8
labels a class, smollm2-135m beside minilm, three seeds: sst2 76.1 to 78.2 %, emotion 46.5 to 50.5, trec 71.9 to 72.6,
subj 83.3 to 83.3, agnews 82.1 to 81.8."""
QUIET = 0.25
"""What words count for beside descriptions where no row says how loud they are."""
HEARD = 256
"""Rows without labels, about, that say it."""
EPSILON = 1e-6
"""A spread of scores that is no larger is rounding."""


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
        assert isinstance(readout, ByWords), "words are read by these"
        return replace(self.tuned, readout=readout.moved(float(total[0]), torch.from_numpy(total[1:]).float()))


def _read_by(
    backbone: Speaks, reads: Collection[str], words: Mapping[str, Sequence[str]]
) -> tuple[Literal["mark", "answer", "original"], str]:
    """Where a backbone's words are read, and by which readout.

    The words at the answer's place are had in one pass, whole answers in one for each: with words of smollm2-135m both
    gain as much at 8 labels a class on ten English tasks (70.1 and 70.2, minilm alone 69.4). Whole answers are read by
    sequence-to-sequence models, for which that was not measured.

    Args:
        words: of each label; where those of two labels begin alike, whole answers are read.
    """
    if "original" in reads:
        return "original", "detector"
    if "answer" in reads and (not _goes_on(backbone) or _begin_alike(backbone, words)):
        return "answer", "completion"
    return "mark", "verbalizer"


def _goes_on(backbone: Speaks) -> bool:
    """Whether answers go on where a text ends, as those of causal models do."""
    return isinstance(backbone, Writes) and backbone.speech == "causal"


def _begin_alike(backbone: Speaks, words: Mapping[str, Sequence[str]]) -> bool:
    """Whether words of two labels begin with the same token."""
    first = [token for own in words.values() for token in {ids[0] for ids in backbone.word_ids(own) if ids}]
    return len(set(first)) < len(first)


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
    pooling, name = _read_by(backbone, backbone.reads, view.words)
    reading = view.in_words(pooling, model)
    given = Given(lambda texts: view.describe(texts, view.pooling), view.words, partial(columns_of, backbone))
    readout = find(name).create(view.task, 1, generator(job, 1), given)
    return Tuned(None, readout, reading, model=backbone if model else None)


def beside_descriptions(words: Tuned, described: Tuned, view: View) -> tuple[Tuned, str]:
    """The words as they join descriptions where no row is labelled, and in words how they were balanced.

    Words prefer some classes, and are as loud as their model makes them. What rows without labels get on average is
    taken off, and they are made as loud over these rows as the descriptions; where there are none, what an empty row
    gets is taken off, and they count for QUIET. Ten English tasks without labels: minilm alone 59.1, with 300 texts
    60.8; words of smollm2-135m bring them to 61.7 and 64.9, those of splade-tiny to 59.3 and 60.7. As they are, the
    latter took 12 points from descriptions alone.
    """
    readout = words.readout
    assert isinstance(readout, ByWords), "words are read by these"
    rows = view.task.splits.get("unlabelled", ())
    rows = rows[:: max(1, len(rows) // HEARD)]
    preferred = view.scores(words, rows or (Example(),))
    scale = _as_loud(preferred, view.scores(described, rows)) if rows else QUIET
    balanced = readout.calibrated(preferred).moved(scale, torch.zeros(len(view.task.classes)))
    seen = f"{len(rows)} rows without labels show on average" if rows else "an empty row shows"
    return replace(words, readout=balanced), f"less the preference for some classes that {seen}"


def _as_loud(words: Float[Tensor, "N C"], described: Float[Tensor, "N C"]) -> float:
    """What makes words as loud as descriptions over rows; QUIET where the rows are all alike and do not say it."""
    own, wanted = _spread(words), _spread(described)
    return wanted / own if min(own, wanted) > EPSILON else QUIET


def _spread(scores: Float[Tensor, "N C"]) -> float:
    """How far the scores of a row's classes lie apart, beyond what those of all rows do."""
    by_row = scores.double() - scores.double().mean(1, keepdim=True)
    return float((by_row - by_row.mean(0)).std(correction=0))


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
