"""Features are what a readout reads, made from the hidden states that a backbone returns."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.backbone import Backbone, Speaks
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.reading import Encoding


def features(hidden: Float[Tensor, "N H"], tokens: Tokens, encoding: Encoding) -> Float[Tensor, "M F"]:
    """Make features from hidden states, by the encoding of pairs.

    Args:
        hidden: one vector a sequence, or one a token for readouts that read tokens.
        encoding: `cross`: hidden states as they are (`[B, H]`; one a choice for choices; one a token for tokens);
            `separate`: `[|u - v|, u * v]`, `[B, 2H]`; `cosine`: `cos(u, v)`, `[B, 1]`.

    Raises:
        RunError: `separate` or `cosine` where rows are not two sequences each.
    """
    if encoding == "cross":
        return hidden
    if tokens.sequences != 2 * tokens.count or len(hidden) != tokens.sequences:
        raise RunError(f"encoding {encoding!r} reads two sequences a row", do="use encoding 'cross'")
    first, second = hidden[0::2], hidden[1::2]
    if encoding == "separate":
        return torch.cat([(first - second).abs(), first * second], dim=-1)
    return torch.nn.functional.cosine_similarity(first, second, dim=-1)[:, None]


def says_words(backbone: Backbone) -> bool:
    """Whether a backbone has a head that gives every word a score."""
    return isinstance(backbone, Speaks) and "mark" in backbone.reads and "original" not in backbone.reads


def speechless(backbone: Backbone, so_that: str, where: str | None = None) -> RunError:
    """The error for a backbone that says no words.

    Args:
        so_that: what follows from it.
    """
    others = "take a masked, causal or sequence-to-sequence model (promptgraft models list)"
    if "original" in backbone.reads:
        what = f"{backbone.name} tells replaced words from original ones and says none itself, so that {so_that}"
        return RunError(what, where=where, do=f"use tune with --template, read by the readout detector, or {others}")
    return RunError(f"{backbone.name} has no head over words, so that {so_that}", where=where, do=others)


def width_of(backbone: Backbone, reads: str, encoding: Encoding) -> int:
    """The width of what a readout reads of a backbone.

    Raises:
        RunError: it reads words, and the backbone says none.
    """
    if reads == "original":
        if "original" not in backbone.reads:
            what = f"{backbone.name} does not tell original words from others, as ELECTRA's discriminators do"
            raise RunError(what, do="take such a model, or readout verbalizer")
        return 1
    if reads == "answer":
        if "answer" not in backbone.reads:
            what = f"{backbone.name} gives no probability of whole answers"
            raise RunError(what, do="take a causal or sequence-to-sequence model, or for classes readout verbalizer")
        return 1
    if reads == "mark":
        if not isinstance(backbone, Speaks) or not says_words(backbone):
            raise speechless(backbone, "no template's answer can be read so")
        return backbone.columns(torch.zeros(1, dtype=torch.long))[0].shape[1]
    return feature_width(backbone.hidden, encoding) if reads == "pooled" else backbone.hidden


def feature_width(hidden: int, encoding: Encoding) -> int:
    """The width F of features, for a backbone of that width."""
    return {"cross": hidden, "separate": 2 * hidden, "cosine": 1}[encoding]
