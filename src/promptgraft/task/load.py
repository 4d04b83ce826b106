"""The door of the room: a file, a folder or a hub name in, a checked Task out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from promptgraft.errors import TaskError
from promptgraft.task.compare import count_rows, repeat_notes
from promptgraft.task.examples import make_examples
from promptgraft.task.hub import PREFIX, read_hub
from promptgraft.task.infer import DEFAULT_METRIC, infer_columns, infer_kind, infer_text_columns, missing, no_column
from promptgraft.task.labels import settle_labels
from promptgraft.task.metrics import METRICS
from promptgraft.task.readers import READERS, Row, file_format, read_rows, read_text
from promptgraft.task.sampling import cut
from promptgraft.task.task import KINDS, SPLITS, Example, Kind, Task
from promptgraft.task.taskfile import FILE_NAME, Columns, TaskFile, read_task_file, unknown_at

SPLIT_FILES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
NEEDED: dict[Kind, tuple[str, ...]] = {
    "pair": ("text", "pair"),
    "span": ("text", "pair"),
    "choice": ("text", "choices"),
}
"""Roles without which a row of the kind cannot be read; of the other kinds the text alone."""
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.125


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one split and where they came from."""

    where: str
    rows: Sequence[Row]


@runtime_checkable
class TaskLike(Protocol):
    """What `read_texts` must know of a task: its kind and, where known, its columns. A Task is one."""

    @property
    def kind(self) -> Kind: ...
    @property
    def columns(self) -> Mapping[str, str]: ...


def load_task(
    path: str | Path,
    *,
    kind: str | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    metric: str | None = None,
    positive: str | None = None,
    name: str | None = None,
    seed: int = 13,
) -> Task:
    """A task from a data file, a folder of split files (with task.toml or without), or `hub:NAME[/config]`.

    What is given here wins over task.toml; what neither says is inferred and noted in `Task.notes`. A single file is
    split by seed into train (70 %), validation (10 %) and test (20 %), class by class. A test split without labels is
    left out; where there is then no test split, the validation split becomes it.

    Args:
        text, pair, label: column names; for tagging the words (text) and tags (label), for span the question (text),
            context (pair) and answers (label).
        metric: a name of `METRICS`; positive: the class whose F1 counts under metric "f1".
        seed: of the split of a single file.
    Raises: TaskError, one line with file:line, for whatever cannot be used.
    """
    tables, said, address = read_tables(path)
    given = given_columns(said, text, pair, label)
    settled = settle_kind(kind or said.kind, "text2text" if said.source_column else None, address)
    columns, notes = infer_columns(given, settled, tables["train"].rows, tables["train"].where)
    if settled is None:
        settled, note = infer_kind(columns, tables["train"].rows, declared=bool(said.labels))
        notes.append(note)
    kept, dropped = labelled_tables(tables, columns)
    splits = {s: make_examples(settled, columns.named(), t.rows, t.where, True) for s, t in kept.items()}
    splits, unanswered = answered(splits)
    labels, label_notes = settle_labels(settled, splits, {s: (t.where, t.rows) for s, t in kept.items()}, said.labels)
    chosen, metric_notes = settle_metric(metric or said.metric, settled, list(labels), address)
    splits, split_notes = complete(splits, seed)
    return Task(
        name=name or said.name or plain_name(path),
        kind=settled,
        metric=chosen,
        labels=labels,
        splits=splits,
        positive=settle_positive(positive or said.positive, labels, address),
        language=said.language,
        family=said.family,
        licence=said.source.licence,
        source=said.source.repo or said.source.url or (address if address.startswith(PREFIX) else None),
        notes=(*notes, *label_notes, *metric_notes, *dropped, *unanswered, *count_notes(said, kept), *split_notes,
               *empty_notes(settled, kept, columns), *repeat_notes(splits)),
        columns=columns.named(),
    )  # fmt: skip


