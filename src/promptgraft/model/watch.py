"""What each attention of a pass gives to a prompt's vectors is read off while the pass goes on.

An attention is linear in its values: handed one-hot values for the vectors and zeros for all else, the attention that
computes the model gives the weights of the vectors themselves. So no family needs a second formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.backbone import Backbone, Batch, Read
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack

AttentionSide = Literal["encoder", "decoder", "across"]
Attend = Callable[[Float[Tensor, "T heads width"], Float[Tensor, "N heads width"] | None], Float[Tensor, "Q _ width"]]
"""An attention of a pass with other values of the tokens and of the deep prompts."""


@dataclass
class AttentionWatch:
    """What is read off a pass of one sequence with one prompt.

    Attributes:
        length: P, vectors of the prompt.
        shares: of each attention, in their order, the share that each vector gets: the mean over heads and over the
            text's tokens.
        sides: whether each is an encoder's, a decoder's own, or looks from a decoder to an encoder.
        vectors: of every packed row which shallow vector it is; -1: a token.
    """

    length: int
    shares: list[Float[Tensor, "P"]] = field(default_factory=list)
    sides: list[AttentionSide] = field(default_factory=list)
    vectors: Int[Tensor, "R"] | None = None

    def see(
        self,
        attend: Attend,
        values: Float[Tensor, "T heads width"],
        deep: Float[Tensor, "N heads width"] | None,
        side: AttentionSide = "encoder",
        *,
        shallow: bool = True,
    ) -> None:
        """Note what an attention gives to the vectors.

        Args:
            values: of the tokens and of shallow vectors among them.
            deep: the values of a deep prompt; None where there is none.
            shallow: whether shallow vectors are among its keys.
        """
        own = self.vectors if shallow else None
        share = torch.zeros(self.length)
        if deep is not None or own is not None:
            with watched_by(None):
                starts = range(0, self.length, values.shape[2])
                parts = [attend(*_marked(values, deep, own, first)).float().mean(1) for first in starts]
            given = torch.cat(parts, 1)[:, : self.length]
            if own is not None and side != "across" and len(given) == len(own):
                given = given[(own < 0).to(given.device)]
            share = given.mean(0).cpu()
        self.shares.append(share)
        self.sides.append(side)


_WATCH: ContextVar[AttentionWatch | None] = ContextVar("attention watch", default=None)


def watching() -> AttentionWatch | None:
    """What reads off the pass that goes on; None for most."""
    return _WATCH.get()


def note_vectors(source: Int[Tensor, "R"], words: int) -> None:
    """Tell the watch which packed rows are shallow vectors.

    Args:
        source: of every row its index among the tokens and then the vectors.
        words: how many tokens there are.
    """
    watch = watching()
    if watch is not None:
        watch.vectors = (source - words).clamp_min(-1)


@contextmanager
def watched_by(watch: AttentionWatch | None) -> Iterator[None]:
    """A context in which passes are read off."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def watched_pass(backbone: Backbone, tokens: Tokens, prompt: Prompt, read: Read) -> AttentionWatch:
    """Pass one sequence with its prompt, and give what was read off; nothing of a family that cannot be read off."""
    watch = AttentionWatch(prompt.length)
    batch, prompts = Batch(tokens, torch.zeros(1, dtype=torch.long)), stack([prompt])
    with torch.no_grad(), watched_by(watch):
        backbone.forward(batch, prompts, read)
    return watch


def _marked(values: Tensor, deep: Tensor | None, shallow: Tensor | None, first: int) -> tuple[Tensor, Tensor | None]:
    """Values by which the weights of vectors `first` and the next are read off, as many as a head is wide."""
    width = values.shape[2]
    marked, marked_deep = torch.zeros_like(values), None if deep is None else torch.zeros_like(deep)
    for table, numbers in ((marked, shallow), (marked_deep, None if deep is None else torch.arange(len(deep)))):
        if table is None or numbers is None:
            continue
        numbers = numbers.to(table.device)
        rows = ((numbers >= first) & (numbers < first + width)).nonzero().flatten()
        table[rows, :, numbers[rows] - first] = 1
    return marked, marked_deep
