"""Packs one artefact to carry between banks: as a folder, or as a zip archive that is safe to open."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from promptgraft.errors import BankError, PromptgraftError
from promptgraft.prompt import atomic
from promptgraft.prompt.files import LIMITS
from promptgraft.untrusted import check_readable, visible, why

if TYPE_CHECKING:
    from promptgraft.prompt.artefact import Artefact

LARGEST = sum(LIMITS.values())
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1
LONGEST_SHOWN = 80
"""The most characters of an untrusted file's name that an error repeats."""
EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(artefact: Artefact, path: Path) -> Path:
    """Write an artefact to a folder, or to a zip archive where `path` ends in .zip; equal ones give equal bytes.

    Raises:
        BankError: `path` exists, or cannot be written.
    """
    from promptgraft.prompt.artefact import save

    if path.exists():
        raise BankError("exists already", where=path, do="choose another place")
    if path.suffix != ".zip":
        save(artefact, path)
        return path
    with tempfile.TemporaryDirectory(prefix="promptgraft-") as folder:
        save(artefact, Path(folder) / "artefact")
        data = _zipped(Path(folder) / "artefact")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, data)
    except OSError as error:
        raise BankError(f"cannot be written ({why(error)})", where=path, do="choose another place") from None
    return path


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A context with the folder of the artefact at `path`; a zip archive is unpacked while the block runs.

    Raises:
        BankError: no archive, or one that holds anything else than the files of one artefact.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="promptgraft-") as folder:
        _unzip(path, Path(folder))
        yield Path(folder)


def _zipped(folder: Path) -> bytes:
    """The zip archive of a folder, with fixed dates and order, so that it depends on the content alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(file.name, date_time=EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unzip(path: Path, folder: Path) -> None:
    """Write the known files of an archive into `folder`, under names that we choose."""
    try:
        check_readable(path, LARGEST, BankError)
        with zipfile.ZipFile(path) as archive:
            for name, entry in _members(archive, path).items():
                with archive.open(entry) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except FileNotFoundError:
        raise BankError("does not exist", where=path, do="name an artefact's folder or its .zip") from None
    except PromptgraftError:
        raise
    except Exception as error:  # zipfile lets through what its parts raise: struct.error, UnicodeDecodeError, ...
        reason = visible(" ".join(str(error).split()) or type(error).__name__)
        raise BankError(f"cannot be unpacked ({reason})", where=path, do="export it again") from None


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by file name: files of one artefact, at the top or all in one folder, and nothing else.

    Raises:
        BankError: any other member, the same file twice, one that is too large or packed in another way.
    """
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    names = [PurePosixPath(entry.filename) for entry in entries]
    strange = [str(name) for name in names if name.name not in LIMITS or len(name.parts) > 2 or ".." in name.parts]
    if strange or len({name.parent for name in names}) > 1 or len(set(names)) < len(names):
        content = strange[0] if strange else "several artefacts"
        raise BankError(
            f"holds {visible(content)[:LONGEST_SHOWN]!r}, not one artefact",
            where=path,
            do="export each artefact on its own",
        )
    members = {name.name: entry for name, entry in zip(names, entries, strict=True)}
    for name, entry in members.items():
        if entry.file_size > LIMITS[name]:
            what = f"its {name} has {entry.file_size:,} bytes; at most {LIMITS[name]:,} are read"
            raise BankError(what, where=path)
        if entry.compress_type not in PACKINGS or entry.flag_bits & ENCRYPTED:
            raise BankError(f"its {name} is packed in a way that is not read here", where=path, do="export it again")
    return members
