"""In the compiler's output: the inner loops of products and attention keep their sums in registers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from promptgraft.kernels.native.build import COMPILE, HERE, VARIANTS, compiler, is_made_for_this_machine

SOURCE = """
#include "attention.h"
#include "gemm.h"
using namespace pg;
struct Put {
    float* out;
    int width;
    void operator()(int row, int column, vf v) const { store(out + (size_t)row * width + column, v); }
};
void in_fp32(const float* a, int rows, const Weight<float>& w, Put put) { gemm(a, w.k, rows, w, w.k, 0, w.n, put); }
void in_bf16(const bf16* a, int rows, const Weight<bf16>& w, Put put) { gemm(a, w.k, rows, w, w.k, 0, w.n, put); }
void scores(const float* q, int rows, const float* keys, int depth, int width, float* out) {
    product<false>(q, depth, rows, keys, width, depth, width, out, width);
}
void slopes(const float* q, int rows, const float* keys, int depth, int width, float* out) {
    product<true, true>(q, depth, rows, keys, width, depth, width, out, width);
}
"""
MULTIPLIES = re.compile(r"\s(vfmadd\w*|vdpbf16ps|tdpbf16ps)\s")
KEPT_IN_MEMORY = re.compile(r"\(%r[sb]p\).*%[xyz]mm|%[xyz]mm.*\(%r[sb]p\)")
SUMS = {"amx": 4, "avx512bf16": 8, "avx512vnni": 8, "avx512": 8, "avx2": 8}
"""How many multiplications the smallest inner loop of a product has."""


def inner_loops(assembly: str) -> list[list[str]]:
    """The lines of every loop that has no loop inside and multiplies."""
    lines = assembly.splitlines()
    places = {line[:-1]: number for number, line in enumerate(lines) if line.startswith(".L") and line.endswith(":")}
    jumps = [(number, re.match(r"\s+j\w+\s+(\.L\w+)$", line)) for number, line in enumerate(lines)]
    spans = [(places[jump[1]], end) for end, jump in jumps if jump and places.get(jump[1], end) < end]
    inner = [(first, last) for first, last in spans if not any(first <= a and b < last for a, b in spans)]
    bodies = [lines[first:last] for first, last in inner]
    return [body for body in bodies if sum(bool(MULTIPLIES.search(line)) for line in body) > 1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_sum_is_kept_in_memory(variant: str, tmp_path: Path) -> None:
    if not compiler() or not is_made_for_this_machine():
        pytest.skip("needs g++ on Linux for x86-64")
    source = tmp_path / "kernels.cpp"
    source.write_text(SOURCE, encoding="utf-8")
    flags = [flag for flag in (*COMPILE, *VARIANTS[variant]) if flag != "-c"]
    made = subprocess.run(
        [*compiler(), *flags, f"-I{HERE}", "-S", "-o", "-", str(source)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"this compiler cannot make {variant}")
    loops = inner_loops(made.stdout)
    most = max(sum(bool(MULTIPLIES.search(line)) for line in body) for body in loops)
    assert len(loops) >= 4
    assert most >= SUMS[variant]
    spilled = [line for body in loops for line in body if KEPT_IN_MEMORY.search(line)]
    assert spilled == []
