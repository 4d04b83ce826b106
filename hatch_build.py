"""Compiles the native path where that can be done; the package works without it."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/promptgraft/kernels/native")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by the build before a wheel, editable ones too; `PROMPTGRAFT_NATIVE=0` leaves the native path out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        native = Path(self.root) / NATIVE
        builder = load(native / "build.py")
        if os.environ.get("PROMPTGRAFT_NATIVE") == "0" or not builder.is_buildable():
            return
        for variant, why in builder.build(native).items():
            self.app.display_warning(f"native path, {variant}: {why}")
        build_data["artifacts"].append(f"{NATIVE.as_posix()}/*.so")
        build_data["pure_python"] = False
        # The libraries know nothing of Python: one wheel serves every version of it on this kind of machine.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def load(path: Path) -> ModuleType:
    """A module by its file: the package itself cannot be imported while it is being built."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
