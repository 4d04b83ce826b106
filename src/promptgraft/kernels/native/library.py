"""Finds and loads the compiled libraries; what crosses their border."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_float, c_int, c_int64, c_void_p
from functools import cache

from torch import Tensor

from promptgraft.kernels import processor
from promptgraft.kernels.native import openmp
from promptgraft.kernels.native.build import VARIANTS, is_made_for_this_machine, library

VERSION = 3
ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "relu": 2, "silu": 3}
INT8 = ("amx", "avx512bf16", "avx512vnni")
"""Variants that multiply whole numbers of eight bits faster than others."""

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


def able() -> dict[str, bool]:
    """Which variants this processor can run."""
    there = processor.instructions()
    return {variant: needed <= there for variant, needed in NEEDED.items()}


@cache
def load(variant: str) -> ctypes.CDLL:
    """The library of one variant, its functions typed.

    Raises:
        OSError: it is not there, or cannot be loaded.
    """
    openmp.share()
    found = ctypes.CDLL(str(library(variant)))
    if found.pg_version() != VERSION:
        raise OSError(f"{library(variant)} is of another version")
    found.pg_new.restype, found.pg_new.argtypes = c_void_p, [c_int] * 6 + [c_float]
    found.pg_free.restype, found.pg_free.argtypes = None, [c_void_p]
    found.pg_layers.argtypes = [c_void_p, c_int, c_int, POINTER(c_void_p), c_int, c_int]
    found.pg_turn.restype, found.pg_turn.argtypes = None, [c_void_p, c_int]
    found.pg_embeddings.restype, found.pg_embeddings.argtypes = None, [c_void_p, POINTER(c_int64 * 3), *[c_void_p] * 5]
    found.pg_saved_bytes.restype, found.pg_saved_bytes.argtypes = c_int64, [c_void_p, POINTER(Call)]
    for name in ("pg_forward", "pg_backward"):
        getattr(found, name).argtypes = [c_void_p, POINTER(Call)]
    return found


def runnable() -> tuple[tuple[str, ...], str]:
    """The variants that may be used here, the ablest first, and why it is these; empty where it is all there are.

    `PROMPTGRAFT_NATIVE=0` turns the native path off; a variant's name asks for that one.
    """
    asked = os.environ.get(SWITCH, "")
    if asked == "0":
        return (), f"turned off by {SWITCH}=0"
    if not is_made_for_this_machine():
        return (), "it is for Linux on x86-64"
    possible = [name for name, can in able().items() if can]
    if not possible:
        return (), "this processor has neither AVX2 nor AVX-512"
    if asked in VARIANTS and asked not in possible:
        return (), f"{SWITCH}={asked}, but this processor cannot run it"
    found, why = (
        [],
        f"not compiled when promptgraft was installed; with a C++ compiler (g++) there, {COMPILE} does that",
    )
    for variant in [asked] if asked in VARIANTS else possible:
        try:
            load(variant)
        except OSError as error:
            why = str(error) if library(variant).exists() else why
            continue
        found.append(variant)
    if not found:
        return (), why
    return tuple(found), f"{SWITCH}={asked}" if asked in VARIANTS else ""


def left_out() -> list[str]:
    """The variants that this processor can run and that were not compiled: an old compiler does not know them all."""
    return [name for name, can in able().items() if can and is_made_for_this_machine() and not library(name).exists()]


def address(tensor: Tensor | None) -> int | None:
    """Where a contiguous tensor's values lie; None for none."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()
