"""Judges what a finished model answered on a split that has labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.engine.interval import interval
from promptgraft.engine.reliability import Reliability, reliability
from promptgraft.engine.risk import RISK, Selective, selective, threshold
from promptgraft.readout.classes import class_indices, indicators, labels_given
from promptgraft.task.draws import Array
from promptgraft.task.metrics import score
from promptgraft.task.task import Example, Label, Task
from promptgraft.train.run import HeldOut, Tuned


@dataclass(frozen=True)
class Judgement:
    """How good the answers on a split are.

    Attributes:
        scores: metric name -> percent; the task's own metric is called `score`.
        interval: 95 % interval of that metric over the rows.
        reliability: of the probabilities; None where the task has none.
        held_out: how sure each answer was, and whether it was right (of several labels a row, each label that it got);
            None where the task has no probabilities.
    """

    scores: dict[str, float]
    rows: int
    interval: tuple[float, float]
    reliability: Reliability | None
    held_out: HeldOut | None


def judged(task: Task, answers: Tensor | None, predictions: Sequence[Label], examples: Sequence[Example]) -> Judgement:
    """Judge the predictions for labelled rows, and the scores that they were made of.

    Args:
        answers: the scores; None of texts, which have none.
    """
    each = probabilities(answers)[..., 1] if answers is not None and task.facts.several else None
    figures = score(task, predictions, examples, each), len(examples), interval(task, predictions, examples)
    if each is not None:
        return Judgement(*figures, None, held_out_labels(each, predictions, examples, task))
    if answers is None or not task.facts.one_class:
        return Judgement(*figures, None, None)
    shares, gold = probabilities(answers), gold_classes(task, examples)
    return Judgement(*figures, reliability(shares, gold), held_out(shares, gold))


def held_out(shares: Float[Array, "N C"], gold: Int[Array, "N"]) -> HeldOut:
    """How sure the answers are and which are right, from rows' probabilities and classes."""
    right = torch.from_numpy(shares.argmax(1) == gold)
    return HeldOut(torch.from_numpy(shares.max(1)).float(), right)


def held_out_labels(
    shares: Float[Array, "N C"], predictions: Sequence[Label], examples: Sequence[Example], task: Task
) -> HeldOut:
    """How sure each label is that a row gets, and whether the row has it; of rows of several labels."""
    places = labels_given(predictions, task.classes)
    right = indicators([example.label for example in examples], task) > 0
    return HeldOut(torch.from_numpy(shares[places]).float(), torch.from_numpy(right[places]))


def probabilities(answers: Float[Tensor, "N *C"]) -> Float[Array, "N *C"]:
    """Probabilities of the classes from a readout's scores."""
    return np.asarray(answers.detach().double().softmax(-1).cpu().numpy())


def gold_classes(task: Task, examples: Sequence[Example]) -> Int[Array, "N"]:
    """The class of each labelled row."""
    return np.array(class_indices((example.label for example in examples), task))


def with_held_out(tuned: Tuned, validation: Judgement | None) -> Tuned:
    """A model with what it answered on validation, which it was not fitted to, beside what it holds of its own."""
    if validation is None or validation.held_out is None:
        return tuned
    return replace(tuned, held_out=validation.held_out.joined(tuned.held_out))


def at_risk(known: HeldOut | None, test: Judgement | None) -> dict[str, Selective]:
    """What answering at the usual risk gives on test, by the name of the split."""
    if test is None or test.held_out is None:
        return {}
    confidence, correct = test.held_out.confidence.double().numpy(), test.held_out.correct.numpy()
    return {"test": selective(confidence, correct, threshold(known, RISK))}
