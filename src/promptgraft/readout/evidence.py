"""Evidence for prompts: how well readouts of frozen features under each of them foretell labels they have not seen.

A candidate is a prompt with a readout that is fitted without training: a regularised logistic regression on the
directions of features, held towards zero (a probe) or towards the directions of the labels' descriptions (label text
as a prior: one curve from zero-shot, where few rows say little, to the probe). Cross-validation gives every candidate
the log likelihood of all labelled rows. Candidates are mixed as a product of experts: weights fall with likelihood, and
since scores are linear in the features, all candidates of a prompt are one readout.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from promptgraft.readout.fit import NEVER, fitting_threads
from promptgraft.readout.logistic import logistic
from promptgraft.task.draws import Array

PROBE_STRENGTHS = (33.0, 10.0, 3.3)
PRIOR_STRENGTHS = (10.0, 3.3, 1.0)
"""How far the weights may go from zero, and from the descriptions: strength times the rows' log likelihood is set
against half the squared distance."""
PRIOR_LENGTH = 10.0
"""Of the prior's weights: descriptions point, and say nothing of how sure they are."""
MANY = 30
"""Classes beyond which each kind of readout is tried at one strength."""
JUDGED, FITTED = 256, 2000
"""Rows that candidates are judged on, and that those which are kept are fitted to: a few hundred rows tell prompts
apart, and few prompts are worth the passes of thousands."""
FOLDS = 5
FLOOR = 0.02
"""Share of every candidate's probability that goes to all classes alike, so that one row it gets badly wrong does not
decide alone."""
WEIGHT = 0.1
"""What a candidate's log likelihood counts in its weight. Less than 1, since candidates read the same rows and their
evidence is one piece of luck."""


@dataclass(frozen=True)
class Evidence:
    """The evidence for the readouts of one prompt.

    Attributes:
        unseen: log probabilities of every row by fits that have not seen it.
    """

    unseen: Float[Array, "J U K"]

    def likelihood(self, y: Int[Array, "U"]) -> Float[Array, "J U"]:
        """Log probability of each row's label, never below that of the floor."""
        rows = self.unseen[:, np.arange(len(y)), y]
        return np.asarray(np.log((1 - FLOOR) * np.exp(rows) + FLOOR / self.unseen.shape[2]))


@dataclass(frozen=True)
class Candidates(Evidence):
    """The readouts of one prompt that are fitted without training.

    Attributes:
        weights, biases: fitted to all rows.
    """

    weights: Float[Array, "J K H"]
    biases: Float[Array, "J K"]


@dataclass(frozen=True)
class Blend:
    """Which candidates of which prompts are mixed.

    Attributes:
        prompts: their numbers, the weightiest first.
        shares: of each of these prompts' candidates; over all prompts they sum to 1.
        temperature: that the mixed scores are divided by.
        unseen: log probabilities of every row, or log odds of each of its labels, by fits and weights that were not
            judged on it. The weights have heard of it all the same, through the fits that the other parts were judged
            by: on labels that are coin flips the mixture of a few prompts is right in 58 %
            (`tests/contract/test_method_graft.py`), so figures made of these are a little too good.
    """

    prompts: tuple[int, ...]
    shares: tuple[Float[Array, "_"], ...]
    temperature: float
    unseen: Float[Array, "U K"]


def candidates(
    features: Float[Array, "U H"],
    y: Int[Array, "U"],
    fold: Int[Array, "U"],
    described: Float[Array, "K H"] | None,
    weight: Float[Array, "U"],
    classes: int,
) -> Candidates:
    """Fit all readouts of one prompt, to every part of a cross-validation and to all rows.

    Args:
        fold: which part a row is left out of.
        described: embeddings of the labels' descriptions; None where features are not what describes them.
        weight: of the rows (`rarity`).
    """
    parts = np.stack([*(fold != number for number in range(fold.max() + 1)), np.ones(len(y), dtype=bool)])
    weights, biases = fitted(features, y, parts, described, weight, classes)
    scores = weights @ directions(features).T + biases[..., None]
    logs = log_softmax(scores.swapaxes(2, 3))
    unseen = np.take_along_axis(logs, fold[None, None, :, None], axis=1)[:, 0]
    return Candidates(unseen, weights[:, -1], biases[:, -1])


def refitted(
    own: Candidates,
    features: Float[Array, "U H"],
    y: Int[Array, "U"],
    described: Float[Array, "K H"] | None,
    weight: Float[Array, "U"],
    classes: int,
) -> Candidates:
    """The same candidates fitted to more rows than they were judged on."""
    weights, biases = fitted(features, y, np.ones((1, len(y)), dtype=bool), described, weight, classes)
    return Candidates(own.unseen, weights[:, 0], biases[:, 0])


