"""Kernels of the native path one at a time, every variant that the processor runs, beside torch's own.

    python benchmarks/kernels.py [--seconds 0.3] [--variants avx2,avx512] [--mimic avx2]

`product`: rows times a packed weight, in the arithmetic of the row's name, at the shapes of minilm and BERT-base; in
int8 with the rounding of the rows. `stored`: few rows times a weight that lies as it was loaded, at the shapes of a
decoder's gates, one layer after another, so that weights come from memory. `attention`: every head of some sequences
behind a prompt of 20, forward, and backward to queries, keys, values and prompt. `norm` and `gelu`: with what the
backward needs of them. One thread each, the fastest of the calls that fit into `--seconds`; torch does the same on the
same class of processor: `linear`, products of batches with a softmax between them, `layer_norm`, `gelu`. Rates are
GFLOP/s of products and attention, and 10^9 values a second of `norm` and `gelu`.

The kernels are compiled for this from kernels.cpp, which includes the library's source, so a C++ compiler is needed;
`stored` runs in the library itself. A kernel that is far below torch's rate, or a variant far below another's, shows
what no test of values can: sums that the compiler keeps in memory instead of registers, for one.

Prints JSON and writes benchmarks/results/kernels.json.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import common
import torch
import torch.nn.functional as F
from common import Row, fast_bf16

from promptgraft.kernels import products_native
from promptgraft.kernels.native.build import COMPILE, HERE, LINK, VARIANTS, compiler
from promptgraft.kernels.native.library import TILED, runnable

SOURCE = Path(__file__).with_suffix(".cpp")
PROMPT = 20
PRODUCTS = ((480, 384, 1536), (480, 1536, 384), (480, 384, 384), (480, 768, 3072), (480, 3072, 768))
STORED = ((16, 576, 3072), (64, 576, 3072), (128, 576, 3072))
LAYERS = 30
ATTENTIONS = ((16, 24, 12, 32), (16, 24, 12, 64), (4, 120, 12, 32))
"""Sequences, tokens, heads, depth of a head."""
NORM, GELU = (480, 384), (480, 1536)
WAYS = ("forward", "backward")
ARITHMETICS = ("fp32", "bf16", "int8")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def compiled(variant: str, folder: Path) -> ctypes.CDLL:
    """The timed kernels of one variant."""
    made = folder / f"{variant}.so"
    flags = (*(flag for flag in COMPILE if flag != "-c"), *LINK, *VARIANTS[variant])
    subprocess.run([*compiler(), *flags, f"-I{HERE}", "-o", str(made), str(SOURCE)], check=True)
    library = ctypes.CDLL(str(made))
    for name in ("time_product", "time_attention", "time_norm", "time_gelu"):
        getattr(library, name).restype = ctypes.c_double
    return library


def ours(variant: str, library: ctypes.CDLL, seconds: float) -> Iterator[tuple[str, str, float]]:
    """Kernel, shape and rate, a row each."""
    for arithmetic in ARITHMETICS[: 1 + (variant in TILED)]:
        for shape in STORED:
            taken = stored_seconds(partial(products_native.multiply, variant=variant), shape, arithmetic, seconds)
            yield f"stored {arithmetic}", named(shape), 2 * math.prod(shape) / taken
    span = ctypes.c_double(seconds)
    for place, arithmetic in enumerate(ARITHMETICS):
        for shape in PRODUCTS:
            if taken := library.time_product(place, *shape, span):
                yield f"product {arithmetic}", named(shape), 2 * math.prod(shape) / taken
    for half, arithmetic in enumerate(ARITHMETICS[:2]):
        for shape in ATTENTIONS:
            sequences, tokens, heads, depth = shape
            for backward, way in enumerate(WAYS):
                taken = library.time_attention(half, sequences, tokens, PROMPT, heads, depth, backward, span)
                yield f"attention {way} {arithmetic}", named(shape), attention_flops(shape, way) / taken
        norm, gelu = library.time_norm(half, *NORM, span), library.time_gelu(half, *GELU, span)
        yield f"norm {arithmetic}", named(NORM), math.prod(NORM) / norm
        yield f"gelu {arithmetic}", named(GELU), math.prod(GELU) / gelu


def torchs(seconds: float) -> dict[tuple[str, str], float]:
    """The same by torch; no int8, and bf16 only where it is multiplied faster than fp32."""
    torch.set_num_threads(1)
    rates: dict[tuple[str, str], float] = {}
    for arithmetic in ("fp32", "bf16") if fast_bf16() else ("fp32",):
        dtype = DTYPES[arithmetic]
        for shape in PRODUCTS:
            rows, into, out = shape
            x, weight, bias = (torch.randn(*size).to(dtype) for size in ((rows, into), (out, into), (out,)))
            taken = fastest(partial(F.linear, x, weight, bias), seconds)
            rates[f"product {arithmetic}", named(shape)] = 2 * math.prod(shape) / taken
        for shape in STORED:
            rates[f"stored {arithmetic}", named(shape)] = (
                2 * math.prod(shape) / stored_seconds(F.linear, shape, arithmetic, seconds)
            )
        for shape in ATTENTIONS:
            for way, taken in attention_seconds(shape, dtype, seconds).items():
                rates[f"attention {way} {arithmetic}", named(shape)] = attention_flops(shape, way) / taken
        narrow, wide, scale = (torch.randn(*size).to(dtype) for size in (NORM, GELU, NORM[1:]))
        norm = fastest(partial(F.layer_norm, narrow, scale.shape, scale, scale), seconds)
        rates[f"norm {arithmetic}", named(NORM)] = math.prod(NORM) / norm
        rates[f"gelu {arithmetic}", named(GELU)] = math.prod(GELU) / fastest(partial(F.gelu, wide), seconds)
    return rates


def stored_seconds(
    product: Callable[[torch.Tensor, torch.Tensor], object],
    shape: tuple[int, int, int],
    arithmetic: str,
    seconds: float,
) -> float:
    """Of one product, the mean over layers that no cache holds together."""
    rows, into, out = shape
    x = torch.randn(rows, into).to(DTYPES[arithmetic])
    weights = torch.randn(LAYERS, out, into).to(DTYPES[arithmetic])
    return fastest(lambda: [product(x, weight) for weight in weights], seconds) / LAYERS


def attention_seconds(shape: tuple[int, int, int, int], dtype: torch.dtype, seconds: float) -> dict[str, float]:
    """Forward and backward of attention written as products of batches."""
    sequences, tokens, heads, depth = shape
    q = torch.randn(sequences * heads, tokens, depth).to(dtype).requires_grad_()
    k, v = (torch.randn(sequences * heads, tokens + PROMPT, depth).to(dtype).requires_grad_() for _ in range(2))

    def forward() -> torch.Tensor:
        return torch.bmm(torch.softmax(torch.bmm(q, k.mT) * depth**-0.5, -1), v)

    out = forward()
    d_out = torch.randn_like(out)
    backward = fastest(lambda: torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True), seconds)
    with torch.no_grad():
        return {"forward": fastest(forward, seconds), "backward": backward}


def attention_flops(shape: tuple[int, int, int, int], way: str) -> float:
    """Of the products: two forward; five backward, one of which forms the scores again."""
    sequences, tokens, heads, depth = shape
    return (10.0 if way == "backward" else 4.0) * sequences * tokens * (tokens + PROMPT) * heads * depth


def named(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def fastest(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of the calls that fit into so many seconds, of ten at least."""
    spans: list[float] = []
    end = time.perf_counter() + seconds
    while len(spans) < 10 or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        spans.append(time.perf_counter() - began)
    return min(spans)


def measured(variants: list[str], seconds: float) -> Iterator[Row]:
    """A row a kernel, shape and variant."""
    beside = torchs(seconds)
    with tempfile.TemporaryDirectory() as folder:
        for variant in variants:
            for kernel, shape, rate in ours(variant, compiled(variant, Path(folder)), seconds):
                peer = beside.get((kernel, shape))
                yield {
                    "variant": variant,
                    "kernel": kernel,
                    "shape": shape,
                    "gflops": round(rate / 1e9, 2),
                    "torch_gflops": None if peer is None else round(peer / 1e9, 2),
                    "ratio": None if peer is None else round(rate / peer, 2),
                }


def main() -> None:
    parser = common.parser(__doc__, models="", rounds=1)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each kernel")
    parser.add_argument("--variants", help="default: all that this class of processor runs")
    options = parser.parse_args()
    if not compiler():
        print("there is no C++ compiler here: benchmarks/kernels.py did nothing", file=sys.stderr)
        return
    variants = options.variants.split(",") if options.variants else list(runnable()[0])
    seconds = 0.01 if options.quick else options.seconds
    common.write(__file__, list(measured(variants, seconds)), options.out)


if __name__ == "__main__":
    main()
