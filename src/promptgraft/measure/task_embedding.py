"""The measure `task-embedding` is the cosine of two tasks' mean states under their own prompts (PANDA's metric)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.measure.measure import Measure, MeasureNeed, MeasureView, Score, SeenSource, Target, register
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Pooling, Reading
from promptgraft.task.task import Example, Task

EXAMPLES = 100


@register
@dataclass(frozen=True)
class TaskEmbedding(Measure):
    """The cosine of two task embeddings: mean last-layer states of a task's training examples under its own prompt.

    PANDA (Zhong et al., TKDE 2024, equation 2). The stored sources do not say which state, which examples or
    whose examples, and no code computes it, so these are ASSUMPTIONS, marked with *:

    Attributes:
        pooling: `cls`* or `mean` over tokens.
        data: `own`*: each task's own examples, the source's embedding stored when it was tuned; `common`: both prompts
            over the target's examples.
        count: examples a task (100 in the paper), drawn by `seed`*.
    """

    name: ClassVar[str] = "task-embedding"

    pooling: Pooling = "cls"
    data: Literal["own", "common"] = "own"
    count: int = EXAMPLES
    seed: int = 0

    @property
    def needs(self) -> frozenset[MeasureNeed]:
        both: frozenset[MeasureNeed] = frozenset({"target-prompt", "source-embedding"})
        return both if self.data == "own" else frozenset({"target-prompt"})

    def score(self, source: SeenSource, target: Target, view: MeasureView) -> Score:
        """The cosine of the two embeddings; its error is a jackknife over the target's examples.

        Tuning the target's prompt is a cost too, far above the counted passes, and not among them.
        """
        if target.prompt is None:
            raise RunError("measure 'task-embedding' needs a prompt tuned on the target", where=target.task.name)
        examples = sample_examples(target.task, self.count, self.seed)
        target_states = states(target.prompt, examples, target, view, self.pooling)
        if self.data == "common":
            source_states = states(source.prompt, examples, target, view, self.pooling)
            return Score(
                cosine(source_states.mean(0), target_states.mean(0)),
                2 * len(examples),
                jackknife(source_states, target_states),
            )
        if self.pooling not in source.embeddings:
            raise RunError(
                f"no {self.pooling!r} task embedding was stored with it",
                where=source.name,
                do="tune it again, or measure with data 'common'",
            )
        stored = source.embeddings[self.pooling].to(target_states)
        return Score(
            cosine(stored, target_states.mean(0)),
            len(examples),
            jackknife(stored.expand_as(target_states), target_states),
        )


def embed_task(
    prompt: Prompt, target: Target, view: MeasureView, pooling: Pooling, count: int = EXAMPLES, seed: int = 0
) -> Float[Tensor, "H"]:
    """The task embedding that is stored with a tuned prompt: `Source.embeddings[pooling]`."""
    return states(prompt, sample_examples(target.task, count, seed), target, view, pooling).mean(0)


def states(
    prompt: Prompt, examples: Sequence[Example], target: Target, view: MeasureView, pooling: Pooling
) -> Float[Tensor, "S H"]:
    """Pooled states of examples, with pairs as one sequence always, so that any two tasks can be compared."""
    joined = replace(target, reading=Reading("mean", template=target.reading.template, pool=target.reading.pool))
    return view.hidden(prompt, examples, joined, pooling)[0].float()


def sample_examples(task: Task, count: int, seed: int) -> tuple[Example, ...]:
    """Draw at most `count` training examples by seed, in the task's order."""
    if not task.train:
        raise RunError("a task embedding needs training examples", where=task.name)
    if len(task.train) <= count:
        return task.train
    places = sorted(random.Random(seed).sample(range(len(task.train)), count))
    return tuple(task.train[place] for place in places)


def cosine(first: Float[Tensor, "H"], second: Float[Tensor, "H"]) -> float:
    """The cosine of the angle between two vectors; 0 where one of them is zero."""
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


def jackknife(source: Float[Tensor, "S H"], target: Float[Tensor, "S H"]) -> float | None:
    """The standard error of the cosine of two means, by leaving out one example (of both) at a time.

    se^2 = (n - 1) / n * sum_i (cos_i - mean cos)^2 (Efron 1981).
    """
    count = len(target)
    if count < 2:
        return None
    source_means, target_means = ((states.sum(0) - states) / (count - 1) for states in (source, target))
    cosines = torch.nn.functional.cosine_similarity(source_means, target_means, dim=1).double()
    return float(((count - 1) * cosines.var(correction=0)).sqrt())
