"""This module has the contract of a method, the view it works with, and the registry of all methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

from promptgraft.method.job import Job, Source
from promptgraft.method.options import Options
from promptgraft.model.backbone import Backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Encoding, Pooling, Reading
from promptgraft.task.task import Example, Task
from promptgraft.train.run import Fit, Run, Tuned

Need = Literal["source", "bank", "labels", "gradients", "unlabelled", "validation"]
Split = Literal["train", "validation", "test", "unlabelled"]
Trains = Literal["prompt", "dropout", "weights"]


@dataclass(frozen=True)
class Work:
    """The steps, terms and probes that a job of a method consists of, for an estimate of its cost.

    Attributes:
        trains: what its steps do: train a prompt, do so with dropout, or train the backbone's weights; None: no steps.
        terms: loss terms beyond that of the labels.
        teachers: models that are run over the batch at every step.
        probes: probes that are fitted, each over frozen features of the training rows.
        reads: of so many training rows, how many are read under prompts, all in all; None: all by every probe.
        epochs: how often its steps go over the training rows; None: as the recipe's number of steps has it.
        words: the model that reads a template's words of every row beside all else, empty for the job's own; None: none
            does.
    """

    trains: Trains | None
    terms: int = 0
    teachers: int = 0
    probes: int = 0
    reads: Callable[[int], int] | None = None
    epochs: int | None = None
    words: str | None = None

    def passes(self, rows: int) -> float:
        """How often the training rows pass the backbone for probes, of so many."""
        return self.probes if self.reads is None or not rows else self.reads(rows) / rows


def steps_of(job: Job, work: Work, rows: int) -> int:
    """How many steps of the recipe's batch a job takes on so many training rows."""
    batch = max(1, min(job.recipe.batch, rows))
    return job.recipe.steps if work.epochs is None else -(-work.epochs * rows // batch)


class View(Protocol):
    """What a method can ask the engine for; everything is computed once and shared between jobs.

    Attributes:
        task: the job's task with its few-shot splits drawn.
    """

    backbone: Backbone
    task: Task

    @property
    def pooling(self) -> Pooling:
        """The pooling that the backbone declares, or that a cross-validated probe chooses."""
        ...

    def encoding(self) -> Encoding:
        """The encoding of pairs that a cross-validated probe on frozen features chooses; `cross` for other kinds."""
        ...

    def other(self, name: str) -> Backbone:
        """Another backbone than the job's own.

        Raises:
            ModelError: it is unknown or not here.
        """
        ...

    def in_words(self, pooling: Literal["mark", "answer", "original"], model: str = "") -> Reading:
        """How rows are read in the words of the job's template.

        Args:
            model: another one that reads them; empty for the job's own.
        Raises:
            RunError: the job has no template, or one that does not fit the task.
        """
        ...

    def premise(self, reading: Reading) -> Reading:
        """The same reading without the row: what asks for the answer, behind the same demonstrations.

        Raises:
            RunError: the job's template has no words for that.
        """
        ...

    @property
    def words(self) -> Mapping[str, tuple[str, ...]]:
        """Of each label the words that stand for it."""
        ...

    def tokens(self, split: Split, reading: Reading, rows: tuple[int, ...] | None = None) -> Tokens:
        """The split's rows, or only these of them, tokenised once."""
        ...

    def tokens_of(self, examples: tuple[Example, ...], reading: Reading) -> Tokens:
        """Any rows of the task's kind, tokenised once."""
        ...

    def at_answer(self, template: str, examples: tuple[Example, ...]) -> Float[Tensor, "N H"]:
        """States of rows at the answer's place of another template than the job's, as long as the model reads."""
        ...

    def describe(self, texts: Sequence[str], pooling: Pooling) -> Float[Tensor, "C H"]:
        """Embeddings of label descriptions by the frozen backbone, without a prompt."""
        ...

    def states(self, split: Split, prompt: Prompt | None, reading: Reading) -> Float[Tensor, "N H"]:
        """Frozen hidden states as the task's kind reads them (pooled, or of all tokens for tagging and span)."""
        ...

    def states_each(
        self,
        split: Split,
        prompts: Iterable[Prompt | None],
        reading: Reading,
        rows: tuple[int, ...] | None = None,
    ) -> Iterator[Float[Tensor, "N H"]]:
        """The same under each of several prompts in turn, whose rows share batches.

        Args:
            prompts: those that are alike share batches with their neighbours; None is no prompt. Each is asked for when
                its company passes.
            rows: only these rows of the split; None: all.
        """
        ...

    def finished(self, job: Job) -> Tuned:
        """The finished model of a job that this one `requires`."""
        ...

    def answers(self, tuned: Tuned, split: Split) -> Tensor:
        """Scores of a frozen model on a split, in evaluation mode."""
        ...

    def scores(self, tuned: Tuned, examples: tuple[Example, ...]) -> Tensor:
        """Scores of a frozen model on any rows of the task's kind."""
        ...

    def similarity(self, source: Source, target: Tuned, pooling: str, data: str) -> float:
        """Cosine of the two task embeddings (the `task-embedding` measure)."""
        ...

    def tell(self, step: int, steps: int) -> None:
        """Report how far a long set-up is."""
        ...


class Method(Protocol):
    """A way to set up a run: what it starts from, what it reads out, which loss terms it adds.

    Holds no loop, no optimiser and no input or output.

    Attributes:
        needs: what a job must bring; `validation`: rows that it does not train on, by which its step is chosen.
        options: the model of its options; `Options` where it has none.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[frozenset[Need]]
    options: ClassVar[type[Options]] = Options

    def requires(self, job: Job) -> tuple[Job, ...]:
        """Jobs whose finished models `setup` will read; by default none."""
        return ()

    def work(self, job: Job) -> Work:
        """Roughly what the job will do; by default it trains a prompt, or nothing."""
        return Work("prompt" if "gradients" in self.needs else None)

    def setup(self, job: Job, view: View) -> Run | Fit:
        """Set up a job: return a run for the loop, or a finished fit.

        Raises:
            RunError: the job lacks something, and what.
        """
        ...


METHODS: dict[str, Method] = {}


def register(method: type[Method]) -> type[Method]:
    """Class decorator: make a method known by its name."""
    METHODS[method.name] = method()
    return method
