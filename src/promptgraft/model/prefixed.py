"""Attention of transformers' modules in which a prompt's keys and values stand before those of the words.

It is added to transformers' list of attentions under a name of its own. A module that was loaded by that name computes
the textbook formula, and puts before its keys those of the `Prefix` that its stack was handed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from promptgraft.model.watch import AttentionSide, watching

NAME = "promptgraft"
Taken = dict[nn.Module, tuple[Tensor, Tensor]]
"""Of each attention the keys and values that it computed, `[B, heads, T, width]`."""


@dataclass(frozen=True)
class Prefix:
    """The keys and values of a prompt a row, for the attentions of one pass through a stack.

    Attributes:
        parts: of each attention its part of the prompts' table.
        rows: of each row of the batch, the vectors of its prompt in the table, ending in the last column.
        absent: what is added to the scores: minus infinity where a row's prompt is shorter.
        nearness: what is added to them in the decoder's self attention, where prompts have positions before the words.
    """

    parts: Mapping[nn.Module, Float[Tensor, "2 N W"]]
    rows: Int[Tensor, "B P"]
    absent: Float[Tensor, "B 1 1 P"]
    nearness: Float[Tensor, "1 heads M P"] | None = None

    def before(self, module: nn.Module, like: Float[Tensor, "B heads T D"]) -> tuple[Tensor, Tensor, Tensor] | None:
        """The keys and values for an attention, and what to add to their scores; None where it has none."""
        part = self.parts.get(module)
        if part is None:
            return None
        rows, length = self.rows.shape
        vectors = part.index_select(1, self.rows.flatten()).to(like.dtype)
        keys, values = vectors.view(2, rows, length, like.shape[1], like.shape[3]).transpose(2, 3)
        near = self.nearness if module.is_causal else None
        return keys, values, self.absent if near is None else self.absent + near


def attend(
    module: nn.Module,
    query: Float[Tensor, "B heads M D"],
    key: Float[Tensor, "B heads T D"],
    value: Float[Tensor, "B heads T D"],
    attention_mask: Tensor | None,
    *,
    scaling: float,
    position_bias: Tensor | None = None,
    prefix: Prefix | None = None,
    taken: Taken | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "B M heads D"], None]:
    """Attention as transformers' eager one, over the keys of a prompt and those of the words.

    Args:
        taken: gets the words' keys and values.
    """
    if taken is not None:
        taken[module] = key, value
    bias = attention_mask if position_bias is None else _sum(position_bias, attention_mask)
    before, ahead = None if prefix is None else prefix.before(module, key), 0
    if before is not None:
        keys, values, prompt_bias = before
        words = key.shape[2]
        key, value, ahead = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2), keys.shape[2]
        bias = _beside(prompt_bias.to(query.dtype), bias, words)
    _watch(module, partial(F.scaled_dot_product_attention, query, key, attn_mask=bias, scale=scaling), value, ahead)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
    return out.transpose(1, 2), None


def _watch(module: nn.Module, attend: Callable[..., Tensor], value: Float[Tensor, "B heads T D"], ahead: int) -> None:
    """Let what reads off the pass of one sequence see an attention, in which `ahead` deep vectors come first."""
    watch = watching()
    if watch is None:
        return
    values = value[0].transpose(0, 1)

    def marked(others: Tensor, deep: Tensor | None) -> Tensor:
        table = others if deep is None else torch.cat([deep, others])
        mixed: Tensor = attend(value=table.transpose(0, 1)[None])
        return mixed[0].transpose(0, 1)

    side: AttentionSide = "decoder" if module.is_causal else "across" if module.is_decoder else "encoder"
    watch.see(marked, values[ahead:], values[:ahead] if ahead else None, side, shallow=not module.is_causal)


def _sum(bias: Tensor, mask: Tensor | None) -> Tensor:
    return bias if mask is None else bias + mask


def _beside(prompt: Tensor, words: Tensor | None, length: int) -> Tensor:
    """What is added to the scores of the prompt's keys beside what is added to those of the words."""
    if words is None:
        words = prompt.new_zeros(1, 1, 1, length)
    size = torch.broadcast_shapes(prompt.shape[:3], words.shape[:3])
    return torch.cat([prompt.expand(*size, -1), words.expand(*size, -1)], dim=3)


def register() -> None:
    """Add the attention to transformers' list, with masks that are added to scores."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)


def prefix_rows(
    starts: Int[Tensor, "K_plus_1"], prompt_of: Int[Tensor, "B"]
) -> tuple[Int[Tensor, "B P"], Float[Tensor, "B 1 1 P"]]:
    """Of each row the vectors of its prompt, ending in the last column, and what to add where there is none."""
    lengths = starts.diff()[prompt_of]
    longest = int(lengths.max()) if len(lengths) else 0
    place = torch.arange(longest, device=starts.device) - (longest - lengths[:, None])
    absent = torch.zeros(place.shape, device=starts.device).masked_fill(place < 0, -torch.inf)
    return torch.where(place < 0, 0, starts[prompt_of][:, None] + place), absent[:, None, None]
