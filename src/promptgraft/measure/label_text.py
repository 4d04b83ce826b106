"""The measure `label-text` scores how near a source's prompt brings texts to their labels' descriptions."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import ClassVar

import torch

from promptgraft.errors import RunError
from promptgraft.measure.measure import Measure, MeasureNeed, MeasureView, Score, SeenSource, Target, register
from promptgraft.readout.label_text import Described, LabelText
from promptgraft.readout.multilabel import MultilabelText
from promptgraft.readout.readout import Given

IN_WORDS: tuple[type[Described], ...] = (LabelText, MultilabelText)
"""The readouts that read labels by their descriptions."""


@register
@dataclass(frozen=True)
class LabelTextScore(Measure):
    """The mean probability that an untrained label-text readout gives the target's labels under the source's prompt.

    It needs no second row of a class, so it judges where a probe cannot be cross-validated.
    """

    name: ClassVar[str] = "label-text"

    @property
    def needs(self) -> frozenset[MeasureNeed]:
        return frozenset({"labels"})

    def score(self, source: SeenSource, target: Target, view: MeasureView) -> Score:
        """The mean probability of the gold labels; its error is the standard error over rows.

        Of several labels a row, it is that of each label's presence or absence.

        Raises:
            RunError: a kind that has no labels in words, or no row with a label.
        """
        readout_kind = next((kind for kind in IN_WORDS if target.task.kind in kind.kinds), None)
        if readout_kind is None:
            message = f"measure 'label-text' cannot judge a {target.task.kind} task"
            raise RunError(message, where=target.task.name)
        if source.reading.template is not None:
            raise RunError("measure 'label-text' cannot judge a prompt that was tuned in a template", where=source.name)
        examples = tuple(example for example in target.task.train if example.label is not None)
        if not examples:
            raise RunError("measure 'label-text' needs a row with a label", where=target.task.name)
        joined = Target(target.task)  # a description has no second half that a pair could be read beside
        hidden, tokens = view.hidden(source.prompt, examples, joined, source.reading.pooling)
        readout = readout_kind.create(
            target.task,
            hidden.shape[1],
            torch.Generator(),
            Given(lambda texts: view.describe(texts, source.reading.pooling)),
        )
        with torch.no_grad():
            shares = readout.scores(hidden, tokens).softmax(-1)
        gold = readout.gold(examples, tokens, target.task)
        rows = tuple(shares.gather(-1, gold[..., None]).flatten(1).mean(1).tolist())
        error = statistics.stdev(rows) / len(rows) ** 0.5 if len(rows) > 1 else None
        return Score(statistics.fmean(rows), len(examples), error, rows)
