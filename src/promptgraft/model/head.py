"""A head over words turns a state into what is multiplied by a column a word; most weights of encoders bring one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft import kernels
from promptgraft.model.encoder import Dense, Norm, Take
from promptgraft.model.fingerprint import fingerprint


@dataclass(frozen=True)
class HeadNames:
    """What the tensors of a head are called.

    Attributes:
        dense, norm: the transform; a head without a norm has None.
        decoder: of the columns, where they are stored beside the table of words.
        biases: of the columns' biases, the first that is stored.
        activation: of the transform; None: the encoder's.
        epsilon: of the norm; None: the encoder's.
        detects: whether it tells replaced words from original ones, with one column for all words.
    """

    dense: str
    norm: str | None
    decoder: str
    biases: tuple[str, ...]
    activation: str | None = None
    epsilon: float | None = None
    detects: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Beginnings of the tensors' names."""
        modules = filter(None, (self.dense, self.norm, self.decoder))
        return (*(f"{module}." for module in modules), *self.biases)


LM_HEAD = HeadNames(
    "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", ("lm_head.decoder.bias", "lm_head.bias"), "gelu"
)
HEADS: Mapping[str, tuple[HeadNames, ...]] = {
    "bert": (
        HeadNames(
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder",
            ("cls.predictions.decoder.bias", "cls.predictions.bias"),
        ),
    ),
    "roberta": (LM_HEAD,),
    "mpnet": (LM_HEAD,),
    "albert": (
        HeadNames(
            "predictions.dense",
            "predictions.LayerNorm",
            "predictions.decoder",
            ("predictions.decoder.bias", "predictions.bias"),
        ),
    ),
    "electra": (
        HeadNames(
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head",
            ("generator_lm_head.bias",),
            "gelu",
        ),
        HeadNames(
            "discriminator_predictions.dense",
            None,
            "discriminator_predictions.dense_prediction",
            ("discriminator_predictions.dense_prediction.bias",),
            detects=True,
        ),
    ),
    "distilbert": (HeadNames("vocab_transform", "vocab_layer_norm", "vocab_projector", ("vocab_projector.bias",)),),
    "modernbert": (HeadNames("head.dense", "head.norm", "decoder", ("decoder.bias",)),),
    "deberta-v2": (
        HeadNames(
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder",
            ("cls.predictions.decoder.bias", "cls.predictions.bias"),
        ),
        HeadNames(
            "lm_predictions.lm_head.dense",
            "lm_predictions.lm_head.LayerNorm",
            "lm_predictions.lm_head.decoder",
            ("lm_predictions.lm_head.bias",),
        ),
    ),
}
"""Of each family the heads that its weights may bring."""


def head_parts(family: str) -> tuple[str, ...]:
    """Beginnings of the names of a family's head tensors."""
    return tuple(part for names in HEADS.get(family, ()) for part in names.parts)


class HeadShape(Protocol):
    """The part of a model's shape that its head goes by."""

    @property
    def hidden(self) -> int: ...

    @property
    def embedding_width(self) -> int: ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def activation(self) -> str: ...

    @property
    def epsilon(self) -> float: ...


@dataclass(frozen=True)
class Head:
    """The head over words of a masked model, frozen; its transform is computed in fp32.

    Attributes:
        stored: the columns; None: they are the rows of the table of words.
        detects: whether it tells replaced words from original ones: one column, whose logit is high for a word that
            was put in the place of another.
    """

    dense: Dense
    norm: Norm | None
    activation: str
    epsilon: float
    stored: Float[Tensor, "V E"] | None
    bias: Float[Tensor, "V"]
    detects: bool

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what decides its states and columns, which are no part of the model's fingerprint."""
        tensors = {"weight": self.dense.weight, "bias": self.dense.bias, "biases": self.bias}
        tensors |= {} if self.norm is None else {"norm.weight": self.norm.weight, "norm.bias": self.norm.bias}
        tensors |= {} if self.stored is None else {"stored": self.stored}
        return f"{fingerprint(tensors)} {self.activation} {self.epsilon}"

    @property
    def width(self) -> int:
        """The width of its columns."""
        return len(self.dense.bias)

    def __call__(self, x: Float[Tensor, "S H"]) -> Float[Tensor, "S E"]:
        """The states that are multiplied by the columns."""
        x = kernels.activation(self.dense(x.float()), self.activation)
        norm = self.norm
        return x if norm is None else F.layer_norm(x, (self.width,), norm.weight, norm.bias, self.epsilon)

    def columns(
        self, ids: Int[Tensor, "M"], words: Float[Tensor, "V E"]
    ) -> tuple[Float[Tensor, "M N"], Float[Tensor, "M"]]:
        """The weights and biases of some words, in fp32, on the processor; all words' where it has only one column."""
        table = words if self.stored is None else self.stored
        index = torch.zeros_like(ids) if self.detects else ids
        weights, biases = table.detach()[index.to(table.device)], self.bias[index.to(self.bias.device)]
        return weights.float().cpu(), biases.cpu()


def assemble_head(
    family: str, shape: HeadShape, weights: Mapping[str, Tensor], words: Tensor, where: str, like: Tensor
) -> Head | None:
    """Put a head's weights together; None where there are none.

    Args:
        words: the table of words as it is stored; columns that equal it are not kept twice.
        like: a tensor of the type and on the device that columns of their own are kept in.

    Raises:
        ModelError: some are missing, or of another shape than config.json says.
    """
    names = next((names for names in HEADS.get(family, ()) if f"{names.dense}.weight" in weights), None)
    if names is None:
        return None
    placed = {name: weight.to(like.device) for name, weight in weights.items()}
    take = Take(placed, where, torch.float32)
    width, count = (shape.hidden, 1) if names.detects else (shape.embedding_width, shape.vocabulary)
    bias = next((name for name in names.biases if name in weights), names.biases[-1])
    return Head(
        take.linear(names.dense, width, shape.hidden),
        None if names.norm is None else take.norm(names.norm, width),
        names.activation or shape.activation,
        names.epsilon or shape.epsilon,
        _stored(names, weights, words, Take(placed, where, like.dtype), (count, width)),
        take(bias, count),
        names.detects,
    )


def _stored(
    names: HeadNames, weights: Mapping[str, Tensor], words: Tensor, take: Take, size: tuple[int, int]
) -> Tensor | None:
    """The columns where they differ from the table of words; None where they are its rows."""
    name = f"{names.decoder}.weight"
    if not names.detects and (name not in weights or torch.equal(weights[name], words)):
        return None
    return take(name, *size)
