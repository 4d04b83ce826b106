"""Loss terms are what distillation adds to the loss of the labels; terms of one kind are computed together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

TermFigures = dict[str, Float[Tensor, "K"]]
"""What goes into the history, by name, a value a run."""


@dataclass(frozen=True)
class Step:
    """The values that terms work with in one step of K runs that are scored together.

    Attributes:
        rows: of each run, which of its training rows are in the batch; as many for each.
        units: which units these are (rows, or words for tagging).
        scores: the students', `[K, U, ..., C]`, or `[K, U]` for regression.
        gold: `[K, U, ...]`.
        loss: each run's mean loss of the labels, with its graph.
    """

    rows: Sequence[Int[Tensor, "N"]]
    units: Sequence[Int[Tensor, "U"]]
    scores: Float[Tensor, "K ..."]
    gold: Int[Tensor, "K ..."] | Float[Tensor, "K ..."]
    loss: Float[Tensor, "K"]


class Term(Protocol):
    """One addend of a run's loss.

    Attributes:
        kind: terms with equal kinds are computed together.
    """

    name: str

    @property
    def kind(self) -> Hashable: ...

    @classmethod
    def together(cls, terms: Sequence[Self], step: Step) -> tuple[Float[Tensor, "K"], TermFigures]:
        """The weighted losses to add, one a run, and figures for the histories, detached."""
        ...


class Teacher(Protocol):
    """Gives a teacher's scores for the units of a step."""

    @property
    def kind(self) -> Hashable: ...

    @classmethod
    def together(cls, teachers: Sequence[Self], step: Step) -> Float[Tensor, "K ..."]:
        """Each run's teacher on that run's units, where the students' scores lie."""
        ...


def taught(terms: Sequence[_HasTeacher], step: Step) -> Float[Tensor, "K ..."]:
    """The scores that the terms' teachers give."""
    teachers = [term.teacher for term in terms]
    scores: Tensor = type(teachers[0]).together(teachers, step)
    return scores


class _HasTeacher(Protocol):
    teacher: Teacher


def gradient_ratio(term: Float[Tensor, "K"], step: Step) -> Float[Tensor, "K"]:
    """The norm of each term's gradient on the scores, divided by the norm of the label loss's gradient."""
    (ours,) = torch.autograd.grad(term.sum(), step.scores, retain_graph=True)
    (labels,) = torch.autograd.grad(step.loss.sum(), step.scores, retain_graph=True)
    share: Tensor = ours.flatten(1).norm(dim=1) / labels.flatten(1).norm(dim=1).clamp_min(1e-12)
    return share


def known(teacher: Float[Tensor, "..."], scores: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """Where both models give a score: not at choices or positions that are not there."""
    return torch.isfinite(teacher) & torch.isfinite(scores)


def divergence(teacher: Tensor, scores: Tensor, temperature: float) -> Float[Tensor, "K U"]:
    """KL(teacher || student) of each unit at temperature T, times T^2 (Hinton et al. 2015).

    Regression (no class axis): squared difference, where a temperature has no meaning.
    """
    if scores.ndim == 2:
        return (teacher - scores).square()
    both = known(teacher, scores)
    nothing = ~both.any(-1, keepdim=True)  # a context that was cut away; its softmax would be NaN, and so its gradient
    target = functional.log_softmax(teacher.masked_fill(nothing, 0) / temperature, dim=-1)
    log = functional.log_softmax(scores.masked_fill(nothing, 0) / temperature, dim=-1)
    kl = torch.where(both, target.exp() * (target.where(both, 0) - log.where(both, 0)), 0).sum(-1)
    return temperature**2 * kl.flatten(2).mean(2) if kl.ndim > 2 else temperature**2 * kl


class Match:
    """PANDA as released: 0.1 * beta * mean-squared error of raw scores, divided by the batch size once more.

    Args:
        teacher: gives the teacher's scores for the batch's rows, anew at every step (it is in train mode).
        beta: the released scripts leave it at 0.1.

    Source: WHU-ZQH/PANDA, training/trainer_base.py lines 172-230 at 5efc6dc.
    """

    name = "match"

    def __init__(self, teacher: Teacher, beta: float = 0.1) -> None:
        self.teacher, self.beta = teacher, beta

    @property
    def kind(self) -> Hashable:
        return type(self), self.teacher.kind

    @classmethod
    def together(cls, terms: Sequence[Self], step: Step) -> tuple[Tensor, TermFigures]:
        teacher = taught(terms, step)
        both = known(teacher, step.scores)
        error = (teacher.where(both, 0) - step.scores.where(both, 0)).square().flatten(1).sum(1)
        beta = step.loss.new_tensor([term.beta for term in terms])
        loss = 0.1 * beta * error / both.flatten(1).sum(1).clamp_min(1) / len(step.rows[0])
        return loss, {"match": loss.detach(), "ratio": gradient_ratio(loss, step)}


class Distill:
    """Distillation from a frozen teacher: weight * KL at temperature T.

    Args:
        weight: lambda times the predicted similarity of source and target (the paper's balance of signals).
    """

    name = "distill"

    def __init__(self, teacher: Teacher, weight: float, temperature: float) -> None:
        self.teacher, self.weight, self.temperature = teacher, weight, temperature

    @property
    def kind(self) -> Hashable:
        return type(self), self.temperature, self.teacher.kind

    @classmethod
    def together(cls, terms: Sequence[Self], step: Step) -> tuple[Tensor, TermFigures]:
        weight = step.loss.new_tensor([term.weight for term in terms])
        loss = weight * divergence(taught(terms, step), step.scores, terms[0].temperature).mean(1)
        return loss, {"distill": loss.detach(), "ratio": gradient_ratio(loss, step)}


class Gated:
    """Distillation that listens to the teacher where it is right.

    Each unit is weighted by the teacher's probability of its true label (units without a label by the
    teacher's own certainty); the whole term is scaled so that its gradient on the scores is `share` of the
    labels' gradient. The scale is taken as a constant, so it does not push the student.
    """

    name = "gated"

    def __init__(self, teacher: Teacher, share: float, temperature: float) -> None:
        self.teacher, self.share, self.temperature = teacher, share, temperature

    @property
    def kind(self) -> Hashable:
        return type(self), self.temperature, self.teacher.kind

    @classmethod
    def together(cls, terms: Sequence[Self], step: Step) -> tuple[Tensor, TermFigures]:
        teacher = taught(terms, step)
        gate = trust(teacher, step.gold)
        term = (gate * divergence(teacher, step.scores, terms[0].temperature)).mean(1)
        ratio = gradient_ratio(term, step)
        share = ratio.new_tensor([gated.share for gated in terms])
        scale = (share / ratio.clamp_min(1e-6)).clamp_max(1e3)
        return scale * term, {"gate": gate.mean(1), "ratio": ratio * scale}


def trust(teacher: Tensor, gold: Tensor) -> Float[Tensor, "K U"]:
    """The teacher's probability of the true label; for units without a label, of its own first choice."""
    if teacher.ndim == 2:
        return torch.ones_like(teacher)
    probability = teacher.softmax(-1).nan_to_num(0)  # nothing to score, nothing to trust
    certainty = probability.amax(-1)
    true = probability.gather(-1, gold.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    trusted = torch.where(gold >= 0, true, certainty)
    return trusted.flatten(2).mean(2) if trusted.ndim > 2 else trusted
