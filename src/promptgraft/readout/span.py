"""The readout `span` finds where an answer starts and ends in its context."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import TaskError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.choice import scatter
from promptgraft.readout.readout import Given, Readout, register
from promptgraft.task.task import Answers, Example, Kind, Label, Task

LONGEST_ANSWER = 30


@register
@dataclass(frozen=True, eq=False)
class Span(Readout):
    """Linear start and end scores of every token, with a softmax over the context's (Devlin et al. 2019, 4.2).

    Scores are `[B, 2, L]`, L the tokens of the longest row, -inf outside the context. The answer is the best
    start + end score with start <= end and at most 30 tokens, cut from the context itself by characters.
    """

    name: ClassVar[str] = "span"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"span"})
    reads: ClassVar[Literal["pooled", "tokens"]] = "tokens"
    form: ClassVar[Mapping[str, tuple[int | str, ...]]] = {"weight": (2, "width")}
    trained: ClassVar[tuple[str, ...]] = ("weight",)

    weight: Float[Tensor, "2 H"]

    @classmethod
    def create(cls, task: Task, width: int, generator: torch.Generator, given: Given) -> Self:
        classes.check_kind(cls.name, cls.kinds, task)
        return cls(classes.leaf(classes.INIT_SD * torch.randn(2, width, generator=generator, device=generator.device)))

    def gold(self, examples: Sequence[Example], tokens: Tokens, task: Task) -> Int[Tensor, "B 2"]:
        """The first and last token of the first answer that was not cut off; -100 where there is none."""
        rows = zip(examples, characters_of_rows(tokens), strict=True)
        places = [answer_tokens(example, characters, task) for example, characters in rows]
        return torch.tensor(places, dtype=torch.long, device=tokens.ids.device).reshape(-1, 2)

    def scores(self, features: Float[Tensor, "T H"], tokens: Tokens) -> Float[Tensor, "B 2 L"]:
        assert tokens.chars is not None, "only span rows have characters"
        every = torch.nn.functional.linear(features.to(self.weight.dtype), self.weight)
        inside = every.masked_fill(tokens.chars[:, :1].to(every.device) < 0, -torch.inf)
        return torch.stack([scatter(side, tokens.row_tokens) for side in inside.unbind(-1)], dim=1)

    def loss(self, scores: Float[Tensor, "B 2 L"], gold: Int[Tensor, "B 2"]) -> Float[Tensor, "B"]:
        return classes.cross_entropy(scores, gold).mean(-1)

    def predict(
        self, scores: Float[Tensor, "B 2 L"], tokens: Tokens, examples: Sequence[Example], task: Task
    ) -> list[Label | str]:
        best = best_spans(scores).tolist()
        rows = zip(examples, characters_of_rows(tokens), best, strict=True)
        return [answer_text(example, characters, span) for example, characters, span in rows]

    def carry(self, task: Task, given: Given, label_map: Mapping[str, str]) -> Self:
        classes.check_kind(self.name, self.kinds, task)
        return self.load(self.state())


def characters_of_rows(tokens: Tokens) -> list[list[list[int]]]:
    """The first and one-past-last character of each row's tokens in its context; [-1, -1] outside the context."""
    assert tokens.chars is not None, "only span rows have characters"
    ends, characters = tokens.row_tokens.tolist(), tokens.chars.tolist()
    return [characters[start:end] for start, end in itertools.pairwise(ends)]


def answer_tokens(example: Example, characters: list[list[int]], task: Task) -> tuple[int, int]:
    """The first and last token of the first answer that lies wholly in the tokens."""
    if example.label is None:
        return classes.UNLABELLED, classes.UNLABELLED
    if not isinstance(example.label, Answers):
        raise TaskError(f"label {example.label!r} is not an answer in the context", where=task.name)
    read_until = max((last for _, last in characters), default=-1)
    for text, start in zip(example.label.texts, example.label.starts, strict=True):
        end = start + len(text.rstrip())
        touched = [place for place, (first, last) in enumerate(characters) if first < end and last > start]
        if touched and end <= read_until:
            return touched[0], touched[-1]
    return classes.UNLABELLED, classes.UNLABELLED


def best_spans(scores: Float[Tensor, "B 2 L"]) -> Int[Tensor, "B 2"]:
    """Start and end of the best span; of equal ones the shortest, then the first; -1 where no token is allowed."""
    starts, ends = scores[:, 0], scores[:, 1]
    best = torch.full((len(scores),), -torch.inf, dtype=scores.dtype, device=scores.device)
    spans = torch.full((len(scores), 2), -1, dtype=torch.long, device=scores.device)
    for extra in range(min(LONGEST_ANSWER, scores.shape[-1])):
        value, start = (starts[:, : scores.shape[-1] - extra] + ends[:, extra:]).max(-1)
        better = value > best
        best = torch.where(better, value, best)
        spans = torch.where(better[:, None], torch.stack([start, start + extra], dim=-1), spans)
    return spans


def answer_text(example: Example, characters: list[list[int]], span: list[int]) -> str:
    """The answer's text, cut from the context; empty where nothing of the context was read."""
    start, end = span
    return "" if start < 0 else (example.pair or "")[characters[start][0] : characters[end][1]]
