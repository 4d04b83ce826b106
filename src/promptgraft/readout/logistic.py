"""Many logistic regressions are solved at once, each over some of the same units and at its own strength.

The folds and strengths of a cross-validation share their inputs, so one matrix product serves them all. Newton's
method in step for all fits, each step by conjugate gradients (Lin, Weng & Keerthi 2008) preconditioned by the Hessian's
diagonal; a fit that has converged is taken out.

Of each fit: minimise strength * sum of cross-entropies over its units + |weights|^2 / 2, the bias free: the optimum of
scikit-learn's LogisticRegression, which stops early where that is slow to reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from promptgraft.task.draws import Array

GRADIENT = 1e-10
"""Its length where a fit ends, against the larger of 1 and that of the weights: so near is the optimum, curvature being
above 1."""
NEWTON, CONJUGATE = 100, 500
"""Most steps; real tasks take about 15 and 20."""
FIRST, LAST = 0.3, 0.1
"""What conjugate gradients leave of the residual in a first and a last step: less saves fewer steps than it costs."""
ROUNDING = 1e-12
"""Of a sum over units: a smaller rise of the loss is none."""


@dataclass(frozen=True)
class Fits:
    """The data of J regressions over the same inputs.

    Attributes:
        inputs: the last column is 1 where there is a bias.
        gold: 1 at each unit's class, which may differ from fit to fit.
        strength: at the units of a fit, else 0.
        barred: -inf at the classes that a fit has no unit of, else 0.
        penalty: 1 for columns that are held towards zero, 0 for the bias.
        offset: scores that are there before any weight: those of the weights' prior mean.
    """

    inputs: Float[Array, "U D"]
    gold: Float[Array, "K U"] | Float[Array, "J K U"]
    strength: Float[Array, "J 1 U"]
    barred: Float[Array, "J K 1"]
    penalty: Float[Array, "D"]
    offset: Float[Array, "J K U"] | None = None

    def only(self, index: Bool[Array, "J"]) -> Fits:
        """The data of some of the regressions."""
        offset = None if self.offset is None else self.offset[index]
        gold = self.gold if self.gold.ndim == 2 else self.gold[index]
        return Fits(self.inputs, gold, self.strength[index], self.barred[index], self.penalty, offset)

    def loss(self, weights: Float[Array, "J K D"]) -> tuple[Float[Array, "J"], Float[Array, "J K U"]]:
        """The loss of each fit, and the class probabilities of every unit."""
        scores = times(weights, self.inputs.T)
        if self.offset is not None:
            scores += self.offset
        gold = (scores * self.gold).sum(1)
        scores += self.barred
        top = scores.max(1, keepdims=True)
        odds = np.exp(scores - top)
        total = odds.sum(1, keepdims=True)
        entropy = (top + np.log(total))[:, 0] - gold
        squares = (weights**2 * self.penalty).sum((1, 2))
        return (self.strength[:, 0] * entropy).sum(1) + squares / 2, odds / total

    def gradient(self, weights: Float[Array, "J K D"], probability: Float[Array, "J K U"]) -> Float[Array, "J K D"]:
        """The gradient of the loss."""
        return np.asarray(times((probability - self.gold) * self.strength, self.inputs) + weights * self.penalty)

    def diagonal(self, probability: Float[Array, "J K U"], squares: Float[Array, "U D"]) -> Float[Array, "J K D"]:
        """The diagonal of the Hessian."""
        curvature = times(probability * (1 - probability) * self.strength, squares)
        return np.asarray(curvature + np.maximum(self.penalty, ROUNDING))


def times(rows: Float[Array, "J K U"], matrix: Float[Array, "U D"]) -> Float[Array, "J K D"]:
    """Multiply the rows of all fits by a matrix in one product."""
    jobs, classes, width = rows.shape
    return np.asarray(rows.reshape(-1, width) @ matrix).reshape(jobs, classes, -1)


def logistic(
    inputs: Float[Array, "U R"],
    y: Int[Array, "U"] | Int[Array, "J U"],
    seen: Shaped[Array, "J U"],
    strength: Float[Array, "J"],
    present: Bool[Array, "J K"],
    *,
    bias: bool = True,
    offset: Float[Array, "J K U"] | None = None,
    weight: Float[Array, "U"] | None = None,
) -> Float[Array, "J K D"]:
    """Solve all fits: the weights of each, its bias (if any) in the last column; 0 for absent classes.

    A fit with two classes is scikit-learn's of two: one vector w, here as w/2 and -w/2, held by |w|^2 / 2.

    Args:
        y: the class of every unit, of each fit where they differ.
        inputs: of about unit length; best along principal axes, where the Hessian is nearly diagonal.
        seen: the units of a fit, or as how many each counts.
        present: the classes of a fit.
        offset: scores by the weights' prior mean; what is found is how far the weights are from it.
        weight: of each unit in the loss; None: all count alike.
    """
    columns = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1) if bias else inputs
    penalty = np.ones(columns.shape[1])
    penalty[inputs.shape[1] :] = 0
    gold = (np.arange(present.shape[1])[:, None] == y[..., None, :]).astype(float)
    unit_strength = seen * np.where(present.sum(1) == 2, strength / 2, strength)[:, None]
    if weight is not None:
        unit_strength = unit_strength * weight
    weights = minimise(
        Fits(columns, gold, unit_strength[:, None], np.where(present, 0.0, -np.inf)[..., None], penalty, offset)
    )
    if bias:
        weights[..., -1] -= weights[..., -1].sum(1, keepdims=True) / present.sum(1, keepdims=True)
    return weights * present[..., None]


def minimise(fits: Fits) -> Float[Array, "J K D"]:
    """Minimise the loss of all fits by Newton's method, started from zero."""
    weights = np.zeros((len(fits.strength), fits.gold.shape[-2], fits.inputs.shape[1]))
    solution, active, squares = weights.copy(), np.arange(len(weights)), fits.inputs**2
    loss, probability = fits.loss(weights)
    gradient = fits.gradient(weights, probability)
    first = size = norm(gradient)
    before = np.full(len(size), np.inf)
    for _ in range(NEWTON):
        stuck = (size > before / 2) & (size < 1e-6 * first)
        going = ~stuck & (size > GRADIENT * np.maximum(1, norm(weights)))
        solution[active] = weights
        if not going.any():
            break
        if not going.all():
            fits, active, first, size = fits.only(going), active[going], first[going], size[going]
            weights, loss, probability, gradient = weights[going], loss[going], probability[going], gradient[going]
        step = newton_step(fits, gradient, probability, squares, np.clip(size / first, LAST, FIRST))
        weights, loss, probability = descend(fits, weights, loss, step, (gradient * step).sum((1, 2)))
        gradient = fits.gradient(weights, probability)
        before, size = size, norm(gradient)
    return solution


