"""Weights are read from safetensors only, under the names that every packaging of an encoder shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from promptgraft.errors import ModelError
from promptgraft.model.config import read_optional
from promptgraft.prompt.tensors import FLOATS
from promptgraft.untrusted import file_name, visible

PARTS = ("embeddings.", "embeddings_project.", "encoder.", "pooler.")
ANCHOR = "embeddings.word_embeddings.weight"
READ = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
"""Types of numbers in a safetensors file of a model; whole ones are positions and other buffers."""
LARGEST = 1e15
"""Of a weight: squares and sums of such values are still finite in fp32."""
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.bin")


def read_encoder(folder: Path, anchor: str = ANCHOR, parts: tuple[str, ...] = PARTS) -> dict[str, Tensor]:
    """Read the encoder's own tensors (no head, no buffers), without prefix, LayerNorm's as `weight` and `bias`.

    Args:
        anchor: the name of the table of word embeddings.
        parts: beginnings of the names of the encoder's tensors.

    Raises:
        ModelError: no safetensors, a damaged file, or no encoder in it.
    """
    where = _places(folder)
    table = next((name for name in where if name.endswith(anchor)), None)
    if table is None:
        family = "of the BERT family" if anchor == ANCHOR else f"named {anchor}"
        raise ModelError(f"its weights hold no embeddings {family}", where=folder)
    prefix = table.removesuffix(anchor)
    return _chosen(where, {plain: name for name in where if (plain := _plain(name, prefix, parts)) is not None})


def read_head(folder: Path, parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Read the tensors of a head, whose names begin with one of `parts`; empty where the model has none.

    Raises:
        ModelError: no safetensors, or a damaged file.
    """
    where = _places(folder)
    return _chosen(where, {_modern(name): name for name in where if name.startswith(parts)})


def _places(folder: Path) -> dict[str, Path]:
    """Of every tensor of a model the file that it is in."""
    return {name: file for file in files(folder) for name in _names(file)}


def _chosen(where: Mapping[str, Path], chosen: Mapping[str, str]) -> dict[str, Tensor]:
    """Read some tensors, whichever files they are in.

    Args:
        chosen: of each the name that it gets, and its name in the files.
    """
    tensors: dict[str, Tensor] = {}
    for file in {where[name] for name in chosen.values()}:
        tensors |= _tensors(file, {plain: name for plain, name in chosen.items() if where[name] == file})
    return tensors


def files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder: one, or the shards that its index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        names = read_optional(index).get("weight_map")
        if not isinstance(names, dict) or not all(map(_is_shard, names.values())):
            raise ModelError("not a valid index of shards", where=index)
        return [folder / name for name in sorted(set(names.values()))]
    pickled = next((name for name in PICKLES if (folder / name).exists()), None)
    if pickled:
        message, do = f"{pickled} is a pickle, which could run code when read", "convert it to model.safetensors first"
        raise ModelError(message, where=folder, do=do)
    raise ModelError("no model.safetensors in this folder", where=folder)


def _is_shard(name: object) -> bool:
    """Whether an index names a file of its own folder."""
    return isinstance(name, str) and name.endswith(".safetensors") and name == file_name(name)


def check_types(files: Sequence[Path]) -> None:
    """Make sure that weights which others load are real numbers: they drop the imaginary part of complex ones.

    Raises:
        ModelError: they are not, or a file cannot be read.
    """
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise damaged(file, error) from error
        strange = next((name for name, kind in kinds.items() if kind not in READ), None)
        if strange is not None:
            message = f"{visible(strange)} is of type {kinds[strange]}"
            raise ModelError(message, where=file, do="convert it to fp32 first")


def check_weights(weights: Mapping[str, Tensor], where: Path) -> None:
    """Make sure that a model computes with these weights.

    Raises:
        ModelError: one holds another type of number, or a value that is not finite.
    """
    for name, weight in weights.items():
        if weight.dtype not in FLOATS:
            kind = str(weight.dtype).removeprefix("torch.")
            raise ModelError(f"{visible(name)} is of type {kind}", where=where, do="convert it to fp32 first")
        low, high = weight.aminmax() if weight.numel() else (weight.new_zeros(()), weight.new_zeros(()))
        if not (float(low) >= -LARGEST and float(high) <= LARGEST):
            message = f"{visible(name)} holds values that are not finite, or so large that sums of them are not"
            raise ModelError(message, where=where, do="fetch the model again")


def _plain(name: str, prefix: str, parts: tuple[str, ...]) -> str | None:
    """The shared name of a tensor; None for heads and for buffers that hold no weights."""
    plain = name.removeprefix(prefix)
    if not name.startswith(prefix) or not plain.startswith(parts) or plain.endswith(("position_ids", "token_type_ids")):
        return None
    return _modern(plain)


def _modern(name: str) -> str:
    """A tensor's name as it is spelled today."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, "pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise damaged(file, error) from error


def _tensors(file: Path, names: Mapping[str, str]) -> dict[str, Tensor]:
    try:
        with safe_open(file, "pt") as opened:
            return {plain: opened.get_tensor(name) for plain, name in names.items()}
    except (SafetensorError, OSError) as error:
        raise damaged(file, error) from error


def damaged(file: Path, error: Exception) -> ModelError:
    first = visible(str(error).splitlines()[0]) if str(error) else type(error).__name__
    return ModelError(f"damaged or incomplete weights ({first})", where=file, do="fetch the model again")
