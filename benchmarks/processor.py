"""The class of processor that figures belong to, and how an abler processor mimics a lesser one."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache

from promptgraft.kernels.native.library import SWITCH, able
from promptgraft.model import paths

CLASSES = ("avx2", "avx512", "amx")
"""Each can do what those before it can."""

TORCH = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "ATEN_CPU_CAPABILITY": "avx512",
    },
}
"""What keeps torch to a class, and PEFT with it."""

NUMPY = {"avx2": {"OPENBLAS_CORETYPE": "Haswell"}, "avx512": {"OPENBLAS_CORETYPE": "SkylakeX"}}
"""What keeps numpy to it, and scikit-learn with it; of no weight in any figure, so nobody has to set it."""


@cache
def processor() -> tuple[str, bool]:
    """The class, and whether an abler processor mimics it. Ends the program where only a part of it is mimicked."""
    real, lowered = real_class(), torch_class()
    kind = lowered or real
    if lowered is not None and rank(lowered) > rank(real):
        sys.exit(f"this processor is of the class {real} and cannot mimic {lowered}")
    native = os.environ.get(SWITCH, "")
    if native != "0" and class_of(native or real) != kind:
        said = f"{SWITCH}={native}" if native else f"{SWITCH} unset"
        sys.exit(f"{said}, but torch is left to the class {kind}: mimic both, by --mimic {'|'.join(TORCH)}")
    return kind, kind != real


def real_class() -> str:
    """The class of this processor; of one that is no x86, what the system calls it."""
    names = {class_of(variant) for variant, can in able().items() if can}
    return max(names, key=rank, default=platform.machine())


def torch_class() -> str | None:
    """The class that the environment keeps torch to; None: it is not kept to any."""
    known = next(iter(TORCH.values()))
    given = {name: os.environ[name].lower() for name in known if name in os.environ}
    if not given:
        return None
    for kind, values in TORCH.items():
        if given == {name: value.lower() for name, value in values.items()}:
            return kind
    words = " ".join(f"{name}={os.environ[name]}" for name in given)
    sys.exit(f"{words} mimics no class of processor whole: unset it, and use --mimic {'|'.join(TORCH)}")


def class_of(variant: str) -> str:
    """The class whose processors run a variant of the native path."""
    return "avx512" if variant.startswith("avx512") else variant


def rank(kind: str) -> int:
    """Place among the classes; lowest for what is none."""
    return CLASSES.index(kind) if kind in CLASSES else -1


def mimic(kind: str) -> None:
    """Start this program anew as on that class of processor, unless it was started so."""
    wanted = {**TORCH[kind], **NUMPY[kind], SWITCH: kind}
    if kind != real_class() and any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def fast_bf16() -> bool:
    """Whether bf16 is multiplied faster than fp32 by what is measured."""
    return paths.choice().fastest == "bf16"
