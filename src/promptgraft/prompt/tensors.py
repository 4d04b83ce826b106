"""Reads and checks tensors on disk: safetensors only, and every fault is an error of one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from promptgraft.errors import ArtefactError
from promptgraft.prompt import atomic
from promptgraft.untrusted import check_readable, visible, why

REPAIR = "restore the file or tune again"
FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
TYPES = FLOATS | {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool}
"""The types that a file's tensors may have: those that every computation here supports."""

LARGEST = 1e6
"""Of a prompt's and an embedding's values. Trained ones are below a thousand; with far larger ones the squares and sums
of a forward pass are no longer finite, and every answer is the same."""


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        head = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        digest.update(len(head).to_bytes(8, "little") + head.encode())
        digest.update(plain(tensor).reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(path: Path, limit: int) -> dict[str, Tensor]:
    """All tensors of a file of at most `limit` bytes.

    Raises:
        ArtefactError: it is missing, may not be read, is too large, damaged or cut short, or holds another type of
            number.
    """
    try:
        check_readable(path, limit, ArtefactError)
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise ArtefactError("is missing", where=path, do=REPAIR) from None
    except OSError as error:
        raise ArtefactError(f"cannot be read ({why(error)})", where=path) from None
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ArtefactError(f"is damaged or cut short ({reason(error)})", where=path, do=REPAIR) from None
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ArtefactError(f"{visible(name)} is of type {kind}, which is not used here", where=path, do=REPAIR)
    return tensors


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises an ArtefactError that names the first tensor with a value that is infinite or not a number."""
    for name, tensor in tensors.items():
        # By numpy: torch wakes its threads for each of a bank's many small tensors, which takes longer than the look.
        if tensor.is_floating_point() and not np.isfinite(plain(tensor).float().numpy()).all():
            what = f"{visible(name)} holds values that are not finite"
            raise ArtefactError(what, where=where, do="tune again more slowly")


def largest(tensor: Tensor) -> float:
    """The largest distance of a value from zero; 0 where there is no value."""
    return float(np.abs(plain(tensor).float().numpy()).max(initial=0.0))


def check_numbers(name: str, tensor: Tensor, where: str, limit: float = LARGEST) -> None:
    """Raises an ArtefactError unless a model can compute with the values."""
    if tensor.dtype not in FLOATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ArtefactError(f"{name} holds {kind} numbers", where=where, do="tune it again")
    if not largest(tensor) <= limit:
        what = f"{name} holds values beyond {limit:,.0f}, with which no model computes"
        raise ArtefactError(what, where=where, do="tune again more slowly")


def as_half(tensor: Tensor) -> Tensor:
    """fp32 numbers as fp16; single numbers, which take no room, and every other type as they are."""
    return tensor.half() if tensor.dtype == torch.float32 and tensor.ndim else tensor


def as_full(tensor: Tensor) -> Tensor:
    """fp16 numbers as fp32; every other type as it is."""
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def plain(tensor: Tensor) -> Tensor:
    """The tensor detached, on the CPU and contiguous."""
    return tensor.detach().cpu().contiguous()


def reason(error: Exception) -> str:
    """The operating system's own words for an error, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return visible(" ".join(text.split()))


def remedy(error: Exception) -> str | None:
    """The advice after a failed write, where there is any."""
    if getattr(error, "errno", None) in atomic.NO_ROOM or "No space left" in str(error):
        return "make room on the disk; nothing was changed"
    return "choose another place" if isinstance(error, OSError) else None
