"""The places where a verb keeps its artefact are decided and checked before anything is trained."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from promptgraft.api.opening import as_bank
from promptgraft.bank.bank import Bank
from promptgraft.bank.names import DEFAULT, check_name
from promptgraft.engine.store import ARTEFACT
from promptgraft.errors import ArtefactError, RunError
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.atomic import write_text
from promptgraft.task.task import Task
from promptgraft.untrusted import file_name, read_bytes, read_json, why

OWNER = "task.json"
"""The file of a run folder that says which task it is for."""
LARGEST_OWNER = 1 << 20


@dataclass(frozen=True)
class Keeper:
    """The checked places in which a task's artefact will be kept.

    Attributes:
        folder: the run folder, if there is one.
        bank, name: the bank, if there is one, and the artefact's name in it.
        notes: what was chosen that was not asked for.
    """

    folder: Path | None = None
    bank: Bank | None = None
    name: str | None = None
    notes: tuple[str, ...] = ()

    def keep(self, artefact: Artefact) -> tuple[str, ...]:
        """Write the artefact to every place; gives a note where another run's artefact was there."""
        replaced: tuple[str, ...] = ()
        if self.folder is not None:
            replaced = _replaced(self.folder, artefact)
            artefacts.save(artefact, self.folder / ARTEFACT)
        if self.bank is not None:
            self.bank.add(artefact, self.name, replace=True)
        return replaced


def _replaced(folder: Path, artefact: Artefact) -> tuple[str, ...]:
    """A note on the artefact that stood in a run folder, if it is another one."""
    try:
        card = artefacts.load_card(folder / ARTEFACT)
    except ArtefactError:
        return ()
    if card.hash == artefact.hash:
        return ()
    rows = "all rows" if card.shots is None else f"{card.shots} shots"
    return (f"{folder / ARTEFACT} is replaced: it was {card.method} on {rows}, whose model stays in {folder / 'jobs'}",)


def keeper(
    task: Task,
    out: str | Path | None = None,
    bank: Bank | str | Path | None = None,
    name: str | None = None,
    *,
    replace: bool = False,
) -> Keeper:
    """Check the places where a task's artefact will be kept, and reserve them.

    Args:
        name: in the bank; default: made of the task's name.
        replace: take the place of what another task's data gave.
    Raises:
        BankError, RunError: a place that cannot be written, or that holds what other data gave.
    """
    folder = None if out is None else run_folder(Path(out), task, replace=replace)
    if bank is None:
        return Keeper(folder)
    artefact_name = check_name(name) if name is not None else file_name(task.name, DEFAULT)
    opened = as_bank(bank, create=True)
    previous = opened.reserve(artefact_name, task.fingerprint, replace=replace)
    notes = [f"in the bank it is called {artefact_name!r}"] if name is None and artefact_name != task.name else []
    if previous is not None:
        data = "the same" if previous.task.fingerprint == task.fingerprint else "other"
        notes.append(
            f"{artefact_name!r} in {opened.folder} is replaced: it was tuned on {data} data ({previous.method})"
        )
    return Keeper(folder, opened, artefact_name, tuple(notes))


def run_folder(folder: Path, task: Task, *, replace: bool = False) -> Path:
    """Check that a run folder can be written and is this task's, and mark it as this task's.

    Raises:
        RunError: it cannot be written, or holds a run on other data.
    """
    owner = owner_of(folder)
    if owner is not None and owner["fingerprint"] != task.fingerprint and not replace:
        do = "choose another folder (--out), or replace it (--replace)"
        raise RunError(f"holds a run on other data ({owner['name']})", where=folder, do=do)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        identity = {"name": task.name, "fingerprint": task.fingerprint}
        if owner != identity:
            write_text(folder / OWNER, json.dumps(identity, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"cannot be written ({why(error)})", where=folder, do="choose another folder (--out)") from None
    return folder


def owner_of(folder: Path) -> dict[str, str] | None:
    """Name and fingerprint of the task that a run folder is for; None where nothing says so."""
    path = folder / OWNER
    if path.exists():
        owner = read_json(read_bytes(path, LARGEST_OWNER, RunError), path, RunError)
        if not isinstance(owner, dict) or not all(isinstance(owner.get(key), str) for key in ("name", "fingerprint")):
            raise RunError("does not say which task this folder is for", where=path, do="choose another folder (--out)")
        return {key: owner[key] for key in ("name", "fingerprint")}
    try:
        card = artefacts.load_card(folder / ARTEFACT)
    except ArtefactError:
        return None
    return {"name": card.task.name, "fingerprint": card.task.fingerprint}
