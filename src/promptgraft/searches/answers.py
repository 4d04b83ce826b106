"""What may be answered to the rows of a search: a class, one of their own options, or a text to be written."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.readout.choice import right_choice
from promptgraft.readout.classes import class_indices
from promptgraft.task.draws import Array
from promptgraft.task.kinds import LabelForm
from promptgraft.task.task import Example, Task

SEARCHED: frozenset[LabelForm] = frozenset({"class", "option", "references"})
"""What the label of a row may be."""
WHOLE_ANSWERS: dict[LabelForm, str] = {"class": "completion", "option": "option-completion", "references": "written"}
"""Label -> the readout of whole answers."""

Z = 1.96
"""Standard errors of a 95 % interval."""


def gold_of(examples: Sequence[Example], task: Task) -> list[int]:
    """The place of each row's right answer among those it may have; a text to be written is its only one."""
    if task.facts.written:
        return [0] * len(examples)
    if task.facts.one_class:
        return class_indices((example.label for example in examples), task)
    return [right_choice(example, task) for example in examples]


def prediction_of(example: Example, answer: int, task: Task) -> str:
    """The class or the option that stands at a place among a row's possible answers."""
    return task.classes[answer] if task.facts.one_class else example.choices[answer]


def most_answers(examples: Sequence[Example], task: Task) -> int:
    """How many answers a row may have at most."""
    if task.facts.written:
        return 1
    return len(task.classes) if task.facts.one_class else max(len(example.choices) for example in examples)


def probabilities(scores: Float[Tensor, "B C"], task: Task) -> Float[Tensor, "B C"]:
    """Of each row those of its possible answers; of a text to be written the mean one of its tokens, by logarithms."""
    return scores.exp() if task.facts.written else scores.softmax(-1)


def joined(parts: Sequence[Tensor]) -> Float[Tensor, "B C"]:
    """Scores of rows that have different numbers of possible answers, padded with -inf."""
    widest = max(part.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part, (0, widest - part.shape[1]), value=-torch.inf) for part in parts]
    return torch.cat(padded)


def cost_of(share: Float[Tensor, "B C"], gold: Sequence[int]) -> Float[Tensor, "B"]:
    """What a search makes small, of every row: half of it is whether the answer is wrong, half the missing probability.

    Errors alone say too little with a few dozen rows, and the likelihood is ruled by the rows that a model is wrong and
    sure about.
    """
    right = share.gather(1, torch.tensor(gold)[:, None])[:, 0]
    wrong = share.argmax(1) != torch.tensor(gold)
    return (wrong.to(share.dtype) + 1 - right) / 2


def margin_of(share: Float[Tensor, "B C"], gold: Sequence[int]) -> Float[Tensor, "B"]:
    """The probability of each row's right answer less that of the likeliest other one (0 where there is none)."""
    places = torch.tensor(gold)[:, None]
    others = share.scatter(1, places, 0.0).max(1).values
    return share.gather(1, places)[:, 0] - others


def mean_with_ends(values: Sequence[float] | Float[Array, "B"], least: float = 0.0) -> tuple[float, float, float]:
    """The mean of a share a row, in percent, with the ends of its 95 % interval over rows.

    Args:
        least: the lowest mean there can be, in percent; a single row bounds the mean by nothing but it and 100.
    """
    percents = 100 * np.asarray(values)
    middle = float(percents.mean())
    if len(percents) == 1:
        return middle, least, 100.0
    error = float(percents.std(ddof=1)) / math.sqrt(len(percents))
    return middle, middle - Z * error, middle + Z * error
