"""Texts whose answers a prompt changes: each answered with the prompt and without it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from promptgraft.engine.left_out import by_row, without_prompt
from promptgraft.engine.predictor import Predictor
from promptgraft.task.metrics import score
from promptgraft.task.task import Answers, Example, Label, References, Task
from promptgraft.train.predict import Question, add_scores, answer

WRITTEN_ROWS = 8
"""Rows that texts are written for, with the prompt and without it."""
LISTED_TEXTS = 20
"""Texts that are given of those whose answers change most."""


@dataclass(frozen=True)
class ChangedText:
    """A text with the answer that it gets with the prompt and without it.

    Attributes:
        label: its own; empty where it has none.
        change: how far apart the two are: half the summed differences of probabilities (0 to 1), of numbers the
            difference, of written texts the share that differs.
        sure, bare_sure: the probabilities of the two answers; None where there are none.
    """

    text: str
    label: str
    answer: str
    bare: str
    change: float
    sure: float | None = None
    bare_sure: float | None = None


@dataclass(frozen=True)
class Changes:
    """What becomes of the answers without the prompt.

    Attributes:
        rows: that were answered.
        changed: how many of them get another answer.
        scores: with the prompt and without it, by the task's metric, in percent; None without labels.
        texts: those that change most, first the most changed.
    """

    rows: int
    changed: int
    scores: tuple[float, float] | None
    texts: tuple[ChangedText, ...]


def changed(
    predictor: Predictor, examples: Sequence[Example], questions: Sequence[Question], whole: Sequence[Tensor]
) -> Changes:
    """Answer rows with the prompts of all members and without any.

    Args:
        questions, whole: every member with the rows as it is shown them, and its scores.
    """
    readout, tokens = predictor.tuned.readout, questions[0].tokens
    if readout.writes:
        return _written(predictor, examples[:WRITTEN_ROWS])
    without = answer(predictor.backbone, [_bare(question) for question in questions])
    scores = add_scores(whole), add_scores(without)
    answers, others = ([*readout.predict(own, tokens, examples, predictor.task)] for own in scores)
    if predictor.task.kind == "regression":
        numbers = zip(answers, others, strict=True)
        distance = [abs(float(str(known)) - float(str(bare))) for known, bare in numbers]
    else:
        distance = row_distance(*scores, questions[0]).tolist()
    of_one = predictor.task.facts.one_class or predictor.task.kind == "choice"
    sure = [own.double().softmax(-1).amax(-1).tolist() if of_one else [None] * len(examples) for own in scores]
    rows = [
        ChangedText(shown(example), plain(example.label), plain(known), plain(bare), far, *pair)
        for example, known, bare, far, pair in zip(
            examples, answers, others, distance, zip(*sure, strict=True), strict=True
        )
    ]
    return _changes(rows, _scores(predictor.task, answers, others, examples))


def _bare(question: Question) -> Question:
    return question if question.tuned.prompt is None else without_prompt(question)


def row_distance(scores: Tensor, others: Tensor, question: Question) -> Float[Tensor, "B"]:
    """How far the probabilities of two models of the same rows are apart: the mean over a row's units."""
    apart = (scores.double().softmax(-1) - others.double().softmax(-1)).abs().sum(-1) / 2
    apart = apart.flatten(1).mean(1) if apart.ndim > 1 else apart
    if question.tuned.readout.unit == "row":
        return apart
    return by_row(apart, question.tokens) / question.tokens.row_words.diff().clamp_min(1)


def _written(predictor: Predictor, examples: Sequence[Example]) -> Changes:
    """Write a text for each row with the prompt and without it."""
    question = predictor.to_write(examples)
    texts, others = (predictor.written(asked) for asked in (question, _bare(question)))
    rows = [
        ChangedText(shown(row), plain(row.label), text, bare, 1 - difflib.SequenceMatcher(None, text, bare).ratio())
        for row, text, bare in zip(examples, texts, others, strict=True)
    ]
    return _changes(rows, _scores(predictor.task, texts, others, examples))


def _scores(
    task: Task, answers: Sequence[Label | str], others: Sequence[Label | str], examples: Sequence[Example]
) -> tuple[float, float] | None:
    """The metric of both; None where rows have no label."""
    if any(example.label is None for example in examples):
        return None
    return score(task, answers, examples)["score"], score(task, others, examples)["score"]


def _changes(rows: Sequence[ChangedText], scores: tuple[float, float] | None) -> Changes:
    ordered = sorted(rows, key=lambda row: (row.answer == row.bare, -row.change))
    count = sum(row.answer != row.bare for row in rows)
    return Changes(len(rows), count, scores, tuple(ordered[:LISTED_TEXTS]))


def shown(example: Example) -> str:
    """The texts of a row as one line."""
    parts = [example.text or " ".join(example.tokens), example.pair or "", " / ".join(example.choices)]
    return " | ".join(part for part in parts if part)


def plain(label: Label | str | None) -> str:
    """A label or an answer as text."""
    if label is None:
        return ""
    if isinstance(label, Answers | References):
        return label.texts[0] if label.texts else ""
    if isinstance(label, tuple):
        return ", ".join(map(str, label))
    return f"{label:.3g}" if isinstance(label, float) else str(label)
