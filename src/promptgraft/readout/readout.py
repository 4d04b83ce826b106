"""This module has the contract of a readout and the registry of all readouts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol, Self
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.task.task import Example, Kind, Label, Task

Describe = Callable[[Sequence[str]], Float[Tensor, "C H"]]

LabelledStates = Callable[[], tuple[Float[Tensor, "N E"], Int[Tensor, "N"]]]

WordColumns = Callable[[Sequence[str]], tuple[Float[Tensor, "M E"], Float[Tensor, "M"]]]


@dataclass(frozen=True)
class Given:
    """What a readout may ask of the backbone it is made for.

    Attributes:
        describe: embeds label descriptions with the same frozen backbone and pooling, no prompt.
        words: of each label the words that stand for it; empty without a template.
        columns: the head's weights and biases of words; None where the backbone has no head over words.
        rows: frozen states of the labelled rows at the answer's place, and their classes; None without a template.
    """

    describe: Describe
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    columns: WordColumns | None = None
    rows: LabelledStates | None = None


class Readout(Protocol):
    """Turns hidden states into scores and predictions.

    Scores have one layout: `[U, ..., C]`, U units (rows, or words for tagging), and the last axis is what a
    softmax goes over; a choice or a position that is not there scores -inf. Regression scores are `[U]`.
    So a loss term can compare the scores of two models without knowing the readout.

    Attributes:
        name: registry name.
        kinds: task kinds it can read.
        reads: `pooled` (one vector a sequence), `tokens` (one a token), `mark` (that at the answer's place, as the head
            over words takes it), `answer` (the log-probability of each of an answer's tokens) or `original` (that each
            token of a word in the answer's place is original).
        unit: what scores and gold labels are counted in.
        pairs: whether it can read separately encoded pairs (features |u-v|, u*v).
        form: shape of every tensor of `state()`, on which `load` relies: numbers, and the names of sizes: `classes`,
            `width` of the features, `bytes` of the class names in `labels`. A readout is a dataclass of these fields.
        trained: which of these are trained.
        settles: whether `settled` sets anything.
        writes: whether its answers are texts that the model writes.
        by_loss: whether training judges it on validation by its loss, since it predicts nothing by itself.
        stacks: whether one of it can stand for many: a dataclass whose `scores` and `loss` take a leading axis of
            models, features `[K, B, F]` and gold `[K, B]`, once all of its tensors have one.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[Kind]]
    reads: ClassVar[Literal["pooled", "tokens", "mark", "answer", "original"]] = "pooled"
    unit: ClassVar[Literal["row", "word"]] = "row"
    pairs: ClassVar[bool] = False
    form: ClassVar[Mapping[str, tuple[int | str, ...]]]
    trained: ClassVar[tuple[str, ...]]
    settles: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    by_loss: ClassVar[bool] = False
    stacks: ClassVar[bool] = False

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        """A fresh readout for a task.

        Args:
            width: of the features it will read (H, or what `features` makes of it).
            given: what it may ask of the backbone.
        """
        ...

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> Self:
        """Make a readout from what `state()` gave."""
        fields: dict[str, Tensor | tuple[str, ...]] = {
            name: classes.leaf(state[name]) if name in cls.trained else state[name].detach().clone()
            for name in cls.form
            if name != "labels"
        }
        if "labels" in cls.form:
            fields["labels"] = classes.decode_names(state["labels"])
        return cls(**fields)

    def parameters(self) -> dict[str, Tensor]:
        """Trainable leaf tensors by name."""
        return {name: getattr(self, name) for name in self.trained}

    def state(self) -> dict[str, Tensor]:
        """All that `load` needs, trainable or not, detached."""
        tensors = {name: getattr(self, name).detach() for name in self.form if name != "labels"}
        return (
            tensors if "labels" not in self.form else {"labels": classes.encode_names(vars(self)["labels"])} | tensors
        )

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Tensor:
        """Gold labels as `[U, ...]`; -100 marks a unit without a label."""
        ...

    def scores(self, features: Float[Tensor, "N F"], tokens: Tokens) -> Float[Tensor, "..."]:
        """Scores of the units, in the class's layout."""
        ...

    def loss(self, scores: Float[Tensor, "..."], gold: Tensor) -> Float[Tensor, "U"]:
        """The loss of each unit, 0 for a unit without a label."""
        ...

    def predict(
        self, scores: Float[Tensor, "..."], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        """Predict a label name, labels, number, choice, tags or answer text for each row."""
        ...

    def settled(self, scores: Float[Tensor, "..."], gold: Tensor, task: Task) -> Self:
        """The readout with what it sets by the scores of rows it was not trained on, such as a threshold."""
        return self

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """The same readout for another task's labels.

        Args:
            label_map: target label -> source label it stands for; equal names need no entry.
        Raises:
            RunError: the readout cannot serve those labels, and why.
        """
        ...


READOUTS: dict[str, type[Readout]] = {}


def register(readout: type[Readout]) -> type[Readout]:
    """Class decorator: make a readout known by its name."""
    READOUTS[readout.name] = readout
    return readout


def device_of(readout: Readout) -> torch.device:
    """Where a readout's tensors lie."""
    return next((value.device for value in _tensors(readout).values()), torch.device("cpu"))


def on_device(readout: Readout, device: torch.device) -> Readout:
    """A copy of a readout on a device, with leaf tensors of its own."""
    return type(readout).load({name: value.to(device) for name, value in readout.state().items()})


_KINDS: WeakKeyDictionary[Readout, Hashable] = WeakKeyDictionary()


def kind_of(readout: Readout) -> Hashable:
    """A key that is equal for readouts that can be stacked; None for one that cannot be."""
    if not readout.stacks:
        return None
    if readout not in _KINDS:
        tensors = _tensors(readout).values()
        _KINDS[readout] = (type(readout), *((value.shape, value.device) for value in tensors))
    return _KINDS[readout]


def stack_readouts(readouts: Sequence[Readout]) -> Readout:
    """Stack readouts of one kind into one that computes all of them; gradients flow back to each."""
    first = readouts[0]
    if len(readouts) == 1:
        return first
    stacked = {name: torch.stack([getattr(readout, name) for readout in readouts]) for name in _tensors(first)}
    return replace(first, **stacked)  # type: ignore[type-var]


def _tensors(readout: Readout) -> dict[str, Tensor]:
    """The tensors of a readout, by field."""
    return {name: value for name, value in vars(readout).items() if isinstance(value, Tensor)}
