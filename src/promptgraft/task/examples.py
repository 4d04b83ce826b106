"""Checks the rows of a file and turns each into an Example of the task's kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from promptgraft.errors import TaskError, listed_quoted, quoted
from promptgraft.task.infer import no_column
from promptgraft.task.names import REFERENCES, pick
from promptgraft.task.table import TableRow
from promptgraft.task.task import Answers, Example, Kind, References
from promptgraft.task.values import label_name, missing
from promptgraft.untrusted import read_json

LARGEST = 1e18
"""The largest number that is a label: its square, which losses and deviations take, is within a float of 32 bits."""


def make_examples(
    kind: Kind, columns: Mapping[str, str], rows: Sequence[TableRow], where: str, labelled: bool
) -> tuple[Example, ...]:
    """One Example for each row, in the rows' order.

    Args:
        columns: role -> column, as `Task.columns`.
        where: the file; errors add the row's line.
        labelled: whether a row without a label is an error; otherwise its label is None.
    Raises: TaskError with file:line for the first row that does not fit the kind.
    """
    make = MAKERS[kind]
    return tuple(make(Cells(row, columns, f"{where}:{line}", labelled)) for row, line in rows)


class Cells:
    """The cells of one row, read by role (text, pair, label, ...)."""

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, str], where: str, labelled: bool) -> None:
        self.row, self.columns, self.where, self.labelled = row, columns, where, labelled

    def value(self, role: str) -> Any:
        """The raw value of a role's column."""
        name = self.columns[role]
        if name not in self.row:
            raise no_column(name, self.row, self.where)
        return self.row[name]

    def text(self, role: str) -> str:
        """A role's text; null is the empty text, a number is written out."""
        value = self.value(role)
        if isinstance(value, str):
            return value
        if value is None or value != value:
            return ""
        if isinstance(value, int | float):
            return str(value)
        raise self.error(
            f"column {quoted(self.columns[role])} holds a {type(value).__name__}, not a text", "give a text"
        )

    def words(self, role: str) -> tuple[str, ...]:
        """A role's list of texts: a list, a JSON list in a text, or (tagging) words between spaces."""
        value = self.value(role)
        if isinstance(value, str):
            value = self.json_list(value) if value.lstrip().startswith("[") or role == "choices" else value.split()
        if not isinstance(value, list) or not all(isinstance(part, str | int | float) for part in value):
            raise self.error(f"column {quoted(self.columns[role])} does not hold a list of texts", 'write ["a", "b"]')
        return tuple(str(part) for part in value)

    def json_list(self, text: str) -> Any:
        """The JSON value of a text, None where it is not JSON."""
        try:
            return read_json(text, self.where, TaskError)
        except TaskError:
            return None

    def label(self) -> Any:
        """The raw label; None on rows without one, which must then be allowed."""
        name = self.columns.get("label")
        if not self.labelled and (name is None or missing(self.row.get(name))):
            return None
        value = self.value("label")
        if missing(value):
            found = "null" if value is None else "NaN, which stands for none" if str(value).strip() else "empty"
            raise self.error(f"the label (column {quoted(name)}) is {found}", "label the row or take it out")
        return value

    def error(self, what: str, do: str) -> TaskError:
        """An error at this row."""
        return TaskError(what, where=self.where, do=do)


def classified(cells: Cells) -> Example:
    """An example of one text, or two, with a class."""
    value = cells.label()
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, list | dict):
        do = "give every row one label, or --kind multilabel"
        raise cells.error(f"the label is a {type(value).__name__}, not a name", do)
    pair = cells.text("pair") if "pair" in cells.columns else None
    return Example(text=cells.text("text"), pair=pair, label=None if value is None else label_name(value))


def labelled(cells: Cells) -> Example:
    """An example of one text, or two, with any number of labels."""
    values = cells.label()
    pair = cells.text("pair") if "pair" in cells.columns else None
    if values is None or (not cells.labelled and not isinstance(values, list)):
        return Example(text=cells.text("text"), pair=pair)
    if not isinstance(values, list) or not all(isinstance(value, str | int | float) for value in values):
        raise cells.error("the labels are no list of names", 'write ["a", "b"], or [] where no label fits')
    if any(missing(value) for value in values):
        raise cells.error("a label in the list is empty", "take it out; a row without labels has the list []")
    return Example(text=cells.text("text"), pair=pair, label=tuple(sorted({label_name(value) for value in values})))


def rated(cells: Cells) -> Example:
    """An example of one text, or two, with a number."""
    value = cells.label()
    pair = cells.text("pair") if "pair" in cells.columns else None
    return Example(text=cells.text("text"), pair=pair, label=None if value is None else number(value, cells))


