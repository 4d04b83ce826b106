"""Reads the bytes of a data file and decodes them to text."""

from __future__ import annotations

import codecs
import difflib
import gzip
import zlib
from contextlib import suppress
from pathlib import Path

from promptgraft.errors import TaskError
from promptgraft.untrusted import why

MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The encoding that each byte order mark stands for; UTF-32 first, since one of its marks begins like UTF-16's."""
LOOKED_AT = 4096


class NoRowsError(TaskError):
    """A data file is empty, or holds no rows."""

    def __init__(self, what: str, path: Path) -> None:
        super().__init__(what, where=path, do="give a file with at least one row")


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked where it ends in .gz.

    Raises: TaskError where it is missing, unreadable, empty or damaged.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.name.endswith(".gz") else raw
    except FileNotFoundError:
        raise TaskError("no such file", where=path, do=near_path(path)) from None
    except IsADirectoryError:
        raise TaskError("this is a folder", where=path, do="name a file in it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TaskError(f"not a whole gzip file ({error})", where=path, do="pack or download it again") from None
    except OSError as error:
        raise TaskError(f"cannot be read ({why(error)})", where=path, do="check the path and its rights") from None
    if not content.strip(b"\xef\xbb\xbf \t\r\n"):
        raise NoRowsError("the file is empty", path)
    return content


def near_path(path: Path) -> str:
    """The advice for a path that does not exist: the most similar name in its folder, if there is one."""
    beside: list[str] = []
    with suppress(OSError):  # there is no such folder either, or it may not be looked into
        beside = sorted(place.name for place in path.parent.iterdir())
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path"


def decode(raw: bytes, path: Path) -> tuple[str, list[str]]:
    """The text of a file, with a note where it is not UTF-8: a byte order mark says how it is written.

    Raises: TaskError with the line of the first byte that is not UTF-8.
    """
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), None)
    if encoding is not None:
        try:
            return raw.decode(encoding), [f"{path.name}: read as {encoding.upper()}, as its byte order mark says"]
        except UnicodeDecodeError as error:
            what = f"it begins with the mark of {encoding.upper()} and is not ({error.reason})"
            raise TaskError(what, where=path, do="save the file as UTF-8") from None
    begin = raw[:LOOKED_AT]
    if max(begin[::2].count(0), begin[1::2].count(0)) > len(begin) // 4:
        raise TaskError("this looks like UTF-16 without a byte order mark", where=path, do="save the file as UTF-8")
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        what = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        raise TaskError(what, where=f"{path}:{line}", do="save the file as UTF-8") from None


def text_lines(text: str) -> list[str]:
    """The lines of a text. A line ends at \\n, \\r\\n or \\r alone: U+2028 and its like may stand inside a text."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
