"""The index of a bank: cards by name in SQLite, so that listing a large bank reads no files that it knows.

A cache and nothing more: what the folder says counts, whatever is stale is read again, and an index that is
missing, damaged, locked by someone else or not writable only costs time.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from promptgraft.errors import ArtefactError
from promptgraft.prompt.card import Card, read_card

VERSION = 1
TABLE = "CREATE TABLE artefacts (name TEXT PRIMARY KEY, stamp TEXT NOT NULL, card BLOB NOT NULL)"


@dataclass(frozen=True)
class Entry:
    """One artefact as the index knows it.

    Attributes:
        stamp: changes whenever the card's file does (inode, size, time of change).
        card: text of card.json.
    """

    name: str
    stamp: str
    card: bytes


class Index:
    """Cards of a bank's artefacts.

    Args:
        folder: of the bank.
        file: where the index is kept; None keeps it in memory (banks that cannot or must not be written).
    """

    def __init__(self, folder: Path, file: Path | None) -> None:
        self._folder = folder
        self._file = file
        self._memory: dict[str, Entry] = {}

    def cards(self, folders: Mapping[str, Path]) -> dict[str, Card]:
        """Name -> card of every artefact among the bank's folders; damaged ones are left out with a warning."""
        known = self._read()
        entries = {name: self._entry(name, path, known.get(name)) for name, path in folders.items()}
        found = {name: entry for name, entry in entries.items() if entry is not None}
        if found != known:
            self._write(found)
        return {name: card for name, entry in found.items() if (card := self._card(entry)) is not None}

    def _entry(self, name: str, place: Path, known: Entry | None) -> Entry | None:
        """What is known of a folder, brought up to date; None where it holds no card."""
        file = place / "card.json"
        try:
            status = file.stat()
            stamp = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
            return known if known is not None and known.stamp == stamp else Entry(name, stamp, file.read_bytes())
        except OSError:  # replaced or removed just now, or no artefact at all
            return None

    def _card(self, entry: Entry) -> Card | None:
        try:
            return read_card(entry.card, str(self._folder / entry.name / "card.json"))
        except ArtefactError as error:
            warnings.warn(f"left out of the list: {error}", stacklevel=4)
            return None

    def _read(self) -> dict[str, Entry]:
        """All rows; none where there is no index that can be read."""
        if self._file is None or not self._file.is_file():
            return dict(self._memory)
        with suppress(sqlite3.Error), self._connect(self._file) as database:
            rows = database.execute("SELECT name, stamp, card FROM artefacts ORDER BY name").fetchall()
            return {name: Entry(name, stamp, card) for name, stamp, card in rows}
        return {}

    def _write(self, entries: Mapping[str, Entry]) -> None:
        """Keep the rows for next time; a damaged file is thrown away first."""
        self._memory = dict(entries)
        if self._file is None:
            return
        try:
            self._replace_rows(self._file, entries)
        except sqlite3.OperationalError:  # locked, or the folder cannot be written
            return
        except sqlite3.DatabaseError:
            with suppress(OSError, sqlite3.Error):
                self._file.unlink(missing_ok=True)
                self._replace_rows(self._file, entries)

    def _replace_rows(self, file: Path, entries: Mapping[str, Entry]) -> None:
        with self._connect(file) as database, database:
            database.execute("BEGIN IMMEDIATE")
            if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                database.execute("DROP TABLE IF EXISTS artefacts")
                database.execute(TABLE)
                database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute("DELETE FROM artefacts")
            rows = [(entry.name, entry.stamp, entry.card) for entry in entries.values()]
            database.executemany("INSERT INTO artefacts VALUES (?, ?, ?)", rows)

    @contextmanager
    def _connect(self, file: Path) -> Iterator[sqlite3.Connection]:
        """A connection that waits for nobody: a reader is never held up by the cache."""
        with closing(sqlite3.connect(file, timeout=0)) as database:
            yield database
