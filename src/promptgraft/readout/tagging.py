"""The readout `tagging` scores the classes of every word, read at its first token."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import TaskError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.by_class import Affine
from promptgraft.readout.readout import register
from promptgraft.task.task import Example, Kind, Label, Task


@register
@dataclass(frozen=True, eq=False)
class Tagging(Affine):
    """Linear scores of a word, W h + b, with h the state of its first token; W starts from normal(0, 0.02), b from 0.

    A word that was cut off, or that has no token, is predicted as the tag `O`, else as the training data's most
    frequent tag, else as the first tag.
    """

    name: ClassVar[str] = "tagging"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"tagging"})
    reads: ClassVar[Literal["pooled", "tokens"]] = "tokens"
    unit: ClassVar[Literal["row", "word"]] = "word"

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "W"]:
        tags = [
            None if example.label is None else word_tag(example, word, task)
            for example, words in zip(examples, words_of_rows(tokens), strict=True)
            for word in words
        ]
        return torch.tensor(classes.class_indices(tags, task), dtype=torch.long, device=tokens.ids.device)

    def scores(self, features: Float[Tensor, "T H"], tokens: Tokens) -> Float[Tensor, "W C"]:
        words = word_features(features, tokens)
        return torch.nn.functional.linear(words.to(self.weight.dtype), self.weight, self.bias)

    def loss(self, scores: Float[Tensor, "W C"], gold: Int[Tensor, "W"]) -> Float[Tensor, "W"]:
        return classes.cross_entropy(scores, gold)

    def predict(
        self, scores: Float[Tensor, "W C"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        best = iter(scores.argmax(-1).tolist())
        unseen = self.unseen_tag(task)
        rows: list[Label | str] = []
        for example, words in zip(examples, words_of_rows(tokens), strict=True):
            tags = [unseen] * len(example.tokens)
            for word in words:
                tags[word] = self.labels[next(best)]
            rows.append(tuple(tags))
        return rows

    def unseen_tag(self, task: Task) -> str:
        """The tag predicted for a word without a token."""
        if "O" in self.labels:
            return "O"
        counts = Counter(tag for example in task.train if isinstance(example.label, tuple) for tag in example.label)
        return counts.most_common(1)[0][0] if counts else self.labels[0]


def word_features(hidden: Float[Tensor, "T H"], tokens: Tokens) -> Float[Tensor, "W H"]:
    """The states of each word's first token."""
    assert tokens.words is not None, "only tagging rows have words"
    return hidden[tokens.words >= 0]


def words_of_rows(tokens: Tokens) -> list[list[int]]:
    """The indices of each row's words that have a token, in order."""
    assert tokens.words is not None, "only tagging rows have words"
    words = tokens.words[tokens.words >= 0].tolist()
    ends = tokens.row_words.tolist()
    return [words[start:end] for start, end in itertools.pairwise(ends)]


def word_tag(example: Example, word: int, task: Task) -> str:
    """The gold tag of one word."""
    if not isinstance(example.label, tuple) or len(example.label) != len(example.tokens):
        raise TaskError(f"not one tag a word: {' '.join(example.tokens[:8])!r}", where=task.name)
    return example.label[word]
