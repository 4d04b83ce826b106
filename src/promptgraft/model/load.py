"""A backbone is loaded from a name or a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from promptgraft.errors import ModelError
from promptgraft.model import albert, bert, deberta, distilbert, forked, modernbert, mpnet, paths
from promptgraft.model.backbone import Arithmetic, Backbone
from promptgraft.model.catalog import entries, resolve
from promptgraft.model.causal_load import load_causal
from promptgraft.model.config import read_config
from promptgraft.model.decoder import FAMILIES
from promptgraft.model.device import CPU, DeviceName, resolve_device
from promptgraft.model.encoder import Assemble, Shape, Take, read_shape
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.head import Head, assemble_head, head_parts
from promptgraft.model.memory import LOG, MemoryLimit
from promptgraft.model.packed import WORDS, PackedBackbone
from promptgraft.model.places import remember
from promptgraft.model.plain import Plan, load_plain
from promptgraft.model.resolved import Resolved
from promptgraft.model.stored import FEW_BITS
from promptgraft.model.tokenize import load_tokenizer
from promptgraft.model.weights import PARTS, check_weights, read_encoder, read_head

DType = Literal["auto", "fp32", "bf16", "int8", "int4"]
PACKED = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "electra": "electra",
    "albert": "albert",
    "distilbert": "distilbert",
}
"""The family of each model_type that the native path computes."""
ASSEMBLE: Mapping[str, Assemble] = {"albert": albert.assemble, "distilbert": distilbert.assemble}
"""Families whose weights have other names than BERT's."""
PLAIN: dict[str, Callable[[Mapping[str, Any], str], Plan]] = {
    "modernbert": modernbert.read_plan,
    "deberta-v2": deberta.read_plan,
    "mpnet": mpnet.read_plan,
}
"""Families whose forward is plain torch, with what reads their config.json."""
SEQ2SEQ = ("t5", "mt5", "bart")
"""Sequence-to-sequence models, which transformers computes."""
BOUND_IN_PART = "memory bounds what %s takes while it writes; a training step takes what it needs"
UNBOUND = "memory is for causal models; %s takes what it needs"


def load_backbone(
    name_or_path: str | Path, *, dtype: DType = "fp32", device: DeviceName = "cpu", memory: str | None = None
) -> Backbone:
    """Load a frozen model by catalog name, folder, or name in the local hub cache.

    Args:
        dtype: arithmetic of the matrix products; `auto`: bf16 where it is faster, else fp32. `int8` of an encoder is
            for passes without gradient on a processor; of a causal model, like `int4`, it is how weights are stored.
        device: where it is computed; `auto`: on the GPU where there is one.
        memory: what may be taken there, such as `4GB`, or `low`: a causal model computes layers again in the backward
            where their states would take more, and leaves weights on the processor that do not fit a GPU.

    Raises:
        ModelError: it is unknown, not here, damaged, or not an encoder that can be used; or there is no such device.
    """
    resolved = resolve(name_or_path)
    backbone = load_folder(resolved, dtype=dtype, device=device, memory=MemoryLimit.parse(memory))
    if resolved.name not in entries():
        remember(backbone.fingerprint, resolved.path)
    return backbone


def fastest(device: torch.device = CPU) -> Arithmetic:
    """The faster arithmetic of a device: bf16 if its products are faster than in fp32, else fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return paths.choice().fastest


def storage(arithmetic: Arithmetic) -> torch.dtype:
    """The type of stored weights and activations; for int8, where only products differ, the fastest for the rest."""
    if arithmetic == "int8":
        return torch.bfloat16 if paths.path("int8") == "amx" else torch.float32
    return torch.bfloat16 if arithmetic == "bf16" else torch.float32


def load_folder(
    resolved: Resolved, *, dtype: DType = "fp32", device: DeviceName = "cpu", memory: MemoryLimit | None = None
) -> Backbone:
    """Load the model in a folder that `resolve` found."""
    forked.prepare()
    place = resolve_device(device)
    arithmetic = fastest(place) if dtype == "auto" else dtype
    config = read_config(resolved.path)
    kind = str(config.get("model_type"))
    family = PACKED.get(kind)
    if kind in FAMILIES:
        stored_as = storage(fastest(place) if arithmetic in FEW_BITS else arithmetic)
        return load_causal(resolved, config, stored_as, place, arithmetic, memory or MemoryLimit())
    if memory is not None and memory.limit is not None:
        LOG.warning(BOUND_IN_PART if kind in SEQ2SEQ else UNBOUND, resolved.name)
    if arithmetic == "int4" or (family is None and arithmetic == "int8"):
        models = "causal models" if arithmetic == "int4" else "causal models and encoders of the BERT family"
        raise ModelError(f"{arithmetic} is for {models}", where=resolved.name, do="use fp32 or bf16")
    if kind in PLAIN:
        return load_plain(resolved, PLAIN[kind](config, str(resolved.path)), storage(arithmetic), place)
    if kind in SEQ2SEQ:
        from promptgraft.model.seq2seq_load import load_seq2seq

        return load_seq2seq(resolved, storage(arithmetic), place, memory)
    if family is None:
        from promptgraft.model.any import load_any

        return load_any(resolved, config, storage(arithmetic), place)
    if arithmetic == "int8" and place.type != "cpu":
        raise ModelError("int8 is for processors", where=resolved.name, do="use bf16 on a GPU")
    return _load_packed(resolved, config, family, place, arithmetic)


def _load_packed(
    resolved: Resolved, config: Mapping[str, Any], family: str, place: torch.device, arithmetic: Arithmetic
) -> PackedBackbone:
    """Load an encoder whose packed forward is our own, natively too."""
    shape = _shape(config, family, str(resolved.path))
    parts = distilbert.PARTS if family == "distilbert" else PARTS
    identity = fingerprint(read_encoder(resolved.path, parts=parts))  # a map of its own: not all of it is used
    weights = read_encoder(resolved.path, parts=parts)
    check_weights(weights, resolved.path)
    stored_as = storage(arithmetic)
    cast = {name: weight.to(place, stored_as) for name, weight in weights.items()}
    tokenizer = load_tokenizer(resolved.path, prefix=resolved.text_prefix, to_traditional=resolved.to_traditional)
    tokenizer = tokenizer.checked(shape.vocabulary, shape.types, resolved.path)
    assemble = ASSEMBLE.get(family, bert.assemble)
    frozen = assemble(shape, Take(cast, str(resolved.path), stored_as))
    if arithmetic == "int8":
        frozen = frozen.in_int8(assemble(shape, Take(weights, str(resolved.path), torch.float32)))
    return PackedBackbone(
        resolved.name,
        shape,
        assemble,
        cast,
        tokenizer,
        dtype=stored_as,
        pooling=resolved.pooling,
        fingerprint=identity,
        frozen=frozen,
        variant=paths.path(arithmetic) if place.type == "cpu" else None,
        head=_head(shape, resolved.path, weights[WORDS], cast[WORDS]),
    )


def _shape(config: Mapping[str, Any], family: str, where: str) -> Shape:
    """The shape that config.json gives an encoder of the native path."""
    if family == "distilbert":
        return distilbert.read_distilbert(config, where)
    shape = read_shape(config, family, where)
    return albert.with_groups(shape, config, where) if family == "albert" else shape


def _head(shape: Shape, folder: Path, words: Tensor, cast: Tensor) -> Head | None:
    """The head over words that the weights bring; see `assemble_head`."""
    weights = read_head(folder, head_parts(shape.family))
    check_weights(weights, folder)
    return assemble_head(shape.family, shape, weights, words, str(folder), cast)
