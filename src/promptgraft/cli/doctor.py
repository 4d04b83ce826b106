"""promptgraft doctor"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import typer

from promptgraft.cli.say import Say
from promptgraft.cli.verb import COULD_NOT, line_of, verb
from promptgraft.errors import PromptgraftError

EXTRAS = {"hub": "datasets", "zh": "opencc", "convert": "onnx", "setfit": "setfit", "ray": "ray", "serve": "fastapi"}
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "scikit-learn")


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        broken: whether something that is needed does not work.
    """

    what: str
    state: str
    broken: bool = False


@verb
def doctor(say: Say) -> None:
    """Look at this installation: versions, processor, models, the starter bank, optional parts.

    Exit status 1 where something that is needed is broken.
    """
    found = [*libraries(), *machine(), *models(), *starter(), *extras()]
    say.table(("what", "is", ""), [(one.what, one.state, "BROKEN" if one.broken else "") for one in found])
    say.data([asdict(one) for one in found])
    if any(one.broken for one in found):
        raise typer.Exit(COULD_NOT)


def libraries() -> Iterator[Finding]:
    """Python and what promptgraft is built on."""
    yield Finding("python", platform.python_version())
    for name in ("promptgraft", *LIBRARIES):
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", broken=name in LIBRARIES)


def machine() -> Iterator[Finding]:
    """Where the work is done."""
    import torch

    from promptgraft.kernels.native.library import COMPILE, left_out
    from promptgraft.model.home import home

    yield Finding("threads", f"{torch.get_num_threads()} of {os.cpu_count()} processors")
    yield Finding("processor", torch.backends.cpu.get_cpu_capability())
    yield from paths_taken()
    if left_out():
        yield Finding("native path without", f"{', '.join(left_out())}: {COMPILE} says why")
    yield Finding("device", torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
    place = home()
    nearest = next(folder for folder in (place, *place.absolute().parents) if os.access(folder, os.F_OK))
    writable = os.access(nearest, os.W_OK)
    advice = "" if writable else " (not writable; set PROMPTGRAFT_HOME to a folder that you may write to)"
    yield Finding("PROMPTGRAFT_HOME", f"{place}{advice}", broken=not writable)
    yield kept()


def paths_taken() -> Iterator[Finding]:
    """Which path each arithmetic takes, and how fast the paths were that it was chosen from."""
    from promptgraft.model.paths import PLAIN, choice
    from promptgraft.model.trial import TOKENS

    chosen = choice()
    variants = dict.fromkeys(path for path in chosen.paths.values() if path is not None)
    state = f"{', '.join(variants)}: {chosen.why}" if variants else f"no, plain torch instead: {chosen.why}"
    yield Finding("native path", state)
    for arithmetic, seconds in chosen.seconds.items():
        taken = chosen.paths[arithmetic] or PLAIN
        rates = [
            f"{'plain torch' if path == PLAIN else path} {TOKENS / span:,.0f}{' (used)' if path == taken else ''}"
            for path, span in seconds.items()
        ]
        unit = "tokens/s a thread, small pass" if arithmetic == "int8" else "tokens/s a thread, small training step"
        by_default = ", the default" if arithmetic == chosen.fastest else ""
        yield Finding(
            f"{arithmetic}{by_default}", f"{', '.join(rates)} {unit}" if rates else "no faster than fp32 here"
        )


def kept() -> Finding:
    """The cache: how much is in it."""
    from promptgraft.engine.cache import open_cache

    try:
        cache = open_cache()
        size = sum(one.size for one in cache.usage()) / 2**20
    except (OSError, PromptgraftError) as error:
        return Finding("cache", line_of(error), broken=True)
    return Finding("cache", f"{size:.1f} of {cache.limit / 2**20:.0f} MB" if cache.limit else "turned off")


def models() -> Iterator[Finding]:
    """Models that were pulled, and whether they are whole."""
    from promptgraft.model.catalog import check, entries

    for entry in entries().values():
        wrong = check(entry.name)
        said = f"{wrong}; promptgraft models pull {entry.name}" if wrong else str(entry.path)
        yield Finding(f"model {entry.name}", said, broken=wrong is not None and entry.pulled)


def starter() -> Iterator[Finding]:
    """The bank that ships."""
    from promptgraft.bank.bank import open_bank

    try:
        bank = open_bank("starter")
        problems = [f"{problem.name}: {problem.what}" for problem in bank.verify()]
        count = len(bank.names())
    except (OSError, PromptgraftError) as error:
        problems, count = [str(error)], 0
    yield Finding("starter bank", "; ".join(problems) or f"{count} prompts", broken=bool(problems) or not count)


def extras() -> Iterator[Finding]:
    """Optional parts."""
    for extra, module in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield Finding(f"extra {extra}", "yes" if there else f"no; pip install 'promptgraft[{extra}]'")
