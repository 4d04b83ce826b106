"""promptgraft doctor"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import typer

from promptgraft.cli.say import Say
from promptgraft.cli.verb import COULD_NOT, line_of, verb
from promptgraft.errors import PromptgraftError, install

EXTRAS = {"hub": "datasets", "zh": "opencc", "convert": "onnx", "setfit": "setfit", "ray": "ray", "serve": "fastapi"}
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "scikit-learn")


@dataclass(frozen=True)
class Finding:
    """One result of the check: what was looked at, and its state.

    Attributes:
        broken: whether something that is needed does not work.
    """

    what: str
    state: str
    broken: bool = False


@verb
def doctor(say: Say) -> None:
    """Check this installation: versions, processor, models, the starter bank, optional parts.

    Exit status 1 where something that is needed is broken.
    """
    findings = [*libraries(), *machine(), *models(), *starter(), *extras()]
    say.table(
        ("what", "is", ""), [(finding.what, finding.state, "BROKEN" if finding.broken else "") for finding in findings]
    )
    say.data([asdict(finding) for finding in findings])
    if any(finding.broken for finding in findings):
        raise typer.Exit(COULD_NOT)


def libraries() -> Iterator[Finding]:
    """The versions of Python and of the libraries that promptgraft is built on."""
    yield Finding("python", platform.python_version())
    for name in ("promptgraft", *LIBRARIES):
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", broken=name in LIBRARIES)


def machine() -> Iterator[Finding]:
    """The machine: threads, processor, native path, device and data folder."""
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
    yield cache_size()


def paths_taken() -> Iterator[Finding]:
    """The path that each arithmetic takes, and the speeds of the paths it was chosen from."""
    from promptgraft.model.paths import PLAIN, choice
    from promptgraft.model.trial import TOKENS

    chosen = choice()
    variants = dict.fromkeys(path for path in chosen.paths.values() if path is not None)
    state = f"{', '.join(variants)}: {chosen.why}" if variants else f"no, plain torch instead: {chosen.why}"
    yield Finding("native path", state)
    for arithmetic, seconds in chosen.seconds.items():
        path_used = chosen.paths[arithmetic] or PLAIN
        rates = [
            f"{'plain torch' if path == PLAIN else path} {TOKENS / span:,.0f}{' (used)' if path == path_used else ''}"
            for path, span in seconds.items()
        ]
        unit = "tokens/s a thread, small pass" if arithmetic == "int8" else "tokens/s a thread, small training step"
        by_default = ", the default" if arithmetic == chosen.fastest else ""
        yield Finding(
            f"{arithmetic}{by_default}", f"{', '.join(rates)} {unit}" if rates else "no faster than fp32 here"
        )


def cache_size() -> Finding:
    """The size of the cache."""
    from promptgraft.engine.cache import open_cache

    try:
        cache = open_cache()
        size = sum(row.size for row in cache.usage()) / 2**20
    except (OSError, PromptgraftError) as error:
        return Finding("cache", line_of(error), broken=True)
    return Finding("cache", f"{size:.1f} of {cache.limit / 2**20:.0f} MB" if cache.limit else "turned off")


def models() -> Iterator[Finding]:
    """The models that were pulled, and whether their files are complete."""
    from promptgraft.model.catalog import check, entries

    for entry in entries().values():
        damage = check(entry.name)
        state = f"{damage}; promptgraft models pull {entry.name}" if damage else str(entry.path)
        yield Finding(f"model {entry.name}", state, broken=damage is not None and entry.pulled)


def starter() -> Iterator[Finding]:
    """The starter bank that ships, and whether its prompts are sound."""
    from promptgraft.bank.bank import open_bank

    try:
        bank = open_bank("starter")
        problems = [f"{problem.name}: {problem.what}" for problem in bank.verify()]
        counts = Counter(name.partition("/")[0] for name in bank.names())
    except (OSError, PromptgraftError) as error:
        problems, counts = [str(error)], Counter()
    held = ", ".join(f"{count} for {model}" for model, count in counts.items())
    yield Finding("starter bank", "; ".join(problems) or f"prompts: {held}", broken=bool(problems) or not held)


def extras() -> Iterator[Finding]:
    """The optional extras, and whether they are installed."""
    for extra, module in EXTRAS.items():
        installed = importlib.util.find_spec(module) is not None
        yield Finding(f"extra {extra}", "yes" if installed else f"no; {install(extra)}")
