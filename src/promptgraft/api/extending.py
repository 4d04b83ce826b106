"""`extend` gives an artefact further classes, or further rows of any class, without the rows it was tuned on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptgraft.api.artefacts import artefact_folder, as_predictor
from promptgraft.api.checking import check_given
from promptgraft.api.opening import log_notes, with_columns
from promptgraft.arguments import checked
from promptgraft.engine import extend as engine
from promptgraft.engine.given import labelled_of
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import TO_READ, ArtefactError, within_memory
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.sheet import Sheet
from promptgraft.task.labelled import read_labelled
from promptgraft.task.labels import given_labels
from promptgraft.task.task import Example, Task
from promptgraft.task.values import as_class

COLUMNS = ("class", "rows", "right before", "right after", "changed", "now a new class")


@dataclass(frozen=True, repr=False)
class Extension(engine.Extended):
    """The result of `extend`: the new artefact, ready to predict, and how the answers changed by class."""

    def __repr__(self) -> str:
        return self._sheet().text()

    def _repr_html_(self) -> str:
        return self._sheet().html()

    @checked
    def save(self, folder: str | Path) -> None:
        """Save the artefact; `promptgraft.load(folder)` loads it.

        Raises:
            ArtefactError: the folder holds something else, or could not be written.
        """
        artefacts.save(self.artefact, folder)

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table of changes, with the columns `COLUMNS`."""
        return [
            (
                change.name,
                str(change.rows),
                "" if change.right_before is None else str(change.right_before),
                str(change.right_after),
                str(change.changed),
                str(change.to_new),
            )
            for change in self.changes
        ]

    def _sheet(self) -> Sheet:
        task = self.artefact.card.task
        added = ", ".join(f"{name} = {text}" for name, text in self.added.items()) or "no class, only rows"
        facts = [f"added: {added}"]
        if self.scores is not None:
            facts.append(f"{task.metric} on test rows: {self.scores[0]:.1f} before, {self.scores[1]:.1f} after")
        facts += [f"answers to {self.judged_on}:"] if self.changes else []
        facts += [f"notes: {len(self.notes)}, in .notes"] if self.notes else []
        heading = f"Extension of {task.name} to {len(task.labels)} classes"
        return Sheet(heading, tuple(facts), COLUMNS if self.changes else (), self.rows())


@checked
@within_memory(TO_READ)
def extend(
    run: Artefact | Predictor | str | Path,
    labels: Mapping[Any, str | None] | Iterable[Any] | str = (),
    rows: object = None,
    *,
    test: object = None,
    columns: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    replace: bool = False,
    model: Backbone | str | Path | None = None,
    device: DeviceName = "auto",
) -> Extension:
    """Add classes to an artefact by their descriptions or by rows, or add rows of its classes.

    Args:
        run: a run folder of tune or transfer, an artefact's folder, an artefact (with `model`), or a predictor.
        labels: new label -> description; a list of names uses these as descriptions.
        rows: labelled rows of old and new classes: a file, a table, or a list of (text, label); where a row may have
            several labels, (text, [label, ...]) with all its labels, old and new.
        test: labelled rows on which old and new answers are compared; default: those that the artefact remembers.
        columns: names of the columns of `rows` and `test`, by role: `text`, `pair`, `label`; default: as in tuning.
        out: a folder to save the new artefact in.
        replace: replace another artefact there.
        model: the backbone; default: the one named on the card.
    Raises:
        UsageError, TaskError, RunError, ArtefactError: one line that says what is wrong and what to do.
    """
    check_given(model, columns=columns, out=out, device=device)
    described = given_labels(labels)
    folder = None if out is None else _free(Path(out), replace=replace)
    predictor, name = as_predictor(run, model, device)
    described = {as_class(label, predictor.classes): text for label, text in described.items()}
    classes = [*predictor.classes, *described]
    task = with_columns(predictor.task, columns)
    added, notes = labelled(rows, task, classes, columns or ())
    held_out, test_notes = labelled(test, task, classes, columns or ())
    extension = engine.extend(predictor, name, described, added, held_out)
    all_notes = (*notes, *test_notes, *extension.notes)
    log_notes(all_notes)
    result = Extension(**{**vars(extension), "notes": all_notes})
    if folder is not None:
        result.save(folder)
    return result


def labelled(
    rows: object, task: Task, classes: Collection[str], named: Collection[str] = ()
) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Labelled rows from a file, a table or a list, and notes on reading them; none where there is nothing.

    Args:
        named: the roles whose columns were named for these rows.
    """
    if rows is None:
        return (), ()
    if isinstance(rows, str | Path):
        return read_labelled(rows, task, classes, named)
    return labelled_of(rows, task, classes, named), ()


def _free(folder: Path, *, replace: bool) -> Path:
    """A folder that an artefact can be written to.

    Raises:
        ArtefactError: another artefact is there.
    """
    try:
        artefact_folder(folder)
    except ArtefactError:
        artefacts.check_place(folder)
        return folder
    if not replace:
        do = "name another with --out, or --replace"
        raise ArtefactError("holds an artefact already", where=folder, do=do)
    return folder