def newton_step(
    fits: Fits,
    gradient: Float[Array, "J K D"],
    probability: Float[Array, "J K U"],
    squares: Float[Array, "U D"],
    tolerance: Float[Array, "J"],
) -> Float[Array, "J K D"]:
    """The Newton step of each fit, by preconditioned conjugate gradients.

    Args:
        tolerance: the share of the residual that may be left.
    """
    step, active, partial = np.zeros_like(gradient), np.arange(len(gradient)), np.zeros_like(gradient)
    diagonal, weighted = fits.diagonal(probability, squares), probability * fits.strength
    residual = -gradient
    direction = scaled = residual / diagonal
    remaining = (residual * scaled).sum((1, 2))
    goal = tolerance**2 * remaining
    for _ in range(CONJUGATE):
        change = times(direction, fits.inputs.T)
        change -= (probability * change).sum(1, keepdims=True)
        change *= weighted
        product = times(change, fits.inputs) + direction * fits.penalty
        length = (remaining / (direction * product).sum((1, 2)))[:, None, None]
        partial = partial + length * direction
        residual = residual - length * product
        scaled = residual / diagonal
        before, remaining = remaining, (residual * scaled).sum((1, 2))
        direction = scaled + (remaining / before)[:, None, None] * direction
        going = remaining > goal
        step[active] = partial
        if not going.any():
            break
        if not going.all():
            active, remaining, goal, diagonal = active[going], remaining[going], goal[going], diagonal[going]
            probability, weighted = probability[going], weighted[going]
            partial, residual, direction = partial[going], residual[going], direction[going]
    return step


def descend(
    fits: Fits,
    weights: Float[Array, "J K D"],
    loss: Float[Array, "J"],
    step: Float[Array, "J K D"],
    slope: Float[Array, "J"],
) -> tuple[Float[Array, "J K D"], Float[Array, "J"], Float[Array, "J K U"]]:
    """Take the step, halved until the loss falls enough (Armijo); return weights, loss and probabilities."""
    share = np.ones(len(weights))
    candidate = weights + step
    value, probability = fits.loss(candidate)
    while (high := ~(value <= loss + 1e-4 * share * slope + ROUNDING * (1 + abs(loss)))).any() and share.min() > 1e-9:
        share[high] /= 2
        candidate[high] = weights[high] + share[high, None, None] * step[high]
        value[high], probability[high] = fits.only(high).loss(candidate[high])
    return candidate, value, probability


def norm(values: Float[Array, "J K D"]) -> Float[Array, "J"]:
    """The Euclidean length of each fit's values."""
    return np.asarray(np.sqrt((values**2).sum((1, 2))))
