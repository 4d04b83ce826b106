"""Compiles the native path: a shared library a kind of processor, from one source and no one else's headers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "native.cpp"
COMMON = ("-std=c++17", "-O3", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno", "-ffp-contract=fast", "-w")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma")
VARIANTS: dict[str, tuple[str, ...]] = {
    "amx": (*AVX512, "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
    "avx512bf16": (*AVX512, "-mavx512vnni", "-mavx512bf16"),
    "avx512vnni": (*AVX512, "-mavx512vnni"),
    "avx512": AVX512,
    "avx2": ("-mavx2", "-mfma"),
}
"""Kinds of x86-64 processors, the ablest first, and what the compiler may use on them."""


def compiler() -> str | None:
    """The C++ compiler: `$CXX`, else the first that is there."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next((found for name in wanted if (found := shutil.which(name))), None)


def library(variant: str, folder: Path = HERE) -> Path:
    """Where the library of a variant lies."""
    return folder / f"{variant}.so"


def is_buildable() -> bool:
    """Whether the native path is made for this machine at all (Linux on x86-64), and a compiler is there."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and compiler() is not None


def build(folder: Path = HERE, *, flags: tuple[str, ...] = ()) -> dict[str, str]:
    """Compile every variant into `folder`, two at a time; gives the variants that failed and the compiler's words.

    A library is put in its place when it is whole, so that a process that has the old one open keeps it.
    """
    program = compiler()
    if program is None:
        return dict.fromkeys(VARIANTS, "no C++ compiler")
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=folder) as room:
        running: list[tuple[str, Path, subprocess.Popen[str]]] = []
        for variant, options in VARIANTS.items():
            made = Path(room) / f"{variant}.so"
            command = [program, *COMMON, *options, *flags, "-o", str(made), str(SOURCE)]
            running.append((variant, made, subprocess.Popen(command, stderr=subprocess.PIPE, text=True)))
            if len(running) == 2:
                failed |= _finish(running.pop(0), folder)
        while running:
            failed |= _finish(running.pop(0), folder)
    return failed


def _finish(one: tuple[str, Path, subprocess.Popen[str]], folder: Path) -> dict[str, str]:
    """Wait for one compiler; put its library in place."""
    variant, made, process = one
    _, said = process.communicate()
    if process.returncode:
        return {variant: said.strip().splitlines()[0] if said.strip() else f"exit status {process.returncode}"}
    made.replace(library(variant, folder))
    return {}


if __name__ == "__main__":
    sys.stderr.writelines(f"{variant}: {why}\n" for variant, why in build().items())
