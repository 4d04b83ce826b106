"""What a model takes is worked out before it is loaded, from its config.json and the headers of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from promptgraft.kernels.quantised import GROUP
from promptgraft.model.backbone import Arithmetic
from promptgraft.model.catalog import resolve
from promptgraft.model.config import read_config
from promptgraft.model.decoder import FAMILIES, kept_bytes, read_decoder_shape
from promptgraft.model.weights import damaged, files

WIDTHS: Mapping[Arithmetic, int] = {"fp32": 4, "bf16": 2, "int8": 2, "int4": 2}
"""Bytes of a number that is in no product, and of a state."""
PER_NUMBER: Mapping[Arithmetic, float] = {"fp32": 4, "bf16": 2, "int8": 1, "int4": 0.5 + 2 * 2 / GROUP}
"""Bytes of a number of a product's weight, scales counted."""
FILE_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
TABLES = ("embed", "wte", "wpe", "lm_head", "shared", "position", "token_type")


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model that decide its memory.

    Attributes:
        causal: whether it is one of those that take weights in few bits and compute layers again.
        products: numbers of the weights of products; of a causal model without its head.
        others: numbers of tables, of the head and of norms.
        fused: of the products' numbers those that are put together from several weights.
        file: bytes of the weights' files.
        file_width: bytes of a number there.
        kept: of a token, numbers that the layers keep for the backward.
        key_width: of a layer's keys.
        vocabulary: words that a logit is computed of; 0: none.
    """

    name: str
    causal: bool
    products: int
    others: int
    fused: int
    file: int
    file_width: int
    layers: int
    hidden: int
    kept: int
    key_width: int
    vocabulary: int

    @property
    def arithmetics(self) -> tuple[Arithmetic, ...]:
        """Those that it can be loaded in for training."""
        return ("fp32", "bf16", "int8", "int4") if self.causal else ("fp32", "bf16")

    def weights(self, arithmetic: Arithmetic) -> float:
        """Bytes of the weights once they are loaded."""
        return self.products * PER_NUMBER[arithmetic] + self.others * WIDTHS[arithmetic]


def read_sizes(model: str | Path) -> ModelSizes:
    """Read the sizes of a model by name or folder.

    Raises:
        ModelError: it is unknown or not here, its files are damaged, or its config.json is not usable.
    """
    resolved = resolve(model)
    config, where = read_config(resolved.path), str(resolved.path)
    shapes, file_width, size = _headers(resolved.path)
    is_table = {name: len(shape) < 2 or any(part in name for part in TABLES) for name, shape in shapes.items()}
    products = sum(prod(shape) for name, shape in shapes.items() if not is_table[name])
    others = sum(prod(shape) for name, shape in shapes.items() if is_table[name])
    facts = (resolved.name, config.get("model_type") in FAMILIES, products, others)
    if config.get("model_type") in FAMILIES:
        shape = read_decoder_shape(config, where)
        fused = shape.layers * shape.hidden * (2 * shape.key_width + (2 * shape.wide if shape.gated else 0))
        numbers = (shape.layers, shape.hidden, kept_bytes(shape, 1), shape.key_width, shape.vocabulary)
        return ModelSizes(*facts, fused, size, file_width, *numbers)
    layers, hidden = (_first(config, names) for names in LAYERS_AND_WIDTH)
    return ModelSizes(*facts, products, size, file_width, layers, hidden, 12 * layers * hidden, hidden, 0)


LAYERS_AND_WIDTH = (
    ("num_hidden_layers", "num_layers", "n_layers", "encoder_layers"),
    ("hidden_size", "d_model", "dim"),
)
"""What config.json calls the number of layers, and the width of states."""


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((value for name in names if type(value := config.get(name)) is int and value > 0), 1)


def _headers(folder: Path) -> tuple[dict[str, tuple[int, ...]], int, int]:
    """The shapes of all tensors of numbers, the bytes of a number, and of all files."""
    shapes: dict[str, tuple[int, ...]] = {}
    width = 4
    for file in files(folder):
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    part = opened.get_slice(name)
                    if part.get_dtype() in FILE_WIDTHS:
                        shapes[name] = tuple(part.get_shape())
                        width = FILE_WIDTHS[part.get_dtype()] if len(shapes[name]) > 1 else width
        except (SafetensorError, OSError) as error:
            raise damaged(file, error) from error
    return shapes, width, sum(file.stat().st_size for file in files(folder))
