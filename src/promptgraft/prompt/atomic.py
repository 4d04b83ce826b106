"""Writes files and folders atomically: they exist whole or not at all, even if the process is killed.

A folder is written beside its place as `.NAME.TOKEN.new` and then takes the place in one step. Where the file
system cannot exchange two folders in one step, the old one is first called `.NAME.TOKEN.old`; it counts as the
folder itself for as long as NAME is missing, so that no moment is without a whole one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # linux/fs.h
RENAME_SWAP = 2  # macOS, sys/stdio.h
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file; a reader sees the old or the new one, never a part."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; a reader sees the old or the new one, never a part.

    Raises:
        OSError: as from writing, with the file's name; the old file is then untouched.
    """
    temporary = _beside(path, "new")
    try:
        with naming(path):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context in which errors of writing name a file: a full disk names none, and nobody knows a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """A context with a new folder to fill, which replaces `folder` when the block ends without an error.

    Raises:
        OSError: as from writing; the old folder is then untouched.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(folder, "new")
    temporary.mkdir()
    try:
        yield temporary
        _share(temporary)
        _sync_tree(temporary)
        _take_place(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder in one step: a reader sees it whole or not at all."""
    temporary = _beside(folder, "new")
    folder.rename(temporary)
    sync_folder(folder.parent)
    shutil.rmtree(temporary, ignore_errors=True)


def current(folder: Path) -> Path:
    """The path of a folder's content now: its own, or one beside it while it is being replaced."""
    if folder.exists():
        return folder
    replaced = (path for path in folder.parent.glob(".*.old") if _name_of(path) == folder.name)
    return next(replaced, folder)


def folders(parent: Path) -> dict[str, Path]:
    """The `current` path of every folder in `parent`, by name and sorted; hidden folders are left out."""
    with os.scandir(parent) as entries:
        paths = [Path(entry.path) for entry in entries if _is_folder(entry)]
    present = {path.name: path for path in paths if not path.name.startswith(".")}
    replaced = {_name_of(path): path for path in paths if path.name.startswith(".") and path.name.endswith(".old")}
    return dict(sorted((replaced | present).items()))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or cannot be followed (a loop of links), which is reported when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def tidy(parent: Path) -> None:
    """Finish or remove what killed writers left; call it only while no one else writes in `parent`."""
    for path in list(parent.glob(".*.old")):
        place = parent / _name_of(path)
        if place.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(place)
    for path in list(parent.glob(".*.new")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk so that renames in it last; does nothing where folders cannot be opened (Windows)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _share(folder: Path) -> None:
    """Give every file the folder's read rights, which follow the umask; safetensors writes files as 0600."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def _take_place(new: Path, place: Path) -> None:
    """Move `new` to `place` and remove what was there."""
    if not place.exists():
        new.rename(place)
    elif exchange(new, place):
        shutil.rmtree(new, ignore_errors=True)
    else:
        old = _beside(place, "old")
        place.rename(old)
        new.rename(place)
        shutil.rmtree(old, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; False where the system or the file system cannot."""
    swap = _exchange_call()
    return swap is not None and swap(os.fsencode(first), os.fsencode(second)) == 0


def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    if sys.platform == "win32":
        return None
    library = ctypes.CDLL(None)
    if hasattr(library, "renameat2"):
        return lambda first, second: int(library.renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE))
    if hasattr(library, "renamex_np"):
        return lambda first, second: int(library.renamex_np(first, second, RENAME_SWAP))
    return None


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{ending}")


def _name_of(path: Path) -> str:
    """The NAME in `.NAME.TOKEN.old`."""
    return path.name[1:].rsplit(".", 2)[0]
