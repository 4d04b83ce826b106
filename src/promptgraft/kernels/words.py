"""Log-probabilities over a vocabulary, computed in pieces so that the scores of all words never exist at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PIECE_SCORES = 1 << 23
"""Scores that are held at once: 32 MiB in fp32."""


def log_probabilities(
    states: Float[Tensor, "N H"],
    words: Int[Tensor, "N"],
    columns: Float[Tensor, "V H"],
    bias: Float[Tensor, "V"] | None = None,
) -> Float[Tensor, "N 1"]:
    """The log-probability of one word a state, normalised over the whole vocabulary, in fp32.

    Args:
        states, columns: what the head multiplies, in one type.
    """
    pieces = max(1, PIECE_SCORES // len(columns))
    parts = [
        checkpoint(_of_piece, *piece, columns, bias, use_reentrant=False)
        for piece in zip(states.split(pieces), words.split(pieces), strict=True)
    ]
    return torch.cat(parts)


def _of_piece(states: Tensor, words: Tensor, columns: Tensor, bias: Tensor | None) -> Tensor:
    scores = F.linear(states, columns).float()
    if bias is not None:
        scores = scores + bias
    return scores.gather(1, words[:, None]) - scores.logsumexp(1, keepdim=True)
