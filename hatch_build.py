"""Compiles the native path where that can be done; the package works without it."""

from __future__ import annotations

import importlib.util
import os
import re
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/promptgraft/kernels/native")
OLDEST = 28
"""The C library, 2.28, of the oldest systems that torch's own wheels are for."""

NEWEST_THERE = {"GLIBCXX_3.4": 25, "CXXABI_1.3": 11}
"""Versions of the C++ runtime that those systems have: what manylinux_2_28 allows."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by the build before a wheel, editable ones too; `PROMPTGRAFT_NATIVE=0` leaves the native path out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        native = Path(self.root) / NATIVE
        builder = load(native / "build.py")
        if os.environ.get("PROMPTGRAFT_NATIVE") == "0" or not builder.is_made_for_this_machine():
            return
        failed = builder.build(native)
        for line in builder.report(failed):
            self.app.display_warning(line)
        libraries = [builder.library(name, native) for name in builder.VARIANTS if name not in failed]
        if not libraries:
            return
        build_data["artifacts"].extend(path.relative_to(self.root).as_posix() for path in libraries)
        build_data["pure_python"] = False
        # The libraries know nothing of Python: one wheel serves every version of it on this kind of machine.
        build_data["tag"] = f"py3-none-{platform_tag(libraries)}"


def platform_tag(libraries: list[Path]) -> str:
    """The machines that the libraries run on, by the versions of the system's libraries that they name."""
    here = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    content = b"".join(path.read_bytes() for path in libraries)
    needed = newest(content, "GLIBC_2")
    if needed is None or any((newest(content, name) or 0) > there for name, there in NEWEST_THERE.items()):
        return here
    return here.replace("linux", f"manylinux_2_{max(needed, OLDEST)}")


def newest(content: bytes, name: str) -> int | None:
    """The highest N of the versions NAME.N in a library; None where there is none."""
    found = re.findall(rf"\0{re.escape(name)}\.(\d+)(?:\.\d+)?(?=\0)".encode(), content)
    return max(map(int, found), default=None)


def load(path: Path) -> ModuleType:
    """A module by its file: the package itself cannot be imported while it is being built."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
