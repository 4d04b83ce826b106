"""What a pass of a decoder runs over: packed rows, what they see, what is kept of earlier passes, what is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.kernels.pattern import Pattern
from promptgraft.kernels.rotary import Turns
from promptgraft.model.backbone import Read
from promptgraft.model.tokens import Tokens
from promptgraft.model.tree import Elements, Tree


@dataclass(frozen=True)
class NewBeginning:
    """A beginning that a pass computes and that is then kept.

    Attributes:
        owner: what of its prompt decides its keys and values.
        first: its first element.
        known: how much of it is kept already.
    """

    owner: bytes
    codes: Int[Tensor, "N"]
    prompt: int
    first: int
    known: int


@dataclass(frozen=True)
class Found:
    """What a pass finds kept of its sequences' beginnings.

    Attributes:
        length: of every sequence how much.
        rows: of a prompt its rows among all that is found, first and one past the last.
        places: of each of these rows its place in its sequence.
        new: what is to be kept beyond that.
    """

    length: Int[Tensor, "S"]
    rows: Mapping[int, tuple[int, int]]
    places: Int[Tensor, "A"]
    keys_values: Float[Tensor, "L 2 A K"] | None
    new: tuple[NewBeginning, ...]

    @classmethod
    def nothing(cls, sequences: int) -> Found:
        zeros = torch.zeros(sequences, dtype=torch.long)
        return cls(zeros, {}, zeros[:0], None, ())


@dataclass(frozen=True)
class DecoderPass:
    """The packed rows of one pass, with all that its layers need beside the states.

    Attributes:
        read: the rows whose last state is wanted; None: all.
        all_rows, read_rows: what every row, and what each row that is read, sees.
        turns: of each kind of rotary positions those of all rows, and of the rows that are read.
        prompts: the table of deep prompts.
        found: the beginnings that are kept from earlier passes, and those to keep.
        keeps: the rows of those to keep.
    """

    tree: Tree
    read: Int[Tensor, "Q"] | None
    all_rows: Pattern
    read_rows: Pattern
    turns: tuple[tuple[Turns, Turns], ...]
    prompts: Float[Tensor, "L 2 N K"] | None
    found: Found
    keeps: Int[Tensor, "M"]


def wanted_elements(tokens: Tokens, elements: Elements, read: Read) -> Int[Tensor, "N"]:
    """The elements whose states are read.

    Raises:
        RunError: a sequence has no token, or an answer stands at the very beginning.
    """
    if read in ("mean", "tokens"):
        return elements.of_token
    if read == "mark":
        lengths = tokens.lengths
        if bool((lengths == 0).any()):
            raise RunError("an empty text has no token to be read at", do="use a template with words of its own")
        marks = lengths - 1 if tokens.marks is None else torch.where(tokens.marks < 0, lengths - 1, tokens.marks)
        return elements.of_token[tokens.starts[:-1] + marks]
    found = elements.of_token[answer_tokens(tokens)]
    begins = torch.zeros(len(elements.codes) + 1, dtype=torch.bool)
    begins[elements.starts[:-1]] = True
    if bool(begins[found].any()):
        raise RunError("an answer has nothing before it", do="use a template with words before the answer")
    return found - 1


def answer_tokens(tokens: Tokens) -> Int[Tensor, "N"]:
    """The tokens of answers."""
    if tokens.answers is None:
        raise RunError("rows without answers have no probability of one", do="give a template and answers")
    return tokens.answers.nonzero().flatten()
