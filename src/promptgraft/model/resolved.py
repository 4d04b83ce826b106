"""A resolved model is a folder on this machine, with how its makers mean it to be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from promptgraft.prompt.reading import Pooling


@dataclass(frozen=True)
class Resolved:
    """A model's folder (config.json, model.safetensors, tokenizer) with facts that its files do not hold.

    Attributes:
        name: catalog or hub name, else the last part of the folder's; for people.
        text_prefix: what its makers put before every text ("query: " of e5); empty for most.
        pooling: what its makers declare; None where they declare nothing.
        to_traditional: whether it knows Chinese in traditional characters only.
    """

    name: str
    path: Path
    text_prefix: str
    pooling: Pooling | None
    to_traditional: bool
