"""How figures are kept: rows of several classes of processors side by side, each with the machine and the commit."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from processor import fast_bf16, processor

from promptgraft.model import paths

Row = dict[str, Any]

SETTING = (
    *("model", "lengths", "batch", "prompt", "prompts", "rows", "runs", "factor", "value"),
    *("job", "task", "shots", "seeds", "steps", "what", "variant", "kernel", "shape"),
)
"""What a row is about. Paths are none of it: those of a setting took turns with each other and go together."""


def write(script: str, rows: Sequence[Row], folder: Path) -> None:
    """Print the rows and keep them in FOLDER/NAME.json, in the place of those of the same class and setting.

    A row has what it belongs to, unless it says so itself: the class of processor, whether it was mimicked, the
    machine and the commit.
    """
    kind, mimicked = processor()
    belongs = {"processor": kind, "mimicked": mimicked, "machine": machine(), "commit": commit()}
    new = [{**row, **{name: row.get(name, value) for name, value in belongs.items()}} for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(script).stem}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    path.write_text(json.dumps(merged(kept, new), indent=2) + "\n", encoding="utf-8")
    print(json.dumps(new, indent=2))


def merged(kept: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The new rows in the place of those of the same class, mimicked or not, and setting; all others as they were.

    Classes stand side by side: a setting's rows of one after its rows of another.
    """
    places: dict[tuple[object, ...], int] = {}
    for row in (*kept, *new):
        places.setdefault(setting(row), len(places))
    measured = {(owner(row), setting(row)) for row in new}
    rows = [*(row for row in kept if (owner(row), setting(row)) not in measured), *new]
    return sorted(rows, key=lambda row: (places[setting(row)], owner(row)))


def setting(row: Row) -> tuple[object, ...]:
    """What a row is about."""
    return tuple(row.get(name) for name in SETTING)


def owner(row: Row) -> tuple[str, bool]:
    """The class of processor, and whether it was mimicked."""
    return row["processor"], row["mimicked"]


def machine() -> Row:
    """What the figures belong to."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "bf16": fast_bf16(),
        "native": ", ".join(dict.fromkeys(path or "plain torch" for path in paths.choice().paths.values())),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def commit() -> str:
    """Short hash of the checkout."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