def read_texts(path: str | Path, task: TaskLike) -> list[Example]:
    """The rows of a file to predict, in order: the task's columns, a label only where there is one.

    A .txt file holds one text a line (blank lines are passed over), for tasks of a single text. A file with a single
    column is taken as the text whatever its name. Where the task's columns are not known, they are told by their usual
    names, and labels are not read.
    Raises: TaskError as `load_task` does.
    """
    path = Path(path)
    if file_format(path) == "txt":
        if task.kind not in ("classification", "regression") or "pair" in task.columns:
            raise TaskError(f"a {task.kind} task needs more than a text", where=path, do="give a csv or jsonl file")
        return [Example(text=line) for line in read_text(path).splitlines() if line.strip()]
    rows = read_rows(path)
    columns = columns_of(task, rows, str(path))
    return list(make_examples(task.kind, columns, rows, str(path), labelled=False))


def columns_of(task: TaskLike, rows: Sequence[Row], where: str) -> dict[str, str]:
    """Role -> column of rows to predict: the task's own columns; what it does not know is told by its usual name.

    Raises: TaskError where a column of the task is not there, or a needed one cannot be told.
    """
    known = dict(task.columns)
    if any(role not in known for role in NEEDED.get(task.kind, ("text",))):
        return known | infer_text_columns(task.kind, rows, where, Columns(**known)).named()
    names = list(rows[0][0])
    if known["text"] not in names and len(names) == 1 and task.kind in ("classification", "regression"):
        known["text"] = names[0]
    for role in known.keys() - {"label"}:
        if known[role] not in names:
            raise no_column(known[role], names, where)
    return known


def read_tables(path: str | Path) -> tuple[dict[str, Table], TaskFile, str]:
    """The tables by split (train always among them), what task.toml says, and the address for errors."""
    address = str(path)
    if address.startswith(PREFIX):
        found = read_hub(address)
        tables = {split: Table(f"{address}[{split}]", rows) for split, rows in found.items() if rows}
        return with_train(tables, address), TaskFile(), address
    path = Path(path)
    if not path.exists():
        raise TaskError("no such file or folder", where=path, do=near_path(path))
    if path.is_file():
        return {"train": Table(address, read_rows(path))}, TaskFile(), address
    said = read_task_file(path / FILE_NAME) if (path / FILE_NAME).exists() else TaskFile()
    settle_kind(said.kind, None, address)
    return with_train(split_tables(path), address), said, address


def near_path(path: Path) -> str:
    """What to do about a path that is not there: the nearest name beside it, if one is near."""
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path"


def split_tables(folder: Path) -> dict[str, Table]:
    """The split files of a folder: train, validation (valid, val, dev) and test, in any format."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        stem = file.name.split(".")[0].lower()
        split = next((split for split, names in SPLIT_FILES.items() if stem in names), None)
        if split is None or file_format(file) not in READERS:
            continue
        if split in found:
            what = f"{found[split].name} and {file.name} are both {split}"
            raise TaskError(what, where=folder, do="keep one of them")
        found[split] = file
    return {split: Table(str(found[split]), read_rows(found[split])) for split in SPLITS if split in found}


def with_train(tables: dict[str, Table], address: str) -> dict[str, Table]:
    """The tables, if train is among them."""
    if "train" not in tables:
        do = f"name the files train, validation and test, as {', '.join(READERS)}"
        raise TaskError("no train split", where=address, do=do)
    return tables


def given_columns(said: TaskFile, text: str | None, pair: str | None, label: str | None) -> Columns:
    """The columns that task.toml or the caller names; the caller wins."""
    file = said.columns
    return Columns(text or file.text, pair or file.pair, file.question, file.choices, label or file.label)


def settle_kind(kind: str | None, other: str | None, where: str) -> Kind | None:
    """The kind, checked; None where it is still to be inferred."""
    kind = kind or other
    if kind == "text2text":
        raise TaskError("kind 'text2text' is not supported yet", where=where, do=f"use one of: {', '.join(KINDS)}")
    if kind is not None and kind not in KINDS:
        raise unknown_at("kind", kind, KINDS, where)
    return kind


def settle_metric(metric: str | None, kind: Kind, labels: Sequence[str], where: str) -> tuple[str, list[str]]:
    """The metric, checked against the kind; the kind's usual one, with a note, where none is named."""
    if metric is None:
        plain_tags = kind == "tagging" and not any(tag.startswith("B-") for tag in labels)
        usual = "accuracy" if plain_tags else DEFAULT_METRIC[kind]
        return usual, [f"metric: {usual} (usual for {kind})"]
    fitting = [name for name, entry in METRICS.items() if kind in entry.kinds]
    if metric not in METRICS:
        raise unknown_at("metric", metric, fitting, where)
    if metric not in fitting:
        raise TaskError(f"metric {metric!r} is not for kind {kind!r}", where=where, do=f"use {' or '.join(fitting)}")
    return metric, []