def number(value: Any, cells: Cells) -> float:
    """A label as a finite number."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    except OverflowError:
        result = math.inf
    if math.isnan(result) or isinstance(value, bool):
        raise cells.error(f"the label {quoted(value)} is not a number", "regression needs numbers; else give --kind")
    if abs(result) > LARGEST:
        raise cells.error(f"the label {quoted(value)} is too large", f"give numbers within {LARGEST:g}")
    return result


def chosen(cells: Cells) -> Example:
    """An example of a text with options, one of which is right."""
    choices, value = cells.words("choices"), cells.label()
    label = None if value is None else str(value)
    if len(choices) < 2:
        raise cells.error(f"{len(choices)} choices", "give two or more")
    if label is not None and label not in choices:
        options = listed_quoted(choices)
        raise cells.error(
            f"the label {quoted(label)} is not among the choices ({options})", "write the right choice's text"
        )
    question = cells.text("question") if "question" in cells.columns else ""
    text = "\n".join(part for part in (cells.text("text"), question) if part)
    return Example(text=text, choices=choices, label=label)


def tagged(cells: Cells) -> Example:
    """An example of words, each with a tag."""
    tokens = cells.words("text")
    if cells.label() is None:
        return Example(tokens=tokens)
    tags = cells.words("label")
    if len(tags) != len(tokens):
        raise cells.error(f"{len(tokens)} tokens but {len(tags)} tags", "give every token one tag")
    if any(missing(tag) for tag in tags):
        raise cells.error("a tag is empty", "tag every token, with O where there is nothing")
    return Example(tokens=tokens, label=tags)


def spanned(cells: Cells) -> Example:
    """An example of a question and a context, with the answers found in the context."""
    context, value = cells.text("pair"), cells.label()
    label = None if value is None else answers(value, context, cells)
    return Example(text=cells.text("text"), pair=context, label=label)


def answers(value: Any, context: str, cells: Cells) -> Answers | None:
    """The answers of a cell, checked against the context.

    The cell holds {"text": [...], "answer_start": [...]}, or a list of {"text", "answer_start"}.

    None where no answer has a text: the question has no answer here.
    """
    value = cells.json_list(value) if isinstance(value, str) else value
    try:
        if isinstance(value, list):
            value = {key: [part[key] for part in value] for key in ("text", "answer_start")}
        texts, starts = tuple(map(str, value["text"])), tuple(map(int, value["answer_start"]))
    except (TypeError, KeyError, ValueError, OverflowError):
        raise cells.error("the answers are not understood", 'write {"text": [...], "answer_start": [...]}') from None
    if len(texts) != len(starts):
        what = f"{len(texts)} answers with {len(starts)} starts"
        raise cells.error(what, "give every answer its start")
    pairs = [(text, start) for text, start in zip(texts, starts, strict=True) if text]
    for text, start in pairs:
        if start < 0 or not context.startswith(text, start):
            what = f"answer_start {start} does not point at the answer {quoted(text)}"
            raise cells.error(what, "count the context's characters, not bytes, from 0")
    return Answers(tuple(text for text, _ in pairs), tuple(start for _, start in pairs)) if pairs else None


def written(cells: Cells) -> Example:
    """An example of one text, or two, with the texts that may be written for it."""
    value = cells.label()
    pair = cells.text("pair") if "pair" in cells.columns else None
    label = None if value is None else references(value, cells)
    return Example(text=cells.text("text"), pair=pair, label=label)


def references(value: Any, cells: Cells) -> References:
    """The texts that may be written: the cell's own, then those of a column `references` of the row, each once."""
    listed = pick(REFERENCES, cells.row)
    beside = None if listed in (None, cells.columns["label"]) else cells.row[listed]
    texts = [*as_texts(value, cells.columns["label"] == listed, cells)]
    texts += [] if missing(beside) else as_texts(beside, True, cells)
    known = tuple(dict.fromkeys(text for text in texts if text.strip()))
    if not known:
        raise cells.error("there is no text to be written", "give one, or take the row out")
    return References(known)


def as_texts(value: Any, is_listed: bool, cells: Cells) -> list[str]:
    """The texts of a cell: a list's, and where it is the column of lists those of a JSON list, else the cell itself."""
    if is_listed and isinstance(value, str) and value.lstrip().startswith("["):
        value = cells.json_list(value) or value
    texts = value if isinstance(value, list) else [value]
    if any(isinstance(text, bool) or not isinstance(text, str | int | float) for text in texts):
        raise cells.error("the text to be written is not a text, nor a list of texts", 'write "a" or ["a", "b"]')
    return [str(text) for text in texts]


MAKERS: dict[Kind, Callable[[Cells], Example]] = {
    "classification": classified,
    "multilabel": labelled,
    "pair": classified,
    "regression": rated,
    "choice": chosen,
    "tagging": tagged,
    "span": spanned,
    "text": written,
}
