"""How the loss of labelled rows changes when each vector of a prompt, or the whole prompt, is left out (ablation)."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.model.backbone import Backbone
from promptgraft.model.tokens import A_TOKEN, SOFT, Tokens
from promptgraft.prompt.prompt import Prompt
from promptgraft.readout.classes import UNLABELLED
from promptgraft.task.task import Example, Task
from promptgraft.train.predict import Question, add_scores, answer
from promptgraft.train.run import Tuned


@dataclass(frozen=True)
class VectorLeft:
    """What a model becomes without a vector of its prompt, or without all of them.

    Attributes:
        change: of the mean loss of a row; above 0 where what was left out helped.
        error: its standard error over the rows; None of a single row.
        answers: how many rows' answers change; None of numbers, which all do, and of texts that are written.
    """

    change: float
    error: float | None
    answers: int | None


@dataclass(frozen=True)
class LeftOut:
    """The loss when each vector of a prompt is left out.

    Attributes:
        rows: labelled rows that were asked.
        loss: their mean loss with the whole prompt.
        vectors: without each of them.
        prompt: without the prompt.
    """

    rows: int
    loss: float
    vectors: tuple[VectorLeft, ...]
    prompt: VectorLeft


def without_prompt(question: Question) -> Question:
    """The same rows asked of the same readout without the prompt."""
    tuned = replace(question.tuned, prompt=None)
    return Question(tuned, without_slots(question.tokens))


def without_vector(question: Question, vector: int) -> Question:
    """The same rows asked of the same model without one vector of its prompt."""
    prompt = question.tuned.prompt
    assert prompt is not None, "there is a vector to leave out"
    if prompt.length == 1:
        return without_prompt(question)
    kept = [place for place in range(prompt.length) if place != vector]
    shorter = Prompt(prompt.values[..., kept, :], prompt.placement)
    in_slots = prompt.placement == "template"
    tokens = without_slots(question.tokens, vector) if in_slots else question.tokens
    return Question(replace(question.tuned, prompt=shorter), tokens)


def without_slots(tokens: Tokens, number: int | None = None) -> Tokens:
    """Rows without one of the places that their template leaves for vectors; by default without all of them."""
    is_slot = tokens.ids == SOFT
    if not bool(is_slot.any()):
        return tokens
    before = torch.nn.functional.pad(is_slot.long().cumsum(0), (1, 0))
    sequence = torch.arange(tokens.sequences).repeat_interleave(tokens.lengths)
    place = before[:-1] - before[tokens.starts[:-1]][sequence]
    gone = is_slot if number is None else is_slot & (place == number)
    lost = torch.nn.functional.pad(gone.long().cumsum(0), (1, 0))
    fields = {name: value[~gone] for name in A_TOKEN if (value := getattr(tokens, name)) is not None}
    starts = tokens.starts - lost[tokens.starts]
    marks = tokens.marks
    if marks is not None:
        first = tokens.starts[:-1]
        marks = torch.where(marks < 0, marks, marks - (lost[first + marks.clamp_min(0)] - lost[first]))
    return replace(tokens, starts=starts, marks=marks, **fields)


def left_out(
    backbone: Backbone,
    questions: Sequence[Question],
    whole: Sequence[Tensor],
    number: int,
    examples: Sequence[Example],
    task: Task,
) -> LeftOut:
    """Leave out each vector of one member's prompt, all in shared batches, and then the whole prompt.

    Args:
        questions, whole: every member with the rows as it is shown them, and its scores.
        number: of the member.
        examples: the rows, all labelled.
    """
    question = questions[number]
    prompt = question.tuned.prompt
    assert prompt is not None, "there is a prompt"
    variants = [without_vector(question, vector) for vector in range(prompt.length)]
    bare = without_prompt(question)
    losses = RowLosses(questions[0], examples, task)
    start = losses.of(add_scores(whole))
    answers = losses.answers(add_scores(whole))

    def left(scores: Tensor) -> VectorLeft:
        total = add_scores([*whole[:number], scores, *whole[number + 1 :]])
        change = losses.of(total) - start
        error = float(change.std()) / math.sqrt(len(change)) if len(change) > 1 else None
        others = losses.answers(total)
        moved = None if answers is None or others is None else sum(map(operator.ne, answers, others))
        return VectorLeft(float(change.mean()), error, moved)

    *each, none = [left(scores) for scores in answer(backbone, [*variants, bare])]
    return LeftOut(len(examples), float(start.mean()), tuple(each), none)


@dataclass(frozen=True)
class RowLosses:
    """Judges scores of labelled rows by the readout of a model's first member."""

    question: Question
    examples: Sequence[Example]
    task: Task

    @property
    def tuned(self) -> Tuned:
        return self.question.tuned

    def of(self, scores: Tensor) -> Float[Tensor, "B"]:
        """The loss of each row: of tagging the mean over its words."""
        tokens, readout = self.question.tokens, self.tuned.readout
        with torch.no_grad():
            gold = readout.gold(self.examples, tokens, self.task)
            loss = readout.loss(scores.to(gold.device), gold).double().cpu()
        if readout.unit == "row":
            return loss
        known = (gold != UNLABELLED).double()
        return by_row(loss * known, tokens) / by_row(known, tokens).clamp_min(1)

    def answers(self, scores: Tensor) -> list[object] | None:
        """The answer to each row; None where it is a number or written."""
        readout = self.tuned.readout
        return (
            None
            if readout.writes or self.task.kind == "regression"
            else [*readout.predict(scores, self.question.tokens, self.examples, self.task)]
        )


def by_row(values: Float[Tensor, "W"], tokens: Tokens) -> Float[Tensor, "B"]:
    """The sums over each row's words."""
    sums = torch.nn.functional.pad(values.cumsum(0), (1, 0))
    return sums[tokens.row_words].diff()
