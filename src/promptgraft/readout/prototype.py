"""The readout `prototype` scores labels by the cosine between the state at the answer's place and their prototypes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.by_class import ByRow
from promptgraft.readout.readout import Given, register
from promptgraft.readout.verbalizer import label_columns
from promptgraft.task.task import Kind, Task

SCALE = 10.0
"""Of the cosine, before it is trained."""


@register
@dataclass(frozen=True, eq=False)
class Prototype(ByRow):
    """Scores scale * cos(f - m, c): a label's prototype is the mean direction of its rows' states.

    Prototypes are means of labelled rows (Snell et al. 2017), at the mask of a template and by the cosine (Cui et al.
    2022, ProtoVerb), which training goes on from; ProtoVerb's projection is left out. A label without a labelled row
    has the direction of its words.

    Attributes:
        centre: the mean of the classes' mean states, taken from every state: all of them point much the same way.
        raw_scale: the logarithm of the scale.
    """

    name: ClassVar[str] = "prototype"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "pair"})
    reads: ClassVar[Literal["mark"]] = "mark"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {
        "labels": ("bytes",),
        "prototypes": ("classes", "width"),
        "centre": ("width",),
        "raw_scale": (),
    }
    trained: ClassVar[tuple[str, ...]] = ("prototypes", "raw_scale")
    stacks: ClassVar[bool] = True

    labels: tuple[str, ...]
    prototypes: Float[Tensor, "*K C E"]
    centre: Float[Tensor, "*K E"]
    raw_scale: Float[Tensor, "*K"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        prototypes, centre = _means(task, given)
        raw_scale = classes.leaf(torch.tensor(math.log(SCALE)))
        return cls(task.classes, classes.leaf(prototypes), centre, raw_scale)

    def scores(self, features: Float[Tensor, "*K B E"], tokens: Tokens) -> Float[Tensor, "*K B C"]:
        directions = normalize(features.to(self.centre.dtype) - self.centre.unsqueeze(-2), dim=-1)
        return self.raw_scale.exp()[..., None, None] * directions @ normalize(self.prototypes, dim=-1).mT

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        """Carry over where every label means the same as one of the source; else start from the new task's rows."""
        classes.check_kind(self.name, self.kinds, task)
        match = classes.all_matched(self.labels, task, label_map)
        if len(match) == len(task.classes):
            prototypes, centre = self.prototypes.detach()[[match[label] for label in task.classes]], self.centre
        else:
            prototypes, centre = (tensor.to(self.centre) for tensor in _means(task, given))
        raw_scale = classes.leaf(self.raw_scale)
        return replace(
            self, labels=task.classes, prototypes=classes.leaf(prototypes), centre=centre.clone(), raw_scale=raw_scale
        )


def _means(task: Task, given: Given) -> tuple[Float[Tensor, "C E"], Float[Tensor, "E"]]:
    """The mean direction of each class's labelled rows, of its words where it has none, and what states are less."""
    columns, _ = label_columns(task, given)
    prototypes, centre = normalize(columns - columns.mean(0), dim=-1), torch.zeros_like(columns[0])
    if given.rows is None:
        return prototypes, centre
    states, gold = given.rows()
    places = [int(place) for place in gold.unique() if place >= 0]
    if not places:
        return prototypes, centre
    centre = torch.stack([states[gold == place].mean(0) for place in places]).mean(0)
    for place in places:
        prototypes[place] = normalize(normalize(states[gold == place] - centre, dim=-1).mean(0), dim=-1)
    return prototypes, centre
