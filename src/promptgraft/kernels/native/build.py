"""The native path is compiled here: a shared library for each kind of processor, from one source without other headers.

`python -m promptgraft.kernels.native.build` does it again where the package lies, and says what was left out and why.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "native.cpp"
COMPILE = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fno-math-errno", "-ffp-contract=fast", "-w", "-c")
LINK = ("-shared",)
"""Without -fopenmp: a library names no OpenMP of its own and finds that of torch in the process (`openmp.py`)."""

CLANG = b"__kmpc_"
"""What clang's code calls OpenMP's functions; torch's OpenMP has those of GCC."""

AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma")
VARIANTS: dict[str, tuple[str, ...]] = {
    "amx": (*AVX512, "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
    "avx512bf16": (*AVX512, "-mavx512vnni", "-mavx512bf16"),
    "avx512vnni": (*AVX512, "-mavx512vnni"),
    "avx512": AVX512,
    "avx2": ("-mavx2", "-mfma"),
}
"""Kinds of x86-64 processors, the ablest first, and what the compiler may use on them."""


class BuildError(Exception):
    """A variant could not be compiled; the message is one line of the compiler's."""


def compiler() -> tuple[str, ...]:
    """The command of the C++ compiler: `$CXX`, else the first that is found; empty if there is none."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++"]
    commands = (shlex.split(command) for command in candidates)
    return next((tuple(command) for command in commands if command and shutil.which(command[0])), ())


def library(variant: str, folder: Path = HERE) -> Path:
    """The path of a variant's library."""
    return folder / f"{variant}.so"


def is_made_for_this_machine() -> bool:
    """Whether there is a native path for this kind of machine: Linux on x86-64."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def build(folder: Path = HERE, *, flags: tuple[str, ...] = ()) -> dict[str, str]:
    """Compile every variant that is not in `folder` already; return those that failed, with the reasons.

    A library is put in its place when it is whole, so that a process that has the old one open keeps it. What cannot
    be compiled any more is taken away: an old library is no substitute for one of the present source.
    """
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {variant: pool.submit(_build_variant, variant, folder, flags) for variant in VARIANTS}
    for variant, task in running.items():
        try:
            task.result()
        except BuildError as error:
            failed[variant] = str(error)
            with suppress(OSError):
                library(variant, folder).unlink(missing_ok=True)
    return failed


def report(failed: dict[str, str]) -> list[str]:
    """Report the variants that failed: a line for every reason."""
    reasons = dict.fromkeys(failed.values())
    if len(failed) == len(VARIANTS):
        return [f"no native path, plain torch serves instead: {why}" for why in reasons]
    return [
        f"native path without {', '.join(name for name in failed if failed[name] == why)}, the others serve: {why}"
        for why in reasons
    ]


def _build_variant(variant: str, folder: Path, flags: tuple[str, ...]) -> None:
    """Compile and link one variant, unless its library is of the present source and options."""
    options = (*COMPILE, *VARIANTS[variant], *flags)
    mark = _mark((*options, *LINK))
    place = library(variant, folder)
    if place.exists() and bytes.fromhex(mark) in place.read_bytes():
        return
    program, requested = compiler(), os.environ.get("CXX")
    if not program:
        raise BuildError(f"no C++ compiler, CXX={requested} is not there" if requested else "no C++ compiler")
    if not os.access(folder, os.W_OK):
        raise BuildError(f"{folder} is not writable")
    with tempfile.TemporaryDirectory(dir=folder) as room:
        compiled, linked = Path(room) / f"{variant}.o", Path(room) / f"{variant}.so"
        _run(*program, *options, "-o", str(compiled), str(SOURCE))
        _run(*program, *LINK, *flags, f"-Wl,--build-id=0x{mark}", "-o", str(linked), str(compiled))
        if CLANG in linked.read_bytes():
            raise BuildError(f"{shlex.join(program)} is clang, whose OpenMP is another than torch's: g++ is needed")
        linked.replace(place)


def _mark(options: tuple[str, ...]) -> str:
    """A hash over the sources and the options, which a library carries as its build id."""
    digest = hashlib.sha256("\x1f".join(options).encode())
    for path in sorted((*HERE.glob("*.cpp"), *HERE.glob("*.h"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be started: {error.strerror}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        telling = next((line for line in lines if "error" in line), None) or (lines or [""])[0]
        raise BuildError(telling or f"{command[0]} ended with status {done.returncode}")


if __name__ == "__main__":
    messages = report(build()) or [f"native path: {', '.join(VARIANTS)}"]
    sys.stderr.writelines(f"{line}\n" for line in messages)
