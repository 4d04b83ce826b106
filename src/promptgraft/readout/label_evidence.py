"""Evidence for prompts where a row has several labels: how well each label's presence is foretold on unseen rows.

A candidate is a prompt with a logistic regression a label on the directions of frozen features, held towards zero or
towards the label's description, as `readout.evidence` has it for one class a row. Candidates are mixed by the same
rule; what is added is log odds. Directions are centred and divided by their root-mean-square length from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from promptgraft.readout.evidence import FLOOR, Blend, directions, weigh
from promptgraft.readout.fit import fitting_threads, principal, typical_distance
from promptgraft.readout.logistic import logistic
from promptgraft.task.draws import Array

PROBE_STRENGTHS = (10.0,)
PRIOR_STRENGTHS = (3.0, 10.0)
"""How far a label's weights may go from zero, and from its description: strength times the rows' log likelihood is set
against half the squared distance."""
PRIOR_LENGTH = 10.0
"""Of the prior's weights, on features of unit length. With 32 labelled rows in all on six tasks (kinds of names in
tweets, news, films, literature; MiniLM and e5-small without a prompt, three draws) micro F1 is 55.9 with such priors
beside the probe, 54.9 at a length of 6 and 51.9 by probes alone, the precision of the ranking 83.2, 82.1 and 79.5;
with 128 rows micro F1 is 60.8, 60.0 and 59.5. Descriptions that are those of other labels cost 1.2 points."""
MANY = 20
"""Labels beyond which each kind of readout is tried at one strength: each label has fits of its own."""


@dataclass(frozen=True)
class LabelEvidence:
    """The evidence for the readouts of one prompt.

    Attributes:
        unseen: log odds of every row and label by fits that have not seen the row.
    """

    unseen: Float[Array, "J U C"]

    def likelihood(self, y: Int[Array, "U C"]) -> Float[Array, "J U"]:
        """Log probability of each row's labels, of each label never below that of the floor."""
        right = 1 / (1 + np.exp(-np.where(y > 0, self.unseen, -self.unseen)))
        return np.asarray(np.log((1 - FLOOR) * right + FLOOR / 2).sum(-1))


@dataclass(frozen=True)
class LabelCandidates(LabelEvidence):
    """The readouts of one prompt.

    Attributes:
        weights, biases: fitted to all rows.
    """

    weights: Float[Array, "J C F"]
    biases: Float[Array, "J C"]


def label_candidates(
    features: Float[Array, "U F"],
    y: Int[Array, "U C"],
    fold: Int[Array, "U"],
    described: Float[Array, "C F"] | None,
) -> LabelCandidates:
    """Fit all readouts of one prompt, to every part of a cross-validation and to all rows.

    Args:
        y: 1 where a row has a label, else 0.
        fold: which part a row is left out of.
        described: embeddings of the labels' descriptions; None where features are not what describes them.
    """
    parts = np.stack([*(fold != number for number in range(fold.max() + 1)), np.ones(len(y), dtype=bool)])
    weights, biases = fitted_labels(features, y, parts, described)
    unseen = np.empty((len(weights), *y.shape))
    for number in range(fold.max() + 1):
        part = fold == number
        scores = directions(features[part]) @ weights[:, number].swapaxes(1, 2)
        unseen[:, part] = scores + biases[:, number, None]
    return LabelCandidates(unseen, weights[:, -1], biases[:, -1])


def fitted_labels(
    features: Float[Array, "U F"],
    y: Int[Array, "U C"],
    parts: Bool[Array, "P U"],
    described: Float[Array, "C F"] | None,
) -> tuple[Float[Array, "J P C F"], Float[Array, "J P C"]]:
    """Weights and biases of every readout, fitted to each part of the rows.

    To each part comes one row more, at the centre, which has one of the labels: without it the odds of a label that no
    row has would be nothing.
    """
    classes = y.shape[1]
    strengths, priors = strengths_for(classes, described is not None)
    inputs = directions(features)
    centre = inputs.mean(0)
    scale = typical_distance(inputs, centre)
    with fitting_threads(inputs.size):
        axes, basis = principal(inputs - centre, scale)
    pointed = np.zeros((classes, features.shape[1]))
    if described is not None:
        pointed = PRIOR_LENGTH * directions(described - described.mean(0))
    moved = _solved(axes, (inputs - centre) / scale @ pointed.T, y, parts, (*strengths, *priors), len(strengths))
    held = np.repeat([0.0, 1.0], [len(strengths), len(priors)])[:, None, None, None]
    weights = moved[..., :-1] @ basis + held * pointed / scale
    return weights, moved[..., -1] - weights @ centre


