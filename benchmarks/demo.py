"""The demo and a ranking as their user has them: whole commands, loading included, nothing in any cache.

    python benchmarks/demo.py [--rounds 3] [--mimic avx2]

`rank` is the first command of the README after the pull: the prompts of the starter bank, 8 labelled rows a class.
`demo` is `examples/demo.sh`, which is `make demo` without its set-up; it is run with both models there, so that nothing
is downloaded, and says what each of its steps took. Every round has a PROMPTGRAFT_HOME of its own, in which only the
models are the user's. Commands take turns. Prints JSON and writes benchmarks/results/demo.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import common
from common import Row

from promptgraft.model.catalog import resolve
from promptgraft.model.home import models

ROOT = Path(__file__).parents[1]
RANK = ("promptgraft", "rank", "examples/data/home_reviews", "--model", "minilm", "--bank", "starter", "--shots", "8")
DEMO = ("bash", "examples/demo.sh")
STEP = "== "


def main() -> None:
    options = common.parser(__doc__, models="minilm,e5-small", rounds=3).parse_args()
    for name in options.models.split(","):
        resolve(name)  # says how to pull it, before anything is timed
    commands = {"rank": RANK} if options.quick else {"rank": RANK, "demo": DEMO}
    found: dict[str, list[dict[str, float]]] = {what: [] for what in commands}
    for _ in range(1 if options.quick else options.rounds):
        for what, words in commands.items():
            found[what].append(steps(words))
    common.write(__file__, [figures(what, rounds) for what, rounds in found.items()], options.out)


def steps(words: Sequence[str]) -> dict[str, float]:
    """Seconds of each step that a command announces, and of the whole (the empty name)."""
    with tempfile.TemporaryDirectory() as folder:
        home, out = Path(folder) / "home", Path(folder) / "out"
        home.mkdir()
        (home / "models").symlink_to(models().resolve(), target_is_directory=True)
        given = [*words, str(out)] if words == DEMO else words
        return timed(given, {**os.environ, "PROMPTGRAFT_HOME": str(home), "PATH": with_ours()})


def timed(words: Sequence[str], surroundings: Mapping[str, str]) -> dict[str, float]:
    """Runs it, and fails where it fails."""
    began = time.perf_counter()
    marks = []
    with subprocess.Popen(words, cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(STEP):
                marks.append((line.removeprefix(STEP).strip(), time.perf_counter()))
    ended = time.perf_counter()
    if child.returncode:
        sys.exit(f"{' '.join(words)} ended with status {child.returncode}")
    ends = [at for _, at in marks[1:]] + [ended]
    parts: dict[str, float] = {}
    for (name, at), end in zip(marks, ends, strict=False):
        parts[name] = parts.get(name, 0.0) + end - at
    return {"": ended - began, **parts}


def with_ours() -> str:
    """PATH with the commands beside this Python first, as `make demo` has it."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def figures(what: str, rounds: Sequence[Mapping[str, float]]) -> Row:
    """A row of the results; a step's seconds are those of the quickest round."""
    parts = {name: round(min(one[name] for one in rounds), 1) for name in rounds[0] if name}
    whole = common.spread("seconds", [one[""] for one in rounds], 1)
    return {"what": what, "model": "minilm", **whole, "rounds": len(rounds), **({"parts": parts} if parts else {})}


if __name__ == "__main__":
    main()
