"""This module has the contract of a measure of transfer, the values it works with, and the registry of all measures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

from promptgraft.model.backbone import Read
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Pooling, Reading
from promptgraft.task.task import Example, Task

MeasureNeed = Literal["labels", "target-prompt", "source-embedding"]


PLAIN = Reading("mean")
"""A row alone, as one sequence."""


@dataclass(frozen=True)
class SeenSource:
    """A banked prompt with what measures may use of it.

    Attributes:
        reading: how rows were shown and read when its prompt was tuned.
        embeddings: pooling -> task embedding, stored when the prompt was tuned.
    """

    name: str
    prompt: Prompt
    reading: Reading
    embeddings: Mapping[Pooling, Float[Tensor, "H"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """The task that is to receive a prompt.

    Attributes:
        reading: how its rows are shown.
        prompt: tuned on the task from scratch, for the measures that need one.
    """

    task: Task
    reading: Reading = PLAIN
    prompt: Prompt | None = None


@dataclass(frozen=True)
class Score:
    """How well a source should transfer; higher is better, and only scores of one measure and target compare.

    Attributes:
        passes: examples that went through the backbone for this score, counted as if nothing was cached.
        error: standard error of the value, where it can be had.
        rows: values of the target's rows whose mean is the value, where it is such a mean.
    """

    value: float
    passes: int
    error: float | None = None
    rows: tuple[float, ...] = ()


@dataclass(frozen=True)
class Lead:
    """The difference between two scores of the same measure and target.

    Attributes:
        error: standard error; over the same rows that of the paired difference, since what is hard for one is hard
            for the other too. None where it is not known.
        rows: that the error was found on; 0 where it is not of the same rows.
    """

    value: float
    error: float | None
    rows: int = 0

    def is_clear(self, scores: int) -> bool:
        """Whether the lead is more than noise, if the two are the first and second of so many scores.

        The first of many is ahead of the second by being picked, so each of all differences between two of them has
        to stay within noise together (Bonferroni; Student's t over the rows, 5 %).
        """
        from scipy.special import ndtri, stdtrit  # what scipy.stats asks, without its half second of loading

        if self.error is None:
            return False
        share = 1 - 0.05 / max(1, scores * (scores - 1))
        bound = stdtrit(self.rows - 1, share) if self.rows > 1 else ndtri(share)
        return bool(self.value > bound * self.error)


def lead(first: Score, second: Score) -> Lead:
    """The lead of the first score over the second, with its error where it is known."""
    ahead = first.value - second.value
    if len(first.rows) == len(second.rows) > 1:
        differences = [left - right for left, right in zip(first.rows, second.rows, strict=True)]
        return Lead(ahead, statistics.stdev(differences) / math.sqrt(len(differences)), len(differences))
    if first.error is None or second.error is None:
        return Lead(ahead, None)
    return Lead(ahead, math.hypot(first.error, second.error))


class MeasureView(Protocol):
    """What a measure can ask of the backbone; the implementation tokenises, batches and caches by content."""

    def hidden(
        self, prompt: Prompt | None, examples: Sequence[Example], target: Target, read: Read
    ) -> tuple[Float[Tensor, "N H"], Tokens]:
        """Last-layer states of a target's examples under a prompt (or none), detached.

        Returns: one vector a sequence (one a token for `tokens`), and the rows they belong to, shown as the
            target's kind and reading have it.
        """
        ...

    def hidden_each(
        self, prompts: Iterable[Prompt], examples: Sequence[Example], target: Target, read: Read
    ) -> Iterator[tuple[Float[Tensor, "N H"], Tokens]]:
        """States of the same examples under each of several prompts in turn, computed in shared batches.

        Prompts are asked for as they are needed, and let go.
        """
        ...

    def describe(self, texts: Sequence[str], pooling: Pooling) -> Float[Tensor, "C H"]:
        """Embeddings of texts without a prompt."""
        ...


class Measure(Protocol):
    """A score of how well a source prompt should transfer to a target. Options are the dataclass's fields.

    Attributes:
        name: registry name.
        needs: `labels` of target rows, a prompt tuned on the target, the source's stored embedding.
    """

    name: ClassVar[str]

    @property
    def needs(self) -> frozenset[MeasureNeed]: ...

    def score(self, source: SeenSource, target: Target, view: MeasureView) -> Score:
        """Score one source for one target.

        Raises:
            RunError: something that the measure needs is not there, or the target is of a kind it cannot judge.
        """
        ...

    def score_all(self, sources: Iterable[SeenSource], target: Target, view: MeasureView) -> Iterator[Score]:
        """Score several sources, in their order; a measure that can score them together overrides this.

        Sources are asked for as they are needed, and let go, so that a bank of any size takes little memory.
        """
        yield from (self.score(source, target, view) for source in sources)


MEASURES: dict[str, type[Measure]] = {}


def register(measure: type[Measure]) -> type[Measure]:
    """Class decorator: make a measure known by its name."""
    MEASURES[measure.name] = measure
    return measure
