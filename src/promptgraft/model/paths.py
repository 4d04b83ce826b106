"""The path of an encoder on this processor is timed once for each machine and version, and then stays the same.

A path is a variant of the native path, or plain torch. What runs faster depends on the processor in ways that its list
of instructions does not tell, so each path takes a small training step (`trial.py`, under two seconds in all). The
seconds are kept in the home folder: the same machine goes on taking the same paths, so it goes on giving the same
bits. `PROMPTGRAFT_NATIVE` overrules the choice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

import promptgraft
from promptgraft.errors import ModelError
from promptgraft.kernels import processor
from promptgraft.kernels.native.build import library
from promptgraft.kernels.native.library import INT8, SWITCH, runnable
from promptgraft.model.backbone import Arithmetic
from promptgraft.model.config import LARGEST_FILE
from promptgraft.model.home import home
from promptgraft.prompt.atomic import write_text
from promptgraft.untrusted import read_bytes, read_json

PLAIN = "0"
"""The name of plain torch in the switch and in the stored file."""

BF16 = ("amx", "avx512bf16")
"""Variants that multiply bf16 by instructions of its own."""

NEAR = 1.1
"""A path that is this near to the fastest is as fast: the ablest of those is taken, so that noise does not choose."""

TIMED: tuple[Arithmetic, ...] = ("fp32", "bf16", "int8")
"""The arithmetics that have native paths of their own."""
KEPT_IN = "paths.json"
LIMITS = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""What keeps torch's libraries from instructions that the processor has."""

WAIT = 30.0  # seconds for another process that times the paths

Seconds = Mapping[Arithmetic, Mapping[str, float]]


@dataclass(frozen=True)
class ChosenPaths:
    """The path chosen for each arithmetic, and why.

    Attributes:
        paths: variant, or None for plain torch.
        fastest: the arithmetic that `auto` takes.
        seconds: arithmetic -> path -> seconds of the trial's step; without paths where the arithmetic has none of its
            own here.
        why: in words.
    """

    paths: Mapping[Arithmetic, str | None]
    fastest: Arithmetic
    seconds: Seconds
    why: str


def path(arithmetic: Arithmetic) -> str | None:
    """The variant of the native path for an arithmetic; None for plain torch."""
    return choice().paths[arithmetic]


def choice() -> ChosenPaths:
    """Choose the paths here: as `PROMPTGRAFT_NATIVE` says, else the fastest."""
    return _choice(os.environ.get(SWITCH, ""), str(home()))


@cache
def _choice(switch: str, place: str) -> ChosenPaths:
    variants, why = runnable()
    seconds, is_stored = _stored_or_timed(variants, Path(place) / KEPT_IN)
    fp32 = _best(seconds["fp32"], PLAIN)
    names: dict[Arithmetic, str] = {
        "fp32": fp32, "bf16": _best(seconds["bf16"], fp32), "int8": _best(seconds["int8"], PLAIN)
    }  # fmt: skip
    paths = {arithmetic: None if name == PLAIN else name for arithmetic, name in names.items()}
    is_bf16_faster = bool(seconds["bf16"]) and NEAR * min(seconds["bf16"].values()) < min(seconds["fp32"].values())
    if not why:
        why = (
            "the fastest here" if is_stored else "the fastest here, timed by every process anew since it cannot be kept"
        )
    return ChosenPaths(paths, "bf16" if is_bf16_faster else "fp32", seconds, why)


def _best(seconds: Mapping[str, float], otherwise: str) -> str:
    """The first path that is as fast as the fastest; `otherwise` if none was timed."""
    least = min(seconds.values(), default=0.0)
    return next((name for name, span in seconds.items() if span <= NEAR * least), otherwise)


def _stored_or_timed(variants: tuple[str, ...], file: Path) -> tuple[Seconds, bool]:
    """Read the stored seconds, or time the paths and store them; return them with whether they are stored."""
    key = _key(variants)
    if (stored := _stored(file, key)) is not None:
        return stored, True
    with _alone(file) as is_writable:
        if (stored := _stored(file, key)) is not None:  # by a process that was quicker
            return stored, True
        seconds = _timed(variants)
        if is_writable:
            with suppress(OSError):
                write_text(file, json.dumps({**_entries(file), key: seconds}, indent=1) + "\n")
                return seconds, True
    return seconds, False


def _timed(variants: tuple[str, ...]) -> Seconds:
    """Time a step on every path that may be taken."""
    from promptgraft.model.trial import Trial  # what it imports is slow to load, and seldom needed

    is_plain_possible = os.environ.get(SWITCH, "") not in variants
    plain: tuple[str | None, ...] = (None,) if is_plain_possible else ()
    trial = Trial()
    tried: dict[Arithmetic, tuple[str | None, ...]] = {
        "fp32": (*variants, *plain),
        "bf16": (*(name for name in variants if name in BF16), *(plain if trial.is_bf16_worth_a_trial else ())),
        "int8": (*(name for name in variants if name in INT8), *plain),
    }
    return {
        arithmetic: {name or PLAIN: round(span, 6) for name, span in trial.seconds(arithmetic, paths).items()}
        for arithmetic, paths in tried.items()
    }


@contextmanager
def _alone(file: Path) -> Iterator[bool]:
    """Let one process at a time measure paths, since others would slow it down; yield whether it may write."""
    lock = FileLock(f"{file}.lock", timeout=WAIT)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, Timeout):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _stored(file: Path, key: str) -> Seconds | None:
    """The seconds stored under a key; None if there are none, or the file is damaged."""
    entry = _entries(file).get(key)
    if not isinstance(entry, dict) or set(entry) != set(TIMED):
        return None
    spans = [span for name in TIMED for span in (entry[name].values() if isinstance(entry[name], dict) else [None])]
    return entry if all(isinstance(span, float) for span in spans) else None


def _entries(file: Path) -> dict[str, Any]:
    """All stored entries; empty if the file is missing or damaged."""
    with suppress(ModelError):
        entries = read_json(read_bytes(file, LARGEST_FILE, ModelError), file, ModelError)
        if isinstance(entries, dict):
            return entries
    return {}


def _key(variants: tuple[str, ...]) -> str:
    """A key of everything that decides how fast each path is: machine, version, and the possible paths."""
    digest = hashlib.sha256()
    for name in variants:
        digest.update(library(name).read_bytes())
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    is_plain_possible = os.environ.get(SWITCH, "") not in variants
    parts = (
        promptgraft.__version__, torch.__version__, processor.name(), os.cpu_count(),
        torch.backends.cpu.get_cpu_capability(), *limits, *variants, is_plain_possible, digest.hexdigest()[:16],
    )  # fmt: skip
    return ", ".join(map(str, parts))
