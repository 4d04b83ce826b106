"""Infers what a file does not say about itself: its kind, which column plays which role, labels and metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from promptgraft.errors import TaskError, listed, listed_quoted, nearest, quoted
from promptgraft.task.answers import IDEOGRAPH
from promptgraft.task.multilabel import as_list, many_hot, several
from promptgraft.task.names import (
    ANSWERS,
    CHOICES,
    CLASSES,
    CONTEXTS,
    IDS,
    LABELS,
    PAIRS,
    REFERENCES,
    SOURCES,
    SURE_TARGETS,
    TAGS,
    TARGETS,
    TEXTS,
    WORDS,
    pick,
)
from promptgraft.task.table import Columns, TableRow
from promptgraft.task.task import Kind
from promptgraft.task.values import as_float, is_number, label_name, missing

ROLES = ("text", "pair", "label")
"""What a column may be said to hold."""
COMPARED = 1000
"""How many column names a misspelt name is compared with."""
NO_LABEL = "\0"
MOST_NUMBERED_CLASSES = 100
"""Up to so many whole numbers are classes if each occurs twice on average; more only if they occur more often."""
MANY_ROWS = 5
"""Rows a number, on average, from which whole numbers are classes however many there are."""


def no_column(name: str, columns: Iterable[str], where: str, *, why: str = "", do: str = "") -> TaskError:
    """The error for a column that is not there, with the nearest one that is.

    Args:
        why: it is looked for.
        do: to have another one read.
    """
    columns = list(columns)
    near = nearest(name, columns[:COMPARED])
    hint = f"its columns: {listed(columns)}" if near is None else f"did you mean {quoted(near)}?"
    more = "" if not do else f". {do}" if near is None else f" {do}"
    return TaskError(f"no column {quoted(name)}{why}", where=where, do=f"{hint}{more}")


def naming(role: str, otherwise: str) -> str:
    """How another column is named for a role, where an option does that."""
    return f"Name it with --{role}-column" if role in ROLES else otherwise


def infer_columns(given: Columns, kind: Kind | None, rows: Sequence[TableRow], where: str) -> tuple[Columns, list[str]]:
    """The roles of a file's columns: as given, else inferred from names and values, with a note on what was inferred.

    Raises: TaskError where a given column is not in the first row, or a needed one cannot be told.
    """
    names = list(rows[0][0])
    known = set(names)
    for role, name in given.named().items():
        if name not in known:
            raise no_column(name, names, where, do=naming(role, "Name it in task.toml"))
    columns = FINDERS[kind or structure(given, rows)](given, rows, where)
    refuse_two_roles(columns, where)
    inferred = {role: name for role, name in columns.named().items() if getattr(given, role) is None}
    if not inferred:
        return columns, []
    note = f"columns inferred: {', '.join(f'{role} = {quoted(name)}' for role, name in inferred.items())}"
    used = set(columns.named().values())
    unused = [name for name in names if name not in used]
    return columns, [note + (f" (not used: {listed_quoted(unused)})" if unused else "")]


def refuse_two_roles(columns: Columns, where: str) -> None:
    """Raises an error where one column plays two roles, such as text and label."""
    roles: dict[str, str] = {}
    for role, name in columns.named().items():
        if name in roles:
            do = "give each a column of its own"
            raise TaskError(f"column {quoted(name)} is both {roles[name]} and {role}", where=where, do=do)
        roles[name] = role


def infer_text_columns(kind: Kind, rows: Sequence[TableRow], where: str, given: Columns) -> Columns:
    """The roles of a file to predict, as given or by their usual names; labels in it are not looked for.

    Raises: TaskError where a needed column cannot be told.
    """
    columns = FINDERS[kind](replace(given, label=NO_LABEL), rows, where)
    return replace(columns, label=None)


def structure(given: Columns, rows: Sequence[TableRow]) -> Kind:
    """The kind by the names and types of the columns; "classification" and "pair" also stand for regression."""
    first = rows[0][0]
    words = given.text or pick(WORDS, first)
    if isinstance(first.get(words or ""), list) or (words and pick(WORDS, {words: ""}) and pick(TAGS, first)):
        return "tagging"
    if given.choices or nested(first.get(pick(CHOICES, first) or "")):
        return "choice"
    if (given.pair or pick(CONTEXTS, first)) and nested(first.get(given.label or pick(ANSWERS, first) or "")):
        return "span"
    if given.pair or (given.text is None and any(a in first and b in first for a, b in PAIRS)):
        return "pair"
    return "text" if is_written(given, rows) else "classification"


def is_written(given: Columns, rows: Sequence[TableRow]) -> bool:
    """Whether a column of a usual name holds texts to be written: most differ and have several words, and no labels."""
    first = rows[0][0]
    target = pick(SURE_TARGETS, first)
    others = {name: "" for name in first if name != target}
    if target is None or given.label not in (None, target) or pick(LABELS, others):
        return False
    values = [row.get(target) for row, _ in rows]
    if any(isinstance(value, list) for value in values):
        return all(isinstance(value, list) for value in values) and target.strip().lower() in REFERENCES
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    long = sum(len(text.split()) > 2 or len(IDEOGRAPH.findall(text)) > 4 for text in texts)
    return 2 * long > len(values) and 2 * len(set(texts)) > len(values)


def nested(value: Any) -> bool:
    """Whether a value is a list or an object, or (in csv and tsv) JSON for one."""
    return isinstance(value, list | dict) or (isinstance(value, str) and value.lstrip()[:1] in ("[", "{"))


def infer_kind(columns: Columns, rows: Sequence[TableRow], declared: bool) -> tuple[Kind, str]:
    """The inferred kind, with the reason for it. Numbers mean regression, unless they are whole and stand for classes.

    Args:
        declared: whether task.toml has [labels], so that numbers are names.
    """
    kind = structure(columns, rows)
    if kind not in ("classification", "pair"):
        return kind, f"kind inferred: {kind} (by the columns)"
    values = [row[columns.label] for row, _ in rows if columns.label in row and not missing(row[columns.label])]
    if kind == "classification" and (why := several(values)):
        return "multilabel", f"kind inferred: multilabel ({why}; if each is a class of its own: --kind classification)"
    classes = len(set(map(label_name, values)))
    if not values or declared or not all(is_number(value) for value in values):
        return kind, f"kind inferred: {kind} ({classes} different labels)"
    numbers = {as_float(value) for value in values}
    if not are_classes(numbers, len(values), columns.label or ""):
        other = "if they are classes: --kind classification"
        return "regression", f"kind inferred: regression (the labels are {len(numbers)} different numbers; {other})"
    other = "if they are amounts: --kind regression"
    return kind, f"kind inferred: {kind} ({classes} different labels, whole numbers; {other})"


def are_classes(numbers: set[float], rows: int, column: str) -> bool:
    """Whether numbers stand for classes: they are whole, and either repeat often or count up in a column for labels.

    Under a name such as `label` they count classes if they leave few gaps: 0, 1, 2, ... and not 1999, 2499.
    """
    if not all(number.is_integer() for number in numbers):
        return False
    if len(numbers) <= min(MOST_NUMBERED_CLASSES, rows // 2) or len(numbers) * MANY_ROWS <= rows:
        return True
    return column.strip().lower() in CLASSES and max(numbers) - min(numbers) < 2 * len(numbers)


def find_single(given: Columns, rows: Sequence[TableRow], where: str) -> Columns:
    """The text and label columns of a classification or regression of one text (or two, where a second is given)."""
    label = given.label or find_label(rows, taken=(given.text, given.pair), where=where)
    text = given.text or find_text(rows, taken=(label, given.pair), where=where)
    return Columns(text=text, pair=given.pair, label=label)


def find_pair(given: Columns, rows: Sequence[TableRow], where: str) -> Columns:
    """The columns of both texts and of the label of a pair task."""
    first = rows[0][0]
    usual = next(((a, b) for a, b in PAIRS if a in first and b in first), (None, None))
    label = given.label or pick(LABELS, first)
    text = given.text or (usual[0] if usual[0] != given.pair else usual[1])
    text = text or find_text(rows, taken=(label, given.pair), where=where)
    pair = given.pair or (usual[1] if usual[1] != text else usual[0])
    pair = pair or find_text(rows, taken=(label, text), where=where, role="pair")
    return Columns(text=text, pair=pair, label=label or find_label(rows, taken=(text, pair), where=where))


def find_regression(given: Columns, rows: Sequence[TableRow], where: str) -> Columns:
    """The columns of a regression: one text or two, and a number."""
    return (find_pair if structure(given, rows) == "pair" else find_single)(given, rows, where)


def find_choice(given: Columns, rows: Sequence[TableRow], where: str) -> Columns:
    """The columns of text, options and right option; a column `question` beside the text becomes its second part."""
    first = rows[0][0]
    choices = given.choices or needed(CHOICES, first, "choices", "the options (a list)", where)
    label = given.label or needed((*LABELS, *ANSWERS), first, "label", "the right option", where)
    text = given.text or find_text(rows, taken=(choices, label), where=where)
    question = given.question or pick(("question",), {name: "" for name in first if name != text})
    return Columns(text=text, question=question, choices=choices, label=label)


def find_tagging(given: Columns, rows: Sequence[TableRow], where: str) -> Columns:
    """The columns of words and of their tags."""
    first = rows[0][0]
    text = given.text or needed(WORDS, first, "text", "the words", where)
    return Columns(text=text, label=given.label or needed(TAGS, first, "label", "the tags", where))


def find_span(given: Columns, rows: Sequence[TableRow], where: str) -> Columns:
    """The columns of question, context and answers."""
    first = rows[0][0]
    pair = given.pair or needed(CONTEXTS, first, "pair", "the context", where)
    text = given.text or needed(("question", "query"), first, "text", "the question", where)
    return Columns(text=text, pair=pair, label=given.label or needed(ANSWERS, first, "label", "the answers", where))


def find_written(given: Columns, rows: Sequence[TableRow], where: str) -> Columns:
    """The columns of a text, or two, and of the text that is to be written for it."""
    first = rows[0][0]
    text_names = {name: "" for name in first if name not in (given.label, given.pair)}
    text = given.text or pick(SOURCES, text_names)
    label = given.label or needed(
        TARGETS,
        {name: "" for name in first if name not in (text, given.pair)},
        "label",
        "the text to be written",
        where,
    )
    text = text or find_text(rows, taken=(label, given.pair), where=where)
    return Columns(text=text, pair=given.pair, label=label)


FINDERS: dict[Kind, Callable[[Columns, Sequence[TableRow], str], Columns]] = {
    "classification": find_single,
    "multilabel": find_single,
    "pair": find_pair,
    "regression": find_regression,
    "choice": find_choice,
    "tagging": find_tagging,
    "span": find_span,
    "text": find_written,
}


def needed(names: Sequence[str], row: dict[str, Any], role: str, what: str, where: str) -> str:
    """The column of a usual name. Raises: TaskError where there is none."""
    column = pick(names, row)
    if column is None:
        raise undecided(role, what, f"usual names: {', '.join(names)}", row, where)
    return column


def undecided(role: str, what: str, why: str, row: dict[str, Any], where: str) -> TaskError:
    """The error for a role that no column plays for certain."""
    columns = listed_quoted(list(row))
    do = f"name it with --{role}-column, or in task.toml" if role in ROLES else "name it in task.toml"
    if role == "label" and len(row) == 1:
        do = "label its rows, or declare what labels there are (--label)"
    return TaskError(f"cannot tell which column holds {what} ({why}; its columns: {columns})", where=where, do=do)


def find_label(rows: Sequence[TableRow], taken: Sequence[str | None], where: str) -> str:
    """The label's column: by its usual name, else the only one of lists.

    Else the only one of two that holds numbers, else the one whose values repeat most.
    """
    first = {name: value for name, value in rows[0][0].items() if name not in taken}
    usual = pick(LABELS, first)
    if usual is not None:
        return usual
    lists = [name for name in first if all(as_list(row.get(name)) is not None for row, _ in rows)]
    if len(lists) == 1:
        return lists[0]
    text = pick(TEXTS, first)
    counts = {n: distinct(rows, n) for n in first if n != text and n.strip().lower() not in IDS}
    numbers = [name for name in counts if all(is_number(row.get(name)) for row, _ in rows)]
    if len(numbers) == 1 and len(counts) <= 2:
        return numbers[0]
    repeated = sorted((count, name) for name, count in counts.items() if 1 < count <= len(rows) // 2)
    if not repeated or (len(repeated) > 1 and repeated[0][0] == repeated[1][0]):
        why = "none, or more than one, has few values that come back"
        raise undecided("label", "the label", why, rows[0][0], where)
    return repeated[0][1]


def distinct(rows: Sequence[TableRow], column: str) -> int:
    """How many different values a column has."""
    return len({str(row.get(column)) for row, _ in rows})


def find_text(rows: Sequence[TableRow], taken: Sequence[str | None], where: str, role: str = "text") -> str:
    """The text's column: by its usual name (unless it holds 0 and 1), else the one with the longest values.

    Args:
        role: `pair` where the second text is looked for.
    """
    first = {name: value for name, value in rows[0][0].items() if name not in taken}
    flags = set(many_hot(rows, taken))
    usual = pick(TEXTS, {name: value for name, value in first.items() if name not in flags})
    if usual is not None:
        return usual
    candidates = [n for n, v in first.items() if isinstance(v, str) and n.strip().lower() not in IDS]
    if not candidates:
        what = "the text" if role == "text" else "the second text"
        raise undecided(role, what, "no other column holds text", rows[0][0], where)
    return max(candidates, key=lambda name: sum(len(str(row.get(name) or "")) for row, _ in rows))
