"""The reading says how a row is shown to a backbone, and which of its states a readout reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # cards are listed without loading torch
    from promptgraft.prompt.pool import LabelledPool
    from promptgraft.task.kinds import ScoredUnit

Pooling = Literal["cls", "mean", "pooler", "mark", "answer", "original"]
"""What of a sequence is read: the first state, the mean over its tokens, the first through a dense layer, the state at
the answer's place as the head over words takes it, the log-probabilities of an answer's tokens, or, of words that are
put in the answer's place, that each of their tokens is original."""
Encoding = Literal["cross", "separate", "cosine"]
ANSWERED: frozenset[Pooling] = frozenset({"answer", "original"})
"""Poolings that give a number for each token of an answer, of which a row has several."""
AT_WORDS: frozenset[Pooling] = ANSWERED | {"mark"}
"""Poolings that need a template and a model with a head over words, or one that detects wrong ones."""


@dataclass(frozen=True)
class Reading:
    """How a row is shown to a backbone and where it is read.

    Attributes:
        encoding: pairs as one sequence (`cross`) or two (`separate`, `cosine`).
        template: the words that a row stands in; None: the row alone. Demonstrations are written out, but those that
            are chosen for each row.
        answers: what each class says (`answer`), or all words of all classes (`original`); a row has a sequence for
            each.
        pool: the labelled rows that demonstrations are chosen from for each row; None where none are.
    """

    pooling: Pooling
    encoding: Encoding = "cross"
    template: str | None = None
    answers: tuple[str, ...] = ()
    pool: LabelledPool | None = None

    @property
    def unanswered(self) -> Reading:
        """The same with rows that end where their answers begin, for a model that writes these."""
        return replace(self, pooling="mark", answers=())

    @property
    def shown(self) -> Reading:
        """The same for readings under which every row becomes the same tokens."""
        pooling = self.pooling if self.pooling in AT_WORDS else "mean"
        return replace(self, pooling=pooling, encoding="separate" if self.encoding == "cosine" else self.encoding)


def at_mark(reading: Reading) -> Reading:
    """The same rows read by states: those of whole answers, which differ by class, at the answer's place."""
    return replace(reading, pooling="mark", answers=()) if reading.pooling in ANSWERED else reading


def for_task(reading: Reading, plain: Reading, scored: ScoredUnit) -> Reading:
    """How a task's rows are read under a source's prompt.

    A template is left out where words or options are scored, or two texts are read apart: it has no place for them.

    Args:
        reading: of the source.
        plain: of the task's rows where there is no source.
        scored: what gets a score in the task.
    """
    if reading.template is not None and (scored != "row" or plain.encoding != "cross"):
        return plain
    return replace(at_mark(reading), encoding=plain.encoding)