UNSEEN_LENGTH = 7.0
"""Of the weights where there are no labelled rows: on 13 English tasks under prompts that ship, their labels are
likeliest at 7 (log loss 0.858 of a guess's; 0.865 at 5, 0.878 at 10)."""
GENERIC_ROWS = 30
"""What the texts of other tasks count in the centre of features, in rows of the task's own."""


def nearest_description(
    described: Float[Array, "K H"], centre: Float[Array, "H"] | None
) -> tuple[Float[Array, "K H"], Float[Array, "K"]]:
    """Weights and biases by which a text is given the label whose description points where it does.

    Args:
        described: embeddings of the labels' descriptions; what they have in common is taken out.
        centre: what the directions of texts have in common, taken out likewise; None where it is not known: then
            neither is.
    """
    if centre is None:
        return UNSEEN_LENGTH * directions(described), np.zeros(len(described))
    weights = UNSEEN_LENGTH * directions(described - described.mean(0))
    return weights, -weights @ centre


def centre_of(features: Float[Array, "U H"], generic: Float[Array, "H"] | None) -> Float[Array, "H"] | None:
    """The mean direction of features, few of which say less than those of other tasks' texts; None without either."""
    if generic is None:
        return directions(features).mean(0) if len(features) else None
    return np.asarray(
        (directions(features).sum(0) + GENERIC_ROWS * generic) / (len(features) + GENERIC_ROWS),
    )


def fitted(
    features: Float[Array, "U H"],
    y: Int[Array, "U"],
    parts: Bool[Array, "P U"],
    described: Float[Array, "K H"] | None,
    weight: Float[Array, "U"],
    classes: int,
) -> tuple[Float[Array, "J P K H"], Float[Array, "J P K"]]:
    """Weights and biases of every readout, fitted to each part of the rows."""
    inputs = directions(features)
    probes, priors = strengths_for(classes)
    means = [np.zeros((classes, inputs.shape[1]))] * len(probes)
    if described is None:
        priors = ()
    else:
        means += [PRIOR_LENGTH * directions(described - described.mean(0))] * len(priors)
    prior_weights = np.stack(means)
    has_prior = np.arange(len(means)) >= len(probes)
    axes, basis = spanned(inputs)
    present = np.stack([np.bincount(y[part], minlength=classes) > 0 for part in parts])
    present |= ~present.any(1, keepdims=True)  # without a row nothing is known, and no class is ruled out
    allowed = present[None] | has_prior[:, None, None]
    with fitting_threads(inputs.size):
        moved = logistic(
            axes,
            y,
            np.tile(parts, (len(means), 1)),
            np.repeat((*probes, *priors), len(parts)),
            allowed.reshape(-1, classes),
            bias=False,
            offset=np.repeat(prior_weights @ inputs.T, len(parts), axis=0),
            weight=weight,
        )
    weights = moved.reshape(len(means), len(parts), classes, -1) @ basis + prior_weights[:, None]
    return weights, np.where(allowed, 0.0, NEVER)


