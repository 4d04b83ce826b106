"""Where a training step of the native path spends its time, by Linux's perf, on one core:

    python scripts/profile_step.py [--model minilm] [--path "promptgraft bf16"] [--seconds 10]

Shares are of the time within the compiled library. Needs the program perf (Debian: linux-perf).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

PARTS = {
    "products": r"pg::gemm|::(forward|backward|close|project|activated_by)\b",
    "attention": r"attend|turn_|tiled|pair_rows|gather|give_|product",
    "normalisation": r"normalise",
    "embedding": r"embed",
    "packing": r"pack_",
}
"""Part -> what its functions are called; the first that fits counts."""


def work(model: str, path: str, seconds: float) -> None:
    """Steps of one run for so long."""
    import common
    import torch

    torch.set_num_threads(1)
    turn = common.our_turn(common.load_ours(common.model_folder(model), path), common.drawn_rows(common.SST2))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        turn(10)


def shares(report: str) -> dict[str, float]:
    """Part -> share, of the lines of `perf report`."""
    found = dict.fromkeys([*PARTS, "rest"], 0.0)
    for share, name in re.findall(r"^\s+([\d.]+)%\s+\S+\s+\[\.\]\s+(.*)$", report, re.MULTILINE):
        part = next((part for part, names in PARTS.items() if re.search(names, name)), "rest")
        found[part] += float(share)
    whole = sum(found.values())
    return {part: share / whole for part, share in found.items()}


def profile(model: str, path: str, seconds: float) -> None:
    """Run the work under perf and print the shares."""
    from promptgraft.model import paths

    perf = shutil.which("perf")
    if perf is None:
        sys.exit("perf is not here; Debian: apt install linux-perf")
    with tempfile.TemporaryDirectory() as folder:
        kept = f"{folder}/perf.data"
        own = [sys.executable, __file__, "--work", "--model", model, "--path", path]
        command = [perf, "record", "-q", "-o", kept, *own, "--seconds", str(seconds)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        asked = ["report", "-i", kept, "--stdio", "--no-children", "--dso", f"{paths.path(path.split()[-1])}.so"]
        report = subprocess.run([perf, *asked], check=True, capture_output=True, text=True).stdout
    for part, share in shares(report).items():
        print(f"{part:14} {share:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--path", default="promptgraft bf16")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--work", action="store_true", help="used by the script itself")
    options = parser.parse_args()
    if options.work:
        work(options.model, options.path, options.seconds)
    else:
        profile(options.model, options.path, options.seconds)


if __name__ == "__main__":
    main()
