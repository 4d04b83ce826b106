"""How much attention a prompt gets, layer by layer, on a few rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from promptgraft.model.backbone import Backbone, Read
from promptgraft.model.tokens import Tokens
from promptgraft.model.watch import AttentionSide, watched_pass
from promptgraft.train.predict import Question

ROWS = 16
"""Rows that are looked at: each is a pass of its own."""
NAMES: dict[AttentionSide, str] = {"encoder": "encoder", "decoder": "decoder", "across": "decoder to encoder"}


@dataclass(frozen=True)
class AttentionShares:
    """The share of attention that a prompt's vectors get: the mean over heads, the text's tokens, and rows.

    Attributes:
        names: of each attention.
        shares: of each attention what each vector gets.
        even: what all vectors would get if each query gave as much to all that it sees; None of models of two sides.
        rows: how many were looked at: of a row of several sequences the first.
    """

    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    even: float | None
    rows: int

    @property
    def totals(self) -> tuple[float, ...]:
        """Of each attention what the whole prompt gets."""
        return tuple(map(sum, self.shares))

    @property
    def vectors(self) -> tuple[float, ...]:
        """Of each vector its mean over the attentions."""
        return tuple(sum(own) / len(self.shares) for own in zip(*self.shares, strict=True))


def attention_shares(backbone: Backbone, question: Question) -> AttentionShares | None:
    """Read off what the prompt of a question's model gets; None of a family that cannot be read off."""
    prompt, model = question.tuned.prompt, question.tuned.model or backbone
    assert prompt is not None, "there is a prompt to be attended to"
    tokens = question.tokens
    firsts = tokens.rows[:-1][tokens.rows.diff() > 0][:ROWS]
    read = _read(question.tuned.read, tokens, model)
    watches = [watched_pass(model, tokens.singly.select(first[None]), prompt, read) for first in firsts]
    if not watches or not watches[0].shares:
        return None
    shares = torch.stack([torch.stack(watch.shares) for watch in watches]).mean(0)
    sides = watches[0].sides
    even = None if len(set(sides)) > 1 else _even(tokens, firsts, prompt.length, causal=sides[0] == "decoder")
    return AttentionShares(_names(sides), tuple(map(tuple, shares.tolist())), even, len(watches))


def _read(read: Read, tokens: Tokens, model: Backbone) -> Read:
    """What the pass is asked for, so that all queries of all layers are there: of models of two sides, both sides."""
    if getattr(model, "speech", "masked") != "seq2seq":
        return "tokens"
    if read == "answer" and (tokens.answers is None or not bool(tokens.answers.any())):
        return "mean"
    return read if read in ("answer", "mark") else "mean"


def _names(sides: list[AttentionSide]) -> tuple[str, ...]:
    """The name of each attention: its layer, and of models of two sides where it stands."""
    if len(set(sides)) == 1:
        return tuple(f"layer {number}" for number in range(1, len(sides) + 1))
    return tuple(f"{NAMES[side]} {sides[: place + 1].count(side)}" for place, side in enumerate(sides))


def _even(tokens: Tokens, sequences: Int[Tensor, "N"], length: int, *, causal: bool) -> float:
    """The prompt's share of all that a token sees, in the mean."""
    shares = []
    for count in tokens.lengths[sequences].tolist():
        seen = torch.arange(1, count + 1) if causal else torch.tensor([count])
        shares.append(float((length / (length + seen)).mean()))
    return sum(shares) / len(shares)
