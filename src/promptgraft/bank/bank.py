"""The bank: a folder of artefacts that many processes may read while one at a time writes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from promptgraft.arguments import checked
from promptgraft.bank import parcel
from promptgraft.bank import record as records
from promptgraft.bank.names import DEFAULT, check_name
from promptgraft.bank.record import Record
from promptgraft.errors import ArtefactError, BankError, PromptgraftError, unknown
from promptgraft.prompt import atomic
from promptgraft.prompt.card import Card, read_card
from promptgraft.prompt.files import CARD, LIMITS
from promptgraft.untrusted import at_home, file_name, read_bytes, why

if TYPE_CHECKING:  # a bank is opened and listed without loading torch
    from promptgraft.prompt.artefact import Artefact

Check = Callable[["Artefact"], object]
LOCK = ".lock"
STARTER = Path(__file__).with_name("starter")
STARTER_NAMES = ("starter", "builtin", "builtin:", "builtin:starter")


@dataclass(frozen=True)
class Summary:
    """An entry of a bank's list: an artefact's name and card, without its tensors."""

    name: str
    card: Card

    @property
    def hash(self) -> str:
        """Content hash of the artefact."""
        return self.card.hash


@dataclass(frozen=True)
class Damage:
    """A damaged entry of a bank, and what is wrong with it."""

    name: str
    what: str


class Bank:
    """A folder of artefacts.

    Writers wait for each other on a lock file; readers never wait and never see half an artefact.

    Args:
        folder: an existing folder; use `open_bank` to check or create it.
        read_only: never write.
        timeout: seconds a writer waits for another one.
        check: raises an ArtefactError for an artefact that has the right form and is of no use all the same.
    """

    def __init__(
        self, folder: str | Path, *, read_only: bool = False, timeout: float = 30.0, check: Check | None = None
    ) -> None:
        self.folder = Path(folder)
        self.read_only = read_only
        self._timeout = timeout
        self._check = check

    def __repr__(self) -> str:
        return f"Bank of {len(self.names())} prompts in {self.folder}{', read-only' if self.read_only else ''}"

    def list(
        self,
        *,
        fingerprint: str | None = None,
        kind: str | None = None,
        language: str | None = None,
        family: str | None = None,
    ) -> list[Summary]:
        """Summaries by name of the artefacts that match every filter; a warning names those that are damaged.

        Args:
            fingerprint: of the backbone.
            kind, language, family: of the task.
        """
        fields = {"kind": kind, "language": language, "family": family}
        filters = {field: value for field, value in fields.items() if value is not None}
        return [
            Summary(name, card)
            for name, card in self._cards().items()
            if fingerprint in (None, card.backbone.fingerprint)
            and all(getattr(card.task, field) == value for field, value in filters.items())
        ]

    def _cards(self) -> dict[str, Card]:
        """The cards by name; a warning says why an entry cannot be read."""
        cards = {}
        for name, place in self._folders().items():
            path = place / CARD
            try:
                # No artefact, or one that was removed just now, has no card; a link that leads nowhere is an entry.
                if os.path.lexists(path) or (place.is_symlink() and not place.is_dir()):
                    cards[name] = read_card(read_bytes(path, LIMITS[CARD], ArtefactError), str(path))
            except ArtefactError as error:
                warnings.warn(f"left out of the list: {error}", stacklevel=3)
        return cards

    def serving(self, fingerprint: str, backbone: str) -> Bank:
        """The bank in which a backbone's own prompts have their plain names: this one, whatever it holds.

        Args:
            fingerprint: of the backbone.
            backbone: its name, for the error.
        Raises:
            BankError: the starter bank has nothing for this backbone.
        """
        return self

    def names(self) -> tuple[str, ...]:
        """Names of all entries, damaged ones too."""
        return tuple(self._folders())

    @checked
    def load(self, name: str, *, fingerprint: str | None = None, backbone: str = "the backbone given") -> Artefact:
        """Load an artefact and check it as `artefact.load` does.

        Raises:
            BankError: no such name, with the nearest one.
            ArtefactError: damaged, or of another backbone than `fingerprint`.
        """
        from promptgraft.prompt.artefact import load

        return self._checked(load(self._place(name), fingerprint=fingerprint, backbone=backbone))

    def _checked(self, artefact: Artefact) -> Artefact:
        if self._check is not None:
            self._check(artefact)
        return artefact

    @checked
    def add(self, artefact: Artefact | str | Path, name: str | None = None, *, replace: bool = False) -> str:
        """Add an artefact, or the one in a folder, and return its name in this bank.

        Args:
            name: default: the folder's name, or the task's.
            replace: put it in the place of another one of that name. Adding the same content twice needs no
                `replace` and changes nothing.
        Raises:
            BankError: the name is taken or not allowed, the bank is locked or read-only.
            ArtefactError: the folder holds no sound artefact, or the disk is full.
        """
        from promptgraft.prompt.artefact import Artefact, load, save

        checked = self._checked(artefact if isinstance(artefact, Artefact) else load(artefact))
        default = checked.card.task.name if isinstance(artefact, Artefact) else Path(artefact).resolve().name
        name = check_name(name) if name is not None else file_name(default, DEFAULT)
        with self._writing():
            if name not in self.names() or self._may_replace(name, checked, replace):
                save(checked, self.folder / name)
        return name

    def reserve(self, name: str, fingerprint: str, *, replace: bool = False) -> Card | None:
        """Check that an artefact can be added under a name later, and return the card of what it will replace.

        Args:
            fingerprint: of the task's examples; what the same examples gave may be replaced.
            replace: what other examples gave, too.
        Raises:
            BankError: the name is taken or not allowed, the bank is locked, read-only or cannot be written.
        """
        name = check_name(name)
        with self._writing():
            if name not in self.names():
                return None
            card = self._card(name)
            if not replace and (card is None or card.task.fingerprint != fingerprint):
                what = "is damaged" if card is None else "was tuned on other data"
                do = "choose another name (--name), or replace it (--replace)"
                raise BankError(f"already has {name!r}, which {what}", where=self.folder, do=do)
            return card

    def _card(self, name: str) -> Card | None:
        """The card of an entry, if it can be read."""
        from promptgraft.prompt.artefact import load_card

        try:
            return load_card(self.folder / name)
        except ArtefactError:
            return None

    def _may_replace(self, name: str, artefact: Artefact, replace: bool) -> bool:
        """Whether `name` holds other content, to be replaced; an error where replacing was not asked for."""
        if self._hash(name) == artefact.hash:
            return False
        if not replace:
            do = "choose another name, or replace it (--replace)"
            raise BankError(f"already has an artefact {name!r}", where=self.folder, do=do)
        return True

    def _hash(self, name: str) -> str | None:
        """The content hash of an entry; None where it is damaged."""
        try:
            return self.load(name).hash
        except ArtefactError:
            return None

    @checked
    def remove(self, name: str) -> None:
        """Remove an artefact for good.

        Raises:
            BankError: no such name, the bank is locked or read-only.
        """
        with self._writing():
            atomic.remove_folder(self._place(name))

    def verify(self) -> tuple[Damage, ...]:
        """Read every entry, and the record, completely and return what is damaged; nothing if all is sound."""
        problems = []
        for name in self.names():
            try:
                self.load(name)
            except PromptgraftError as error:
                problems.append(Damage(name, error.what))
        try:
            self.record()
        except ArtefactError as error:
            problems.append(Damage(records.FILE, error.what))
        return tuple(problems)

    def record(self) -> Record:
        """How its prompts have served other tasks; empty where that was never looked at.

        Raises:
            ArtefactError: the record is damaged.
        """
        return records.read_record(self.folder)

    def check_writable(self) -> None:
        """Check that the bank can be changed, before the work whose result it is to keep.

        Raises:
            BankError: the bank is locked, read-only or cannot be written.
        """
        with self._writing():
            pass

    def keep_record(self, record: Record) -> Record:
        """Keep what a record says of its prompts, beside what was known of them; the whole record.

        Raises:
            ArtefactError: the record that is there is damaged.
            BankError: the bank is locked, read-only or cannot be written.
        """
        with self._writing():  # others may have written what they found out of other prompts
            merged = self.record().joined(record)
            try:
                atomic.write_text(self.folder / records.FILE, merged.model_dump_json() + "\n")
            except OSError as error:
                raise BankError(f"cannot be written ({why(error)})", where=self.folder) from None
        return merged

    @checked
    def export(self, name: str, path: str | Path) -> Path:
        """Copy an artefact out, as a folder or, where `path` ends in .zip, as a zip archive.

        Raises:
            BankError: no such name, or `path` exists.
        """
        return parcel.pack(self.load(name), Path(path))

    @checked
    def import_(self, path: str | Path, name: str | None = None, *, replace: bool = False) -> str:
        """Take in an artefact's folder or a zip archive of one, and return the name it has here.

        Raises:
            BankError: an archive that holds anything else than one artefact, or as from `add`.
        """
        path = Path(path)
        with parcel.unpacked(path) as folder:
            default = file_name(path.resolve().name.removesuffix(".zip"), DEFAULT)
            return self.add(folder, name or default, replace=replace)

    def _folders(self) -> dict[str, Path]:
        try:
            return atomic.folders(self.folder)
        except OSError as error:
            raise BankError(f"cannot be read ({why(error)})", where=self.folder) from None

    def _place(self, name: str) -> Path:
        names = self.names()
        if name not in names:
            raise unknown(f"artefact of {self.folder}", name, names, BankError)
        return self.folder / name

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A context in which no other process writes, after removing what killed writers left."""
        if self.read_only:
            raise BankError("cannot be changed", where=self.folder, do="give the folder of a bank of your own")
        try:
            with filelock.FileLock(self.folder / LOCK, timeout=self._timeout):
                atomic.tidy(self.folder)
                yield
        except filelock.Timeout:
            what = f"another process has been writing for over {self._timeout:g} s"
            raise BankError(what, where=self.folder, do="wait for it, or end it, and try again") from None
        except OSError as error:
            what = f"cannot be written ({why(error)})"
            raise BankError(what, where=self.folder, do="check its permissions and the room on the disk") from None


