"""Loss terms beyond the loss of the labels: what distillation adds to a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Step:
    """What a term sees of one step of its run.

    Attributes:
        rows: which of the run's training rows are in the batch.
        units: which units these are (rows, or words for tagging).
        scores: the student's, `[U, ..., C]`, or `[U]` for regression.
        loss: mean loss of the labels, with its graph.
    """

    rows: Int[Tensor, "N"]
    units: Int[Tensor, "U"]
    scores: Float[Tensor, "..."]
    gold: Tensor
    loss: Float[Tensor, ""]


class Term(Protocol):
    """One addend of a run's loss."""

    name: str

    def __call__(self, step: Step) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The weighted loss to add, and figures for the history, detached."""
        ...


def gradient_ratio(term: Tensor, loss: Tensor, scores: Tensor) -> Float[Tensor, ""]:
    """Norm of the term's gradient on the scores over that of the label loss: its share of the signal."""
    (ours,) = torch.autograd.grad(term, scores, retain_graph=True)
    (labels,) = torch.autograd.grad(loss, scores, retain_graph=True)
    share: Tensor = ours.norm() / labels.norm().clamp_min(1e-12)
    return share


def known(teacher: Float[Tensor, "..."], scores: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """Where both models score: not at choices or positions that are not there."""
    return torch.isfinite(teacher) & torch.isfinite(scores)


def divergence(teacher: Tensor, scores: Tensor, temperature: float) -> Float[Tensor, "U"]:
    """KL(teacher || student) of each unit at temperature T, times T^2 (Hinton et al. 2015).

    Regression (no class axis): squared difference, where a temperature has no meaning.
    """
    if scores.ndim == 1:
        return (teacher - scores).square()
    both = known(teacher, scores)
    nothing = ~both.any(-1, keepdim=True)  # a context that was cut away; its softmax would be NaN, and so its gradient
    target = functional.log_softmax(teacher.masked_fill(nothing, 0) / temperature, dim=-1)
    log = functional.log_softmax(scores.masked_fill(nothing, 0) / temperature, dim=-1)
    kl = torch.where(both, target.exp() * (target.where(both, 0) - log.where(both, 0)), 0).sum(-1)
    return temperature**2 * kl.flatten(1).mean(1) if kl.ndim > 1 else temperature**2 * kl


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

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        teacher = self.teacher(step)
        both = known(teacher, step.scores)
        error = (teacher.where(both, 0) - step.scores.where(both, 0)).square().sum() / both.sum().clamp_min(1)
        loss = 0.1 * self.beta * error / len(step.rows)
        return loss, {"match": loss.detach(), "ratio": gradient_ratio(loss, step.loss, step.scores)}


class Distill:
    """Distillation from a frozen teacher: weight * KL at temperature T.

    Args:
        weight: lambda times the predicted similarity of source and target (the paper's balance of signals).
    """

    name = "distill"

    def __init__(self, teacher: Teacher, weight: float, temperature: float) -> None:
        self.teacher, self.weight, self.temperature = teacher, weight, temperature

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.weight * divergence(self.teacher(step), step.scores, self.temperature).mean()
        return loss, {"distill": loss.detach(), "ratio": gradient_ratio(loss, step.loss, step.scores)}


class Gated:
    """Distillation that listens to the teacher where it is right.

    Each unit is weighted by the teacher's probability of its true label (units without a label by the
    teacher's own certainty); the whole term is scaled so that its gradient on the scores is `share` of the
    labels' gradient. The scale is taken as a constant, so it does not push the student.
    """

    name = "gated"

    def __init__(self, teacher: Teacher, share: float, temperature: float) -> None:
        self.teacher, self.share, self.temperature = teacher, share, temperature

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        teacher = self.teacher(step)
        gate = trust(teacher, step.gold)
        term = (gate * divergence(teacher, step.scores, self.temperature)).mean()
        ratio = gradient_ratio(term, step.loss, step.scores)
        scale = (self.share / ratio.clamp_min(1e-6)).clamp_max(1e3)
        return scale * term, {"gate": gate.mean(), "ratio": ratio * scale}


def trust(teacher: Tensor, gold: Tensor) -> Float[Tensor, "U"]:
    """The teacher's probability of the true label; where there is none, of its own first choice."""
    if teacher.ndim == 1:
        return torch.ones_like(teacher)
    probability = teacher.softmax(-1).nan_to_num(0)  # nothing to score, nothing to trust
    own = probability.amax(-1)
    true = probability.gather(-1, gold.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    trusted = torch.where(gold >= 0, true, own)
    return trusted.flatten(1).mean(1) if trusted.ndim > 1 else trusted


class Teacher(Protocol):
    """Gives a teacher's scores for the units of a step."""

    def __call__(self, step: Step) -> Float[Tensor, "..."]: ...
