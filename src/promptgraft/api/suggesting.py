"""`suggest` puts unlabelled rows in the order in which labelling them should help most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptgraft.api.artefacts import load
from promptgraft.api.checking import check_given
from promptgraft.api.opening import log_notes, with_columns
from promptgraft.arguments import checked
from promptgraft.engine.given import unlabelled_of
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.suggest import check_count
from promptgraft.engine.suggest import suggest as choose
from promptgraft.errors import TO_READ, within_memory
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.sheet import Sheet
from promptgraft.task.formats.label_studio import interface_of, task_of
from promptgraft.task.labelled import read_unlabelled
from promptgraft.task.multilabel import separator_of
from promptgraft.task.task import Example


@dataclass(frozen=True, repr=False)
class Suggestion:
    """The rows to label next, the most useful first.

    Attributes:
        rows: the rows as given; for a file as column -> value.
        places: their numbers among all given rows.
        examples: the same rows as examples.
        predictions, probabilities: the artefact's answers and their probabilities; with several labels a row, the
            labels and the probability that these are exactly its labels.
        notes: what was left out.
        name: name of the task.
        columns: the names of the text column and the label column.
        classes: the classes that a row may get.
        separator: the separator of several labels in a cell; None where a row has one class.
    """

    rows: tuple[Any, ...]
    places: tuple[int, ...]
    examples: tuple[Example, ...]
    predictions: tuple[str | tuple[str, ...], ...]
    probabilities: tuple[float, ...]
    notes: tuple[str, ...]
    name: str
    columns: tuple[str, str]
    classes: tuple[str, ...]
    separator: str | None = None

    def __repr__(self) -> str:
        return self._sheet().text()

    def _repr_html_(self) -> str:
        return self._sheet().html()

    def label_studio(self) -> list[dict[str, Any]]:
        """Label Studio tasks with predictions, as JSON for a project with the interface `label_studio_interface`."""
        return [
            task_of(_data(row, example, self.columns[0]), self.columns, prediction, probability, self.name)
            for row, example, prediction, probability in zip(
                self.rows, self.examples, self.predictions, self.probabilities, strict=True
            )
        ]

    def label_studio_interface(self) -> str:
        """The labelling interface (XML) that these tasks are for."""
        return interface_of(self.columns, self.classes, several=self.separator is not None)

    def _sheet(self) -> Sheet:
        rows = [
            (str(place), shown(prediction), f"{probability:.2f}", example.text)
            for place, example, prediction, probability in zip(
                self.places, self.examples, self.predictions, self.probabilities, strict=True
            )
        ]
        facts = (f"notes: {len(self.notes)}, in .notes",) if self.notes else ()
        return Sheet(f"{len(rows)} rows to label next for {self.name}", facts, ("row", "now", "sure", "text"), rows)


@checked
@within_memory(TO_READ)
def suggest(
    run: Predictor | str | Path,
    rows: object,
    count: int = 20,
    *,
    columns: Mapping[str, str] | None = None,
    model: Backbone | str | Path | None = None,
    device: DeviceName = "auto",
) -> Suggestion:
    """Choose the rows that are most worth labelling next.

    Args:
        run: a run folder of tune or transfer, an artefact's folder, or a predictor.
        rows: a file, a table, or a list as `predict` takes it; rows with a label are left out.
        columns: names of the rows' columns, by role: `text`, `pair`, `label`; default: as in tuning.
        model: the backbone; default: the one named on the card.
    Raises:
        UsageError, TaskError, RunError: one line that says what is wrong and what to do.
    """
    check_given(model, columns=columns, device=device)
    check_count(count)
    predictor = run if isinstance(run, Predictor) else load(run, model, device=device)
    task = with_columns(predictor.task, columns)
    notes: tuple[str, ...] = ()
    if isinstance(rows, str | Path):
        records, examples, notes = read_unlabelled(rows, task, columns or ())
        given: list[Any] = list(records)
    else:
        given, examples = unlabelled_of(rows, task, columns or ())
    choice = choose(predictor, examples, count)
    all_notes = (*notes, *choice.notes)
    log_notes(all_notes)
    return Suggestion(
        tuple(given[place] for place in choice.places),
        choice.places,
        tuple(examples[place] for place in choice.places),
        choice.predictions,
        choice.probabilities,
        all_notes,
        predictor.task.name,
        (task.columns.get("text", "text"), task.columns.get("label", "label")),
        predictor.classes,
        separator_of(predictor.task) if predictor.task.facts.several else None,
    )


def shown(prediction: str | tuple[str, ...]) -> str:
    """An answer as one text."""
    return ", ".join(prediction) if isinstance(prediction, tuple) else prediction


def _data(row: object, example: Example, column: str) -> dict[str, Any]:
    """The data of a Label Studio task: the row's columns, or its texts where it has none."""
    if isinstance(row, Mapping):
        return {column: example.text} | dict(row)
    return {column: example.text} | ({} if example.pair is None else {"pair": example.pair})
