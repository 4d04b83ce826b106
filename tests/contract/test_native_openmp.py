"""A process has one OpenMP, torch's, whatever its file is called and whether or not the system has one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from encoders import VARIANTS
from promptgraft.kernels.native.library import library

pytestmark = pytest.mark.skipif(not VARIANTS, reason="the native path is not compiled here")

USUAL = "import torch"

# Some builds of torch do not open what they depend on for others to find.
HIDDEN = """
import ctypes

opened = ctypes.CDLL


class Hidden(opened):
    def __init__(self, name, mode=0):
        super().__init__(name)


ctypes.CDLL = Hidden
import torch

ctypes.CDLL = opened
try:
    opened(LIBRARY)
except OSError as error:
    assert "undefined symbol" in str(error), error
else:
    raise SystemExit("torch's OpenMP was not hidden, so this tests nothing")
"""

SCRIPT = """
import re
from pathlib import Path

from promptgraft.kernels.native import openmp
from promptgraft.kernels.native.library import load


def loaded():
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if re.search(r"/lib[a-z]*omp[^/]*[.]so", line)}


before = loaded()
load(VARIANT)
assert loaded() == before == {str(openmp.runtime().resolve())}, (loaded(), before, openmp.runtime())
"""


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_library_names_no_openmp(variant: str) -> None:
    content = library(variant).read_bytes()
    assert b"libgomp" not in content
    assert b"GOMP_parallel" in content


@pytest.mark.parametrize("start", [USUAL, HIDDEN], ids=["usual", "hidden"])
def test_a_library_runs_on_the_openmp_of_torch(start: str) -> None:
    named = {"LIBRARY": repr(str(library(VARIANTS[0]))), "VARIANT": repr(VARIANTS[0])}
    script = start + SCRIPT
    for name, value in named.items():
        script = script.replace(name, value)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
