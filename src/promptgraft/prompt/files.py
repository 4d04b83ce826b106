"""The files of an artefact's folder, and how large each may be, since artefacts may come from anyone."""

from __future__ import annotations

from typing import Final

CARD: Final = "card.json"
TENSORS: Final = "prompt.safetensors"
WEIGHTS: Final = "weights.safetensors"
README: Final = "README.md"
LIMITS: Final = {CARD: 4 << 20, TENSORS: 1 << 30, WEIGHTS: 16 << 30, README: 8 << 20}
"""Bytes of each. A card of forty thousand labels has some four million, so has its page; a prompt and readout of as
many for a model 1,024 wide has 330 million; a tuned model of four billion parameters in fp32 has 16 GiB. JSON may take
thirty times its size when it is read."""
