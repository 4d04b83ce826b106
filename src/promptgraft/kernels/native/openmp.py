"""The libraries use torch's OpenMP, so that the process has one set of threads.

A library names no OpenMP of its own. A second one beside torch's would keep a second set of threads that compete for
the same processors, and its file need not be there at all: torch brings its own, under a name that differs from build
to build.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

ENTRY = "GOMP_parallel"
"""What a library calls to start its threads."""


class _Place(ctypes.Structure):
    """The structure in which `dladdr` describes an address."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("at", ctypes.c_void_p),
    ]


def runtime() -> Path:
    """The file of the OpenMP that torch itself was linked with.

    Raises:
        OSError: this torch has none.
    """
    try:
        entry = getattr(ctypes.CDLL(torch._C.__file__), ENTRY)
    except AttributeError as error:
        raise OSError(f"this build of torch has no OpenMP ({ENTRY})") from error
    place = _Place()
    look_up = ctypes.CDLL(None).dladdr
    look_up.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Place)]
    if not look_up(ctypes.cast(entry, ctypes.c_void_p), ctypes.byref(place)):
        raise OSError(f"{ENTRY} is nowhere")
    return Path(place.file.decode())


def share() -> None:
    """Make torch's OpenMP visible to libraries that are loaded from now on.

    Raises:
        OSError: this torch has none.
    """
    ctypes.CDLL(str(runtime()), mode=ctypes.RTLD_GLOBAL)
