"""The prompt as a value (trained vectors at a placement), and the stack of K prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError

Depth = Literal["shallow", "deep"]
Placement = Literal["after_cls", "peft", "template"]


@dataclass(frozen=True)
class Prompt:
    """Trained vectors that steer a frozen backbone.

    Attributes:
        values: shallow `[P, E]` (E = width of the input embeddings) or deep `[L, 2, P, H]`
            (layer, key/value, position, width).
        placement: `after_cls`: shallow vectors stand between the first token and the text, and the
            readout reads the true first token; deep vectors take no positions of their own.
            `peft`: as PEFT lays them out, shallow vectors first (position 0 is a prompt vector and is
            what `cls` reads), deep vectors occupy positions 0..P-1 so that text positions start at P.
            `template`: shallow vectors stand where the template that a row is written in leaves room for them.
    """

    values: Float[Tensor, "..."]
    placement: Placement = "after_cls"

    @property
    def depth(self) -> Depth:
        return "shallow" if self.values.ndim == 2 else "deep"

    @property
    def length(self) -> int:
        """P, the number of vectors."""
        return self.values.shape[-2]

    @cached_property
    def digest(self) -> str:
        """A hash of its values, shape and placement: equal for equal prompts, whoever made them."""
        values = self.values.detach().cpu().contiguous()
        known = f"{self.placement} {values.dtype} {tuple(values.shape)}"
        content = values.view(torch.uint8).numpy().tobytes()
        return hashlib.sha256(known.encode() + content).hexdigest()

    def to(self, device: torch.device) -> Prompt:
        """The same prompt on a device."""
        return Prompt(self.values.to(device), self.placement)

    @property
    def positions(self) -> int:
        """How many of the backbone's positions the prompt takes."""
        inside = self.placement == "template" or (self.depth == "deep" and self.placement == "after_cls")
        return 0 if inside else self.length


@dataclass(frozen=True)
class PromptStack:
    """K prompts of one depth and placement in one table; their lengths may differ.

    Attributes:
        table: shallow `[N, E]` or deep `[L, 2, N, H]`, N = sum of the K lengths.
        starts: `[K + 1]`; prompt k is `table[..., starts[k]:starts[k + 1], :]`.
    """

    table: Float[Tensor, "..."]
    starts: Int[Tensor, "K_plus_1"]
    depth: Depth
    placement: Placement


def stack(prompts: Sequence[Prompt]) -> PromptStack:
    """Put K prompts into one table; gradients flow back to each.

    Raises:
        RunError: prompts of different depth or placement.
    """
    kinds = {(prompt.depth, prompt.placement) for prompt in prompts}
    if len(kinds) != 1:
        raise RunError(f"prompts of different kinds cannot share a batch: {sorted(kinds)}")
    lengths = torch.tensor([0, *(prompt.length for prompt in prompts)])
    table = torch.cat([prompt.values for prompt in prompts], dim=-2)
    return PromptStack(table, lengths.cumsum(0), *kinds.pop())
