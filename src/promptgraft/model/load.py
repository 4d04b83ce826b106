"""From a name or a folder to a backbone that is ready to use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from promptgraft.errors import ModelError
from promptgraft.model import albert, bert, forked, paths
from promptgraft.model.backbone import Arithmetic, Backbone
from promptgraft.model.catalog import entries, resolve
from promptgraft.model.config import read_config
from promptgraft.model.device import CPU, DeviceName, resolve_device
from promptgraft.model.encoder import Take, read_shape
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.packed import PackedBackbone
from promptgraft.model.places import remember
from promptgraft.model.resolved import Resolved
from promptgraft.model.tokenize import load_tokenizer
from promptgraft.model.weights import check_weights, read_encoder

DType = Literal["auto", "fp32", "bf16", "int8"]
PACKED = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "electra": "electra", "albert": "albert"}


def load_backbone(name_or_path: str | Path, *, dtype: DType = "fp32", device: DeviceName = "cpu") -> Backbone:
    """Load a frozen encoder by catalog name, folder, or name in the local hub cache.

    Args:
        dtype: arithmetic of the matrix products; `auto`: bf16 where it is faster, else fp32. `int8` is for passes
            without gradient on a processor.
        device: where it is computed; `auto`: on the GPU where there is one.

    Raises:
        ModelError: it is unknown, not here, damaged, or not an encoder that can be used; or there is no such device.
    """
    found = resolve(name_or_path)
    backbone = load_folder(found, dtype=dtype, device=device)
    if found.name not in entries():
        remember(backbone.fingerprint, found.path)
    return backbone


def fastest(device: torch.device = CPU) -> Arithmetic:
    """bf16 where the device multiplies it faster than fp32, else fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return paths.choice().fastest


def storage(arithmetic: Arithmetic) -> torch.dtype:
    """What weights and activations are kept in; of int8, where only products differ, what the rest is fastest in."""
    if arithmetic == "int8":
        return torch.bfloat16 if paths.path("int8") == "amx" else torch.float32
    return torch.bfloat16 if arithmetic == "bf16" else torch.float32


def load_folder(found: Resolved, *, dtype: DType = "fp32", device: DeviceName = "cpu") -> Backbone:
    """Load what `resolve` found."""
    forked.prepare()
    place = resolve_device(device)
    arithmetic = fastest(place) if dtype == "auto" else dtype
    config = read_config(found.path)
    family = PACKED.get(str(config.get("model_type")))
    if family is None:
        from promptgraft.model.any import load_any

        if arithmetic == "int8":
            raise ModelError("int8 is for encoders of the BERT family", where=found.name, do="use fp32 or bf16")
        return load_any(found, config, storage(arithmetic), place)
    if arithmetic == "int8" and place.type != "cpu":
        raise ModelError("int8 is for processors", where=found.name, do="use bf16 on a GPU")
    shape = read_shape(config, family, str(found.path))
    if family == "albert":
        shape = albert.with_groups(shape, config, str(found.path))
    identity = fingerprint(read_encoder(found.path))  # a map of its own: all of it is looked at, not all of it used
    weights = read_encoder(found.path)
    check_weights(weights, found.path)
    kept_in = storage(arithmetic)
    cast = {name: weight.to(place, kept_in) for name, weight in weights.items()}
    tokenizer = load_tokenizer(found.path, prefix=found.text_prefix, to_traditional=found.to_traditional)
    if tokenizer.highest >= shape.vocabulary:
        what = f"its tokenizer gives token {tokenizer.highest}, its weights have {shape.vocabulary}"
        raise ModelError(what, where=found.path, do="is the tokenizer of the same model?")
    assemble = albert.assemble if family == "albert" else bert.assemble
    frozen = assemble(shape, Take(cast, str(found.path), kept_in))
    if arithmetic == "int8":
        frozen = frozen.in_int8(assemble(shape, Take(weights, str(found.path), torch.float32)))
    return PackedBackbone(
        found.name,
        shape,
        assemble,
        cast,
        tokenizer,
        dtype=kept_in,
        pooling=found.pooling,
        fingerprint=identity,
        frozen=frozen,
        variant=paths.path(arithmetic) if place.type == "cpu" else None,
    )