class StarterBank(Bank):
    """The bank that ships: a folder a model, whose entries are named MODEL/NAME where no model is at hand."""

    def __init__(self, folder: Path, check: Check | None = None) -> None:
        super().__init__(folder, read_only=True, check=check)

    def serving(self, fingerprint: str, backbone: str) -> Bank:
        for bank in self._models().values():
            card = next(filter(None, map(bank._card, bank.names())), None)
            if card is not None and card.backbone.fingerprint == fingerprint:
                return bank
        what = f"no prompt for {backbone}: the starter bank is for {', '.join(self._models())}"
        raise BankError(what, do=f"tune one with `promptgraft tune TASK --model {backbone} --bank ...`")

    def _models(self) -> dict[str, Bank]:
        """The bank of each model."""
        folders = super()._folders()
        return {model: Bank(folder, read_only=True, check=self._check) for model, folder in folders.items()}

    def _folders(self) -> dict[str, Path]:
        return {
            f"{model}/{name}": folder
            for model, bank in self._models().items()
            for name, folder in bank._folders().items()
        }

    def _place(self, name: str) -> Path:
        """The folder of MODEL/NAME, or of a NAME that only one model has."""
        folders = self._folders()
        full = [entry for entry in folders if entry == name or entry.partition("/")[2] == name]
        if len(full) > 1:
            raise BankError(f"{name!r} is there for several models", do=f"name one of {', '.join(full)}")
        return folders[full[0]] if full else super()._place(name)


