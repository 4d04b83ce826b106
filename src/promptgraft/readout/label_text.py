"""The readout `label-text` scores classes by the cosine between a text and the label's description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.by_class import ByRow
from promptgraft.readout.readout import Given, Readout, register
from promptgraft.task.draws import Array
from promptgraft.task.task import Kind, Task

SCALE_START, SCALE_LEAST, SCALE_MOST = 20.0, 1.0, 100.0
SPREAD = 0.3
"""Root mean square of an embedding's coordinates, so that a rate of 0.01 for delta, best on MiniLM (whose descriptions
have 0.29 as they come), means the same for every backbone: 69.5 % on six tasks at 8 labels a class, frozen features;
68.2 at 0.003 and at 0.03."""


@dataclass(frozen=True, eq=False)
class Described(Readout):
    """A readout by the similarity scale * cos(f, e + delta) + b, with e the embedding of the label's description.

    With delta = 0 and b = 0 it reads labels that it never saw, so it carries over to other labels.

    Attributes:
        centred: whether the mean of all descriptions is taken from each.
        embeddings: of the descriptions, by the same frozen backbone without a prompt, scaled to one length.
        raw_scale: scale = least * (most / least) ** sigmoid(raw_scale): near exp(raw_scale) in the middle, and
            it never leaves 1 to 100.
    """

    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "labels": ("bytes",),
        "embeddings": ("classes", "width"),
        "delta": ("classes", "width"),
        "raw_scale": (),
        "bias": ("classes",),
    }
    trained: ClassVar[tuple[str, ...]] = ("delta", "raw_scale", "bias")
    centred: ClassVar[bool] = False

    labels: tuple[str, ...]
    embeddings: Float[Tensor, "*K C H"]
    delta: Float[Tensor, "*K C H"]
    raw_scale: Float[Tensor, "*K"]
    bias: Float[Tensor, "*K C"]

    @classmethod
    def start(cls, task: Task, width: int, given: Given) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Embeddings, and untrained delta, raw scale and bias."""
        classes.check_kind(cls.name, cls.kinds, task)
        embeddings = describe_labels(task, given, centred=cls.centred)
        if embeddings.shape[1] != width:
            raise RunError(
                f"readout {cls.name!r} reads features as wide as a description's ({embeddings.shape[1]}, not {width})",
                where=task.name,
                do="use encoding 'cross', or readout 'linear'",
            )
        return (
            embeddings,
            classes.leaf(torch.zeros_like(embeddings)),
            classes.leaf(embeddings.new_tensor(raw_from_scale(SCALE_START))),
            classes.leaf(embeddings.new_zeros(len(embeddings))),
        )

    def similarity(self, features: Float[Tensor, "*K B H"]) -> Float[Tensor, "*K B C"]:
        """How near each text is to each description."""
        texts = torch.nn.functional.normalize(features.to(self.delta.dtype), dim=-1)
        labels = torch.nn.functional.normalize(self.embeddings + self.delta, dim=-1)
        return self.scale()[..., None, None] * texts @ labels.mT + self.bias.unsqueeze(-2)

    def linear(self) -> tuple[Float[Array, "C H"], Float[Array, "C"]]:
        """Weights and biases with which directions of features get the same scores."""
        labels = torch.nn.functional.normalize(self.embeddings + self.delta, dim=-1)
        return (self.scale() * labels).detach().double().numpy(), self.bias.detach().double().numpy()

    def scale(self) -> Float[Tensor, "*K"]:
        """The factor of the cosine, between 1 and 100."""
        return SCALE_LEAST * torch.exp(math.log(SCALE_MOST / SCALE_LEAST) * torch.sigmoid(self.raw_scale))

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry the scale over to the new task's descriptions, with delta and bias of labels that mean the same.

        A label means the same as a source label when the map says so. Without a map, equal names do, where every
        label of the task has its equal (some with a learned delta and some without are worse than none: 1 to 5
        points on airline_tweets from two-class sources; all of them are worth 0 to 11 before training) and the
        names are words, or the descriptions are equal too (`1` says nothing). How near the descriptions are is
        no guide: among 530 pairs of equally named labels of 30 English tasks, MiniLM puts another label's
        description nearer in 67, mostly the opposite one.
        """
        classes.check_kind(self.name, self.kinds, task)
        embeddings = describe_labels(task, given, centred=self.centred).to(self.embeddings)
        delta, bias = torch.zeros_like(embeddings), embeddings.new_zeros(len(embeddings))
        for target, source in self.same_labels(task, embeddings, label_map).items():
            place = task.classes.index(target)
            delta[place], bias[place] = self.delta[source].detach(), self.bias[source].detach()
        return replace(
            self,
            labels=task.classes,
            embeddings=embeddings,
            delta=classes.leaf(delta),
            raw_scale=classes.leaf(self.raw_scale),
            bias=classes.leaf(bias),
        )

    def same_labels(self, task: Task, embeddings: Float[Tensor, "D H"], label_map: Mapping[str, str]) -> dict[str, int]:
        """Target label -> index of the source label that means the same."""
        match = classes.match_labels(self.labels, task, label_map)
        if label_map:
            return match
        places = {target: task.classes.index(target) for target in match}
        same = {
            target: source
            for target, source in match.items()
            if classes.is_word(target) or torch.allclose(embeddings[places[target]], self.embeddings[source], atol=1e-4)
        }
        return same if len(same) == len(task.classes) else {}


@register
@dataclass(frozen=True, eq=False)
class LabelText(Described, ByRow):
    """Class scores by the similarity between a row and each label's description."""

    name: ClassVar[str] = "label-text"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    stacks: ClassVar[bool] = True

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        return cls(task.classes, *cls.start(task, width, given))

    def scores(self, features: Float[Tensor, "*K B H"], tokens: Tokens) -> Float[Tensor, "*K B C"]:
        return self.similarity(features)


def describe_labels(task: Task, given: Given, *, centred: bool = False) -> Float[Tensor, "C H"]:
    """Embeddings of a task's label descriptions, all of one length; `centred`: without what all share."""
    directions = torch.nn.functional.normalize(given.describe(list(task.labels.values())).detach().float(), dim=-1)
    if centred:
        directions = torch.nn.functional.normalize(directions - directions.mean(0), dim=-1)
    return directions * SPREAD * math.sqrt(directions.shape[1])


def raw_from_scale(scale: float) -> float:
    """The raw scale at which `LabelText.scale` is `scale`."""
    share = math.log(scale / SCALE_LEAST) / math.log(SCALE_MOST / SCALE_LEAST)
    return math.log(share / (1 - share))