def _solved(
    axes: Float[Array, "U R"],
    offset: Float[Array, "U C"],
    y: Int[Array, "U C"],
    parts: Bool[Array, "P U"],
    strengths: Sequence[float],
    probes: int,
) -> Float[Array, "J P C R1"]:
    """What each label's log odds take beyond the offset, the bias last.

    Args:
        axes: of the features.
        offset: log odds by the descriptions.
        probes: how many of the strengths have no offset.
    """
    classes, fits, nothing = y.shape[1], len(strengths), np.zeros((2, axes.shape[1]))
    rate = 1 / max(2, classes)
    label = np.tile(np.arange(classes), fits * len(parts))
    strength = np.repeat(strengths, len(parts) * classes)
    has_prior = np.repeat(np.arange(fits) >= probes, len(parts) * classes)
    seen = np.concatenate([parts, np.tile([rate, 1 - rate], (len(parts), 1))], axis=1)
    gold = np.concatenate([y, np.ones((1, classes), dtype=y.dtype), np.zeros((1, classes), dtype=y.dtype)])
    odds = np.concatenate([offset, np.zeros((2, classes))]).T[label] * has_prior[:, None]
    with fitting_threads(axes.size):
        found = logistic(
            np.concatenate([axes, nothing]),
            gold.T[label],
            np.tile(np.repeat(seen, classes, axis=0), (fits, 1)),
            strength,
            np.ones((len(label), 2), dtype=bool),
            offset=np.stack([np.zeros_like(odds), odds], axis=1),
        )
    return np.asarray((found[:, 1] - found[:, 0]).reshape(fits, len(parts), classes, -1))


def strengths_for(classes: int, has_prior: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Strengths of probes and of readouts with a prior: fewer where many labels make every prompt dear."""
    probes, priors = PROBE_STRENGTHS, PRIOR_STRENGTHS if has_prior else ()
    return (probes[:1], priors[:1]) if classes > MANY else (probes, priors)


def label_blend(
    found: Sequence[LabelEvidence],
    y: Int[Array, "U C"],
    fold: Int[Array, "U"],
    members: int,
) -> Blend:
    """Weigh all candidates by their evidence, keep the best prompts, and set the temperature.

    What a bank's record says is not heard: it is of one class a row, and on three tasks it costs 2 to 8 points of micro
    F1 at 32 labelled rows.

    Args:
        members: prompts that are kept, at most.
    """
    likelihood = [prompt.likelihood(y) for prompt in found]
    chosen = weigh([rows.sum(1) for rows in likelihood], members)
    unseen = np.empty(y.shape)
    for number in range(fold.max() + 1):  # weights of a part do not look at the rows they are judged on
        part = fold == number
        shares = weigh([rows[:, ~part].sum(1) for rows in likelihood], members)
        experts = [np.einsum("j,juc->uc", share, found[place].unseen[:, part]) for place, share in shares.items()]
        unseen[part] = np.sum(experts, axis=0)
    temperature = label_temperature(unseen, y)
    return Blend(tuple(chosen), tuple(chosen.values()), temperature, unseen / temperature)


SPREAD = 0.25
"""Deviation of the logarithm of a temperature before any row is seen."""


def label_temperature(unseen: Float[Array, "U C"], y: Int[Array, "U C"]) -> float:
    """The temperature that makes unseen rows' labels likeliest, held near 1."""
    grid = np.linspace(-1.5, 1.5, 121)
    right = np.where(y > 0, unseen, -unseen)
    value = [-np.logaddexp(0, -right * np.exp(-log)).sum() - (log / SPREAD) ** 2 / 2 for log in grid]
    return float(np.exp(grid[int(np.argmax(value))]))