def strengths_for(classes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Strengths of probes and of readouts with a prior: fewer where many classes make every fit dear."""
    if classes > MANY:
        return PROBE_STRENGTHS[1:2], PRIOR_STRENGTHS[1:2]
    return PROBE_STRENGTHS, PRIOR_STRENGTHS


KNOWN = 3.0
"""What a point that a prompt surely gains on other tasks counts, in units of log likelihood: few rows cannot tell 30
prompts apart. With the record of the bank that ships, five tasks gained 1.8 points by it at 8 labels a class and 1.3 at
32; from 2 to 4 it matters little."""
RARITY = 0.5
"""How much more a row of a rare class counts, as a power of how rare it is. On random rows of six lopsided tasks (40
and 100 labels) macro F1 gains 5.1 and 2.6 points by it, and accuracy 0.3 and -0.3; the whole power gains another 2.4
and 1.1 of macro F1 and loses 2.1 of accuracy, and is for metrics under which every class counts the same."""


def rarity(y: Int[Array, "U"], everything: Int[Array, "N"], power: float) -> Float[Array, "U"]:
    """What each row counts, 1 in the mean: all the same where every class has as many rows.

    Args:
        everything: the classes of all rows, of which `y` is a sample that may hold classes in other shares.
    """
    if not len(y):
        return np.ones(0)
    sizes, drawn = np.bincount(everything), np.bincount(y)
    weight = sizes[y] ** (1 - power) / drawn[y]
    return np.asarray(weight / weight.mean())


def balanced(y: Int[Array, "U"], most: int, seed: int) -> Int[Array, "N"]:
    """At most so many rows, in their order, as many of each class as there are of it and can be."""
    if len(y) <= most:
        return np.arange(len(y))
    shuffled = np.random.default_rng(seed).permutation(len(y))
    turn = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        members = shuffled[y[shuffled] == label]
        turn[members] = np.arange(len(members))
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:most])


def blend(
    found: Sequence[Evidence],
    y: Int[Array, "U"],
    fold: Int[Array, "U"],
    weight: Float[Array, "U"],
    gains: Sequence[float],
    members: int,
) -> Blend:
    """Weigh all candidates by their evidence, keep the best prompts, and set the temperature.

    Args:
        weight: of the rows (`rarity`).
        gains: what each prompt is known to have gained on other tasks, in points; 0 where nothing is known.
        members: prompts that are kept, at most.
    """
    known = [KNOWN * gain for gain in gains]
    likelihood = [weight * prompt.likelihood(y) for prompt in found]
    chosen = weigh([rows.sum(1) + prior for rows, prior in zip(likelihood, known, strict=True)], members)
    unseen = np.empty(found[0].unseen.shape[1:])
    for number in range(fold.max() + 1):  # weights of a part do not look at the rows they are judged on
        part = fold == number
        shares = weigh([rows[:, ~part].sum(1) + prior for rows, prior in zip(likelihood, known, strict=True)], members)
        experts = [np.einsum("j,juk->uk", share, found[prompt].unseen[:, part]) for prompt, share in shares.items()]
        unseen[part] = np.sum(experts, axis=0)
    unseen = log_softmax(unseen)
    temperature = best_temperature(unseen, y)
    return Blend(tuple(chosen), tuple(chosen.values()), temperature, log_softmax(unseen / temperature))


T = TypeVar("T")


def strength(scores: Float[Array, "_"]) -> float:
    """How much a prompt weighs, from the evidence for its candidates."""
    return float(np.logaddexp.reduce(WEIGHT * scores))


def strongest(found: Iterable[T], weight: Callable[[T], float], lightened: Callable[[T], T], count: int) -> list[T]:
    """All of a stream in its order, those that are not among the strongest so many made light as they come.

    So what only the strongest are needed for is never held of all. Of equals the earlier one is kept, as in `weigh`.
    """
    kept: list[T] = []
    heap: list[tuple[float, int]] = []
    for number, value in enumerate(found):
        kept.append(value)
        heapq.heappush(heap, (weight(value), -number))
        if len(heap) > count:
            place = -heapq.heappop(heap)[1]
            kept[place] = lightened(kept[place])
    return kept


def weigh(evidence: Sequence[Float[Array, "_"]], members: int) -> dict[int, Float[Array, "_"]]:
    """Prompt -> the shares of its candidates, of the prompts with the most evidence, the weightiest first."""
    powers = [WEIGHT * scores for scores in evidence]
    totals = np.array([strength(scores) for scores in evidence])
    strongest = np.argsort(-totals, kind="stable")[:members].tolist()
    total = np.logaddexp.reduce(totals[strongest])
    return {prompt: np.exp(powers[prompt] - total) for prompt in strongest}


MODESTY, SPREAD = -1.5, 0.25
"""Of the logarithm of a temperature before any row is seen: its mean, over the rows a class, and its deviation. Rows
that are left out are answered by fits to fewer rows, the more so the fewer there are, and few rows cannot tell. On
twelve tasks the calibration error on 500 test rows is 7.3 points at 8 labels a class and 5.5 at 32, of which 4.3 are
chance (7.5 and 5.6 with a mean of 0 and a deviation of 0.35, 7.5 and 5.8 with -0.35 whatever the rows; 9.8 and 6.3
without a temperature), and the log loss at 32 is nearer to that of the best temperature than with either."""

FEWEST = 6
"""Rows a class below which nothing was measured: the mean stays what it is at so many."""


def best_temperature(unseen: Float[Array, "U K"], y: Int[Array, "U"]) -> float:
    """The temperature that makes unseen rows' labels likeliest, held near what so many rows want as a rule."""
    grid = np.linspace(-1.5, 1.5, 121)
    rows, mean = np.arange(len(y)), MODESTY / max(len(y) / unseen.shape[1], FEWEST)
    value = [log_softmax(unseen * np.exp(-log))[rows, y].sum() - ((log - mean) / SPREAD) ** 2 / 2 for log in grid]
    return float(np.exp(grid[int(np.argmax(value))]))


def directions(vectors: Float[Array, "N H"]) -> Float[Array, "N H"]:
    """Vectors at unit length; zero stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def spanned(inputs: Float[Array, "U H"]) -> tuple[Float[Array, "U R"], Float[Array, "R H"]]:
    """Rows along axes that span them, and these axes: a fit that is held never leaves their span."""
    if len(inputs) >= inputs.shape[1]:
        return inputs, np.eye(inputs.shape[1])
    square, units = np.linalg.eigh(inputs @ inputs.T)
    kept = square > 1e-10 * square[-1]
    size = np.sqrt(square[kept])
    return units[:, kept] * size, (units[:, kept] / size).T @ inputs


def log_softmax(scores: Float[Array, "*N K"]) -> Float[Array, "*N K"]:
    """Log probabilities over the last axis."""
    return np.asarray(scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True))
