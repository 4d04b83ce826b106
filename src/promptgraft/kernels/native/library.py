"""The compiled libraries are found and loaded here, with the structure that a call passes to them."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_double, c_float, c_int, c_int64, c_void_p
from functools import cache

from torch import Tensor

from promptgraft.kernels import processor
from promptgraft.kernels.native import openmp
from promptgraft.kernels.native.build import VARIANTS, is_made_for_this_machine, library

VERSION = 8
ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "relu": 2, "silu": 3}
INT8 = ("amx", "avx512bf16", "avx512vnni")
"""Variants that multiply whole numbers of eight bits faster than others."""

TILED = ("amx",)
"""Variants that multiply in bf16 on tiles."""

AVX512 = frozenset(("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma"))
NEEDED = {
    "amx": AVX512 | {"avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"},
    "avx512bf16": AVX512 | {"avx512_vnni", "avx512_bf16"},
    "avx512vnni": AVX512 | {"avx512_vnni"},
    "avx512": AVX512,
    "avx2": frozenset(("avx2", "fma")),
}
"""What a processor must have for each variant, the ablest first; what they are compiled for is in `build.py`."""

SWITCH = "PROMPTGRAFT_NATIVE"
COMPILE = "python -m promptgraft.kernels.native.build"
NUMBERS = ("sequences", "prompts", "prompt_rows", "threads", "read_first", "keep", "want_input")
MORE_NUMBERS = ("learn", "drop_below", "drop_narrow", "turned")
INPUTS = ("starts", "ids", "types", "positions", "input", "prompt_of", "prompt_starts", "drop_keys", "table")
POINTERS = (*INPUTS, "saved", "output", "d_output", "d_table", "d_input", "d_weights")


class Call(ctypes.Structure):
    """One pass over a packed batch, as `plan.h` reads it."""

    _fields_ = [(name, c_int64) for name in (*NUMBERS, *MORE_NUMBERS)] + [(name, c_void_p) for name in POINTERS]


class KeyTable(ctypes.Structure):
    """Keys and values that queries see, as `seen.h` reads them."""

    _fields_ = [
        *((name, c_void_p) for name in ("keys", "values")),
        *((name, c_int64) for name in ("rows", "stride", "apart", "half")),
        *((name, c_void_p) for name in ("cosine", "sine", "places", "d_keys", "d_values")),
    ]


class CausalCall(ctypes.Structure):
    """One layer's causal attention, as `seen.h` reads it."""

    _fields_ = [
        *(
            (name, c_int64)
            for name in ("queries", "heads", "key_heads", "width", "half", "window", "threads", "ranges")
        ),
        ("scale", c_double),
        *(
            (name, c_void_p)
            for name in ("query", "cosine", "sine", "query_places", "seen", "out", "norms", "d_out", "d_query")
        ),
        ("sources", KeyTable * 3),
    ]


class ProductCall(ctypes.Structure):
    """Rows times a weight, as `product.h` reads it."""

    _fields_ = [
        *((name, c_int64) for name in ("rows", "columns", "depth", "stride", "turned", "half", "half_out", "threads")),
        *((name, c_void_p) for name in ("x", "weight", "bias", "added", "to")),
    ]


def able() -> dict[str, bool]:
    """For each variant, whether this processor can run it."""
    available = processor.instructions()
    return {variant: needed <= available for variant, needed in NEEDED.items()}


@cache
def load(variant: str) -> ctypes.CDLL:
    """Load the library of one variant, with types for its functions.

    Raises:
        OSError: it is not there, or cannot be loaded.
    """
    openmp.share()
    loaded = ctypes.CDLL(str(library(variant)))
    if loaded.pg_version() != VERSION:
        raise OSError(f"{library(variant)} is of another version")
    loaded.pg_new.restype, loaded.pg_new.argtypes = c_void_p, [c_int] * 6 + [c_float]
    loaded.pg_free.restype, loaded.pg_free.argtypes = None, [c_void_p]
    loaded.pg_layers.argtypes = [c_void_p, c_int, c_int, POINTER(c_void_p), c_int, c_int]
    loaded.pg_turn.restype, loaded.pg_turn.argtypes = None, [c_void_p, c_int]
    loaded.pg_embeddings.restype, loaded.pg_embeddings.argtypes = (
        None,
        [c_void_p, POINTER(c_int64 * 3), *[c_void_p] * 5],
    )
    loaded.pg_saved_bytes.restype, loaded.pg_saved_bytes.argtypes = c_int64, [c_void_p, POINTER(Call)]
    loaded.pg_causal.argtypes = [POINTER(CausalCall), c_int]
    loaded.pg_root_mean_square.restype = loaded.pg_gate.restype = None
    loaded.pg_root_mean_square.argtypes = [
        c_int, c_void_p, c_void_p, c_int64, c_int, c_float, c_int64, c_void_p, c_void_p, c_void_p
    ]  # fmt: skip
    loaded.pg_gate.argtypes = [c_int, c_int, c_void_p, c_int64, c_int, c_int64, c_void_p, c_void_p]
    loaded.pg_product.argtypes = [POINTER(ProductCall)]
    for name in ("pg_forward", "pg_backward"):
        getattr(loaded, name).argtypes = [c_void_p, POINTER(Call)]
    return loaded


def runnable() -> tuple[tuple[str, ...], str]:
    """The variants that may be used here, the ablest first, and why only these; no reason if all may be used.

    `PROMPTGRAFT_NATIVE=0` turns the native path off; a variant's name asks for that one.
    """
    requested = os.environ.get(SWITCH, "")
    if requested == "0":
        return (), f"turned off by {SWITCH}=0"
    if not is_made_for_this_machine():
        return (), "it is for Linux on x86-64"
    possible = [name for name, can in able().items() if can]
    if not possible:
        return (), "this processor has neither AVX2 nor AVX-512"
    if requested in VARIANTS and requested not in possible:
        return (), f"{SWITCH}={requested}, but this processor cannot run it"
    usable, why = (
        [],
        f"not compiled when promptgraft was installed; with a C++ compiler (g++) there, {COMPILE} does that",
    )
    for variant in [requested] if requested in VARIANTS else possible:
        try:
            load(variant)
        except OSError as error:
            why = str(error) if library(variant).exists() else why
            continue
        usable.append(variant)
    if not usable:
        return (), why
    return tuple(usable), f"{SWITCH}={requested}" if requested in VARIANTS else ""


def left_out() -> list[str]:
    """The variants that this processor could run but that were not compiled: an old compiler does not know them all."""
    return [name for name, can in able().items() if can and is_made_for_this_machine() and not library(name).exists()]


def address(tensor: Tensor | None) -> int | None:
    """The address of a contiguous tensor's values; None for None."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()