@checked
def open_bank(path: str | Path, *, create: bool = False, check: Check | None = None) -> Bank:
    """The bank in a folder, or the one that ships with promptgraft (`starter`, `builtin:`).

    Args:
        create: create the folder if it does not exist.
        check: as for `Bank`.
    Raises:
        BankError: there is no bank, or the folder contains something else.
    """
    if str(path) in STARTER_NAMES:
        return _starter(check)
    if not str(path):
        do = "give the folder of a bank, or 'starter' for the one that ships"
        raise BankError("the name of the bank is empty", do=do)
    folder = at_home(path)
    if create and not folder.exists():
        _create(folder)
    if not folder.is_dir():
        what = "is a file, not a bank" if folder.exists() else "there is no bank"
        raise BankError(what, where=folder, do="name the folder of a bank, or 'starter' for the one that ships")
    if (folder / CARD).is_file():
        raise BankError("is an artefact, not a bank", where=folder, do=f"name its parent, {folder.resolve().parent}")
    return Bank(folder, check=check)


def _starter(check: Check | None) -> Bank:
    if not STARTER.is_dir():
        raise BankError("this installation has no starter bank", do="reinstall promptgraft, or name a bank's folder")
    return StarterBank(STARTER, check)


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BankError(f"cannot be created ({why(error)})", where=folder, do="choose another place") from None
