"""Tensors on disk: safetensors only, every fault one line."""

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


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        head = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        digest.update(len(head).to_bytes(8, "little") + head.encode())
        digest.update(plain(tensor).reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        ArtefactError: it is missing, damaged or cut short.
    """
    if not path.is_file():
        raise ArtefactError("is missing", where=path, do="restore the file or tune again")
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        what = f"is damaged or cut short ({reason(error)})"
        raise ArtefactError(what, where=path, do="restore the file or tune again") from None


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """An ArtefactError that names the first tensor with a value that is infinite or not a number."""
    for name, tensor in tensors.items():
        # By numpy: torch wakes its threads for each of a bank's many small tensors, which takes longer than the look.
        if tensor.is_floating_point() and not np.isfinite(plain(tensor).float().numpy()).all():
            raise ArtefactError(f"{name} holds values that are not finite", where=where, do="tune again more slowly")


def plain(tensor: Tensor) -> Tensor:
    """Detached, on the CPU, contiguous."""
    return tensor.detach().cpu().contiguous()


def reason(error: Exception) -> str:
    """The system's own words, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())


def remedy(error: Exception) -> str | None:
    """What to do about a failed write, where we know."""
    full = getattr(error, "errno", None) in atomic.NO_ROOM or "No space left" in str(error)
    return "make room on the disk; nothing was changed" if full else None
