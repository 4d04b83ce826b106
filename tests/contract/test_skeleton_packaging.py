"""What is installed is what was written, and the exact versions fit the stated ranges."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from encoders import VARIANTS
from promptgraft.kernels.native.build import HERE
from promptgraft.kernels.native.library import SWITCH

STARTER_BANK_LIMIT = 12 * 10**6


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    surroundings = {name: value for name, value in os.environ.items() if name != SWITCH}
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=surroundings)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_package(root: Path, wheel: Path) -> None:
    source = root / "src"
    written = {
        path.relative_to(source).as_posix()
        for path in (source / "promptgraft").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("promptgraft/")}
    assert "promptgraft/py.typed" in packed
    assert packed == written


def test_the_starter_banks_stay_small(root: Path) -> None:
    starter = root / "src" / "promptgraft" / "bank" / "starter"
    assert sum(path.stat().st_size for path in starter.rglob("*") if path.is_file()) <= STARTER_BANK_LIMIT


def test_the_wheel_carries_the_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "promptgraft = promptgraft.__main__:main" in archive.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.fixture(scope="module")
def hook(root: Path) -> ModuleType:
    """hatch_build.py"""
    spec = importlib.util.spec_from_file_location("hatch_build", root / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not VARIANTS, reason="the native path is not compiled here")
def test_the_wheel_is_for_every_python_and_for_the_systems_that_torch_is_for(wheel: Path, hook: ModuleType) -> None:
    system = wheel.stem.removeprefix("promptgraft-").partition("-py3-none-")[2]
    assert system == hook.platform_tag(sorted(HERE.glob("*.so")))
    with zipfile.ZipFile(wheel) as archive:
        [about] = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        assert "Root-Is-Purelib: false" in archive.read(about).decode()


@pytest.mark.skipif(sys.platform != "linux", reason="the tags are those of Linux")
@pytest.mark.parametrize(
    ("names", "tag"),
    [
        ("GLIBC_2.2.5 GLIBC_2.14 GLIBC_2.27 GLIBCXX_3.4 CXXABI_1.3.9 GCC_3.0", "manylinux_2_28"),
        ("GLIBC_2.2.5 GLIBC_2.34", "manylinux_2_34"),
        ("GLIBC_2.17 GLIBCXX_3.4.25 CXXABI_1.3.11", "manylinux_2_28"),
        ("GLIBC_2.17 GLIBCXX_3.4.26", "linux"),
        ("GLIBC_2.17 CXXABI_1.3.13", "linux"),
        ("libc.musl-x86_64.so.1", "linux"),
    ],
)
def test_a_wheel_is_tagged_by_what_its_libraries_name(names: str, tag: str, hook: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "one.so"
    path.write_bytes(b"\x7fELF\0" + names.replace(" ", "\0").encode() + b"\0")
    machine = sysconfig.get_platform().removeprefix("linux").replace("-", "_")
    assert hook.platform_tag([path]) == f"{tag}{machine}"


def requirements(root: Path) -> list[Requirement]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for extra in ("convert", "hub", "zh"):
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def test_exact_versions_fit_the_ranges(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    asked = [one for one in requirements(root) if one.name not in ("promptgraft", "pip")]
    assert len(asked) > 20
    missing = [one.name for one in asked if one.name.lower().replace("_", "-") not in pinned]
    outside = [str(one) for one in asked if one.name not in missing and not fits(one, pinned)]
    assert (missing, outside) == ([], [])


def fits(requirement: Requirement, pinned: dict[str, str]) -> bool:
    return requirement.specifier.contains(pinned[requirement.name.lower().replace("_", "-")])


def test_no_path_of_one_machine_is_in_the_constraints(root: Path) -> None:
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    assert "file:" not in text
    assert "@" not in text
    assert "+" not in "".join(line for line in text.splitlines() if not line.startswith("#"))
