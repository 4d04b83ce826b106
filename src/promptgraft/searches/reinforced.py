"""Policy gradient: words at a few places are drawn from a policy, which learns from the reward."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from promptgraft.searches.algorithm import Algorithm, register
from promptgraft.searches.asker import Asker
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.phrases import with_words
from promptgraft.searches.race import Raced
from promptgraft.searches.space import Space
from promptgraft.task.draws import Array

PLACES = 3
"""Words that the policy puts before the answer (the paper has 2 or 5)."""
MOST_WORDS = 500
"""Words that it draws from; of more, that many are drawn at the beginning."""
AT_ONCE = 16
RATE, CLIP = 1.0, 1.0
"""Of a step of plain gradient ascent, and the longest step of a logit. With a few hundred steps at most, a policy over
hundreds of words has to move at once."""
WRONG, RIGHT = 180.0, 200.0
"""The factors of the margin of a row that is answered wrong and right (the paper's lambda 1 and 2)."""


@register
class Reinforced(Algorithm):
    """REINFORCE over words with RLPrompt's reward (Deng et al. 2022, equations 1 and 3).

    The policy is a softmax over words at each of a few places before the answer, independent of each other, where the
    paper trains a layer inside a language model. A candidate's reward is the mean over rows of the margin of the right
    class, times 180 where the answer is wrong and 200 where it is right; rewards of a round are brought to mean 0 and
    deviation 1, which is the baseline.
    """

    name: ClassVar[str] = "policy-gradient"
    summary: ClassVar[str] = "words drawn from a policy that learns from the reward"
    races: ClassVar[bool] = False

    def __init__(self, space: Space, asker: Asker, generator: random.Random) -> None:
        super().__init__(space, asker, generator)
        words = list(space.vocabulary)
        self.words = sorted(generator.sample(words, MOST_WORDS)) if len(words) > MOST_WORDS else words
        self.logits = np.zeros((PLACES, len(self.words)))
        self._draws = np.random.default_rng(generator.getrandbits(63))
        self._asked: dict[str, Int[Array, "P"]] = {}
        self._begun = False

    def propose(self) -> Sequence[Candidate]:
        if not self._begun:
            self._begun = True
            return [self.space.start]
        if not self.words:
            return []
        self._asked = {}
        chosen = drawn(self.logits, AT_ONCE, self._draws)
        candidates = []
        for places in chosen:
            candidate = with_words(self.space, [self.words[place] for place in places], "drawn from the policy")
            if candidate is not None and candidate.key not in self._asked:
                self._asked[candidate.key] = places
                candidates.append(candidate)
        return candidates or [self.space.start]

    def observe(self, scored: Sequence[Raced]) -> None:
        known = [entry for entry in scored if entry.candidate.key in self._asked and entry.scores]
        if len(known) < 2:
            return
        rewards = np.array([reward(entry) for entry in known])
        actions = np.stack([self._asked[entry.candidate.key] for entry in known])
        self.logits += np.clip(RATE * policy_gradient(self.logits, actions, standardised(rewards)), -CLIP, CLIP)


def reward(entry: Raced) -> float:
    """A candidate's reward: the mean over its rows of the weighed margin."""
    return float(np.mean([(RIGHT if row.margin > 0 else WRONG) * row.margin for row in entry.scores]))


def standardised(rewards: Float[Array, "N"]) -> Float[Array, "N"]:
    """Rewards with mean 0 and deviation 1; zeros where they are all alike."""
    spread = rewards.std()
    return (rewards - rewards.mean()) / spread if spread > 0 else np.zeros_like(rewards)


def softmax(logits: Float[Array, "P V"]) -> Float[Array, "P V"]:
    """The policy: of each place the probabilities of the words."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def drawn(logits: Float[Array, "P V"], count: int, generator: np.random.Generator) -> Int[Array, "N P"]:
    """Words for each place, drawn from the policy, all candidates at once."""
    ends = softmax(logits).cumsum(1)
    points = generator.random((count, len(logits)))
    return np.asarray((points[:, :, None] > ends[None]).sum(2).clip(max=logits.shape[1] - 1))


def policy_gradient(
    logits: Float[Array, "P V"], actions: Int[Array, "N P"], advantages: Float[Array, "N"]
) -> Float[Array, "P V"]:
    """The gradient of the mean of advantage times log-probability (Williams 1992)."""
    chosen = np.zeros((len(actions), *logits.shape))
    np.put_along_axis(chosen, actions[:, :, None], 1.0, 2)
    return np.asarray((advantages[:, None, None] * (chosen - softmax(logits))).mean(0))