def settle_positive(positive: str | None, labels: Mapping[str, str], where: str) -> str | None:
    """The positive class, checked to be a class."""
    if positive is not None and positive not in labels:
        raise unknown_at("positive class", positive, labels, where)
    return positive


def labelled_tables(tables: Mapping[str, Table], columns: Columns) -> tuple[dict[str, Table], list[str]]:
    """The tables without those (other than train) that have no label at all, with a note on each of them."""
    label = columns.label or ""
    hidden = [s for s, t in tables.items() if s != "train" and all(missing(row.get(label)) for row, _ in t.rows)]
    notes = [f"{split}: no labels (column {label!r}), left out" for split in hidden]
    return {split: table for split, table in tables.items() if split not in hidden}, notes


def answered(splits: Mapping[str, Sequence[Example]]) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """The splits without questions that have no answer in their context, and notes on how many were left out."""
    kept = {split: tuple(e for e in examples if e.label is not None) for split, examples in splits.items()}
    left = {split: len(splits[split]) - len(kept[split]) for split in splits}
    return kept, [f"{split}: {count_rows(count)} without an answer, left out" for split, count in left.items() if count]


def count_notes(said: TaskFile, tables: Mapping[str, Table]) -> list[str]:
    """A note on each split whose rows are not as many as task.toml says."""
    counts = {split: (len(table.rows), said.rows.get(split)) for split, table in tables.items()}
    return [f"{s}: {count_rows(n)}, but task.toml says {m}" for s, (n, m) in counts.items() if m is not None and m != n]


def empty_notes(kind: Kind, tables: Mapping[str, Table], columns: Columns) -> list[str]:
    """A note on each split with empty texts: how many, and where the first is."""
    roles = ("text", "pair") if kind != "choice" else ("text",)
    names = [columns.named()[role] for role in roles if role in columns.named()]
    notes = []
    for split, table in tables.items():
        lines = [line for row, line in table.rows if any(is_empty(row[name]) for name in names)]
        if lines:
            notes.append(f"{split}: {count_rows(len(lines))} with an empty text (first: {table.where}:{lines[0]})")
    return notes


def is_empty(value: object) -> bool:
    """Whether a text, or a list of words, holds nothing."""
    return not value.strip() if isinstance(value, str) else value is None or value == []


def complete(splits: dict[str, tuple[Example, ...]], seed: int) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """The splits with a test split: the validation split where there is one, else cut from train; and notes."""
    if "test" in splits:
        return splits, []
    if "validation" in splits:
        return {"train": splits["train"], "test": splits["validation"]}, ["no test split: validation is used as test"]
    rest, test = cut(splits["train"], TEST_SHARE, seed)
    train, validation = cut(rest, VALIDATION_SHARE, seed)
    counts = f"{len(train)} train, {len(validation)} validation and {len(test)} test rows"
    return {"train": train, "validation": validation, "test": test}, [f"one file, split by seed {seed}: {counts}"]


def plain_name(path: str | Path) -> str:
    """A task's name by its path: the folder's name, or the file's without its ending."""
    last = str(path).removeprefix(PREFIX).replace("\\", "/").rstrip("/").split("/")[-1]
    is_hub = str(path).startswith(PREFIX)
    return last if is_hub or Path(path).is_dir() else last.split(".")[0]
