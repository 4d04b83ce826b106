"""Weights off the disk: safetensors only, under the names that every packaging of an encoder shares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from promptgraft.errors import ModelError

PARTS = ("embeddings.", "embeddings_project.", "encoder.", "pooler.")
ANCHOR = "embeddings.word_embeddings.weight"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.bin")


def read_encoder(folder: Path) -> dict[str, Tensor]:
    """The encoder's own tensors (no head, no buffers), without prefix, LayerNorm's as `weight` and `bias`.

    Raises:
        ModelError: no safetensors, a damaged file, or no encoder in it.
    """
    where: dict[str, Path] = {}
    for file in files(folder):
        where |= dict.fromkeys(_names(file), file)
    anchor = next((name for name in where if name.endswith(ANCHOR)), None)
    if anchor is None:
        raise ModelError("its weights hold no embeddings of the BERT family", where=folder)
    prefix = anchor.removesuffix(ANCHOR)
    kept = {plain: name for name in where if (plain := _plain(name, prefix)) is not None}
    tensors: dict[str, Tensor] = {}
    for file in set(where.values()):
        tensors |= _read(file, {plain: name for plain, name in kept.items() if where[name] == file})
    return tensors


def files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder: one, or the shards that its index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError("not a valid index of shards", where=index) from error
        return [folder / name for name in sorted(names)]
    pickled = next((name for name in PICKLES if (folder / name).exists()), None)
    if pickled:
        what, do = f"{pickled} is a pickle, which could run code when read", "convert it to model.safetensors first"
        raise ModelError(what, where=folder, do=do)
    raise ModelError("no model.safetensors in this folder", where=folder)


def _plain(name: str, prefix: str) -> str | None:
    """The shared name of a tensor; None for heads and for buffers that hold no weights."""
    plain = name.removeprefix(prefix)
    if not name.startswith(prefix) or not plain.startswith(PARTS) or plain.endswith(("position_ids", "token_type_ids")):
        return None
    return plain.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, "pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error


def _read(file: Path, names: Mapping[str, str]) -> dict[str, Tensor]:
    try:
        with safe_open(file, "pt") as opened:
            return {plain: opened.get_tensor(name) for plain, name in names.items()}
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ModelError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelError(f"damaged or incomplete weights ({first})", where=file, do="fetch the model again")
