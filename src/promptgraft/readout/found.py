"""Finds words for labels: those that a model predicts for the rows of one label more than for the rows of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.backbone import Speaks

ROWS_AT_ONCE = 64
"""Rows whose probabilities of all words are held at a time."""
LIKELIEST = 1000
"""Words of a label are among so many that are likeliest for its rows, so that no rare one is chosen by luck."""
MOST_WORDS = 30
"""Of a label. Accuracy of splade-tiny without training on sst2, trec, emotion and subj, at 8 and 32 rows a class, three
seeds: 30 words 53.4 %, 10 words 50.3, 3 words 46.1, 1 word 43.7; the library's words 35.5. Of 100, 300, 1,000 and 5,000
likeliest, 30 words each: 45.6, 52.9, 53.4, 50.6."""


def found_words(
    backbone: Speaks, states: Float[Tensor, "N E"], gold: Int[Tensor, "N"], classes: Sequence[str], size: int
) -> dict[str, tuple[str, ...]]:
    """Of each class the words that set its rows apart, the best first; no word stands for two classes.

    A word scores the mean log-probability over the class's rows, less the mean over the other classes of theirs (the
    likelihood ratio of Schick et al. 2020, PETAL). Classes take their best words in turn.

    Args:
        states: at the answer's place.
        gold: the class of each row.
        size: of the vocabulary.
    Raises:
        RunError: a class has no row, or there are fewer words than classes.
    """
    words = backbone.lone_words()
    if len(words) < len(classes):
        raise RunError(f"the model has {len(words)} whole words for {len(classes)} labels", do="pass --verbalizer")
    names, ids = list(words), torch.tensor(list(words.values()), dtype=torch.long)
    likely = mean_likelihoods(backbone, states, gold, classes, size)[:, ids]
    others = (likely.sum(0) - likely) / max(1, len(classes) - 1)
    ranks = likely.argsort(dim=1, descending=True, stable=True).argsort(1)
    scores = (likely - others).masked_fill(ranks >= max(LIKELIEST, len(classes)), -torch.inf)
    return {
        name: tuple(names[place] for place in places)
        for name, places in zip(classes, _taken_in_turn(scores), strict=True)
    }


def mean_likelihoods(
    backbone: Speaks, states: Float[Tensor, "N E"], gold: Int[Tensor, "N"], classes: Sequence[str], size: int
) -> Float[Tensor, "C V"]:
    """The mean log-probability of every token of the vocabulary over the rows of each class.

    Raises:
        RunError: a class has no row.
    """
    counts = torch.bincount(gold, minlength=len(classes))
    if not counts.all():
        missing = classes[int((counts == 0).nonzero()[0])]
        raise RunError(f"no labelled row of {missing!r} to find its words by", do="label some, or pass its words")
    weights, biases = backbone.columns(torch.arange(size))
    total = torch.zeros(len(classes), size)
    for rows, labels in zip(states.split(ROWS_AT_ONCE), gold.split(ROWS_AT_ONCE), strict=True):
        total.index_add_(0, labels, (rows.float() @ weights.T + biases).log_softmax(-1))
    return total / counts[:, None]


def _taken_in_turn(scores: Float[Tensor, "C V"]) -> list[list[int]]:
    """Of each class its best words: one a turn, of what no class has taken, as long as they speak for the class."""
    order = scores.argsort(dim=1, descending=True, stable=True).tolist()
    best: list[list[int]] = [[] for _ in order]
    taken: set[int] = set()
    places = [iter(ranked) for ranked in order]
    for turn in range(MOST_WORDS):
        for number, ranked in enumerate(places):
            word = next((place for place in ranked if place not in taken), None)
            if word is None or (turn and not scores[number, word] > 0):
                continue
            best[number].append(word)
            taken.add(word)
    return best


def shown(words: Mapping[str, Sequence[str]], most: int = 5) -> list[str]:
    """What was found, for a note: each label with its first words."""
    return [f"{label} = {' or '.join(own[:most])}{', ...' if len(own) > most else ''}" for label, own in words.items()]
