"""Loads tasks: the room's entry point, from a file, a folder or a hub name to a checked Task."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from promptgraft.arguments import checked
from promptgraft.errors import TaskError, UsageError, quoted
from promptgraft.task.compare import count_rows, repeat_notes
from promptgraft.task.examples import make_examples
from promptgraft.task.frames import NAME, TaskData, as_table, features_of, is_table, rows_of
from promptgraft.task.hub import PREFIX
from promptgraft.task.infer import infer_columns, infer_kind, infer_text_columns, naming, no_column, structure
from promptgraft.task.kinds import KINDS
from promptgraft.task.labels import case_notes, first_seen, given_labels, in_classes, name_notes, settle_labels
from promptgraft.task.metrics import METRICS
from promptgraft.task.multilabel import JOINTS, as_list, gather_flags, list_labels, multilabel_notes, parts_of
from promptgraft.task.names import LABELS, pick
from promptgraft.task.naming import settle_name
from promptgraft.task.readers import file_format, read_lines, read_table
from promptgraft.task.sampling import cut
from promptgraft.task.table import Columns, Table
from promptgraft.task.tables import read_tables
from promptgraft.task.task import Example, Kind, References, Task
from promptgraft.task.taskfile import FILE_NAME, TaskFile, read_task_file, unknown_at
from promptgraft.task.values import as_class, label_name, missing

OTHER_NAMES = {"text2text": "text", "rouge": "rougeL"}
"""What files also call a kind or a metric."""
UNCOUNTED = ("sari", "gleu", "meteor", "bertscore")
"""Published metrics of written texts that are not computed here."""
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.125


@runtime_checkable
class TaskLike(Protocol):
    """What `read_texts` must know of a task: its name, its kind and, where known, its columns. A Task is one."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def columns(self) -> Mapping[str, str]: ...


@checked
def load_task(
    path: TaskData,
    *,
    kind: str | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    metric: str | None = None,
    positive: str | None = None,
    name: str | None = None,
    labels: Mapping[Any, str | None] | Iterable[Any] | str | None = None,
    header: bool = True,
    seed: int = 13,
) -> Task:
    """Loads a task from a data file, a folder of split files (with or without task.toml), a table, or `hub:NAME`.

    Arguments override task.toml; what neither says is inferred and noted in `Task.notes`. Exports of labelling tools
    and files of benchmarks are recognised (`task/formats`), with a note. A single file or table is split by its column
    `split`, else by seed into train (70 %), validation (10 %) and test (20 %), class by class; classes of one or two
    rows stay in train. A split without rows is absent. A test split without labels is left out; if there is then no
    test split, the validation split becomes the test split.

    Args:
        path: a file, a folder, `hub:NAME` or `hub:NAME/config`; or a table in memory: a frame of pandas, polars or
            pyarrow, a Dataset or DatasetDict of `datasets`, a list of dictionaries, or splits of these by name.
        text, pair, label: column names; for tagging the words (text) and tags (label), for span the question (text),
            context (pair) and answers (label).
        metric: a name of `METRICS`; positive: the positive class for metric "f1".
        name: name of the task; default: that of the file or folder, `data` for a table.
        labels: label -> its description, as in task.toml; None, or a list of names, uses the name as description. A
            file or table without labels is then a task without labelled rows, whose texts are unlabelled.
        header: whether the first line of csv and tsv names the columns; else they are `text`, or `column_1`, ...
        seed: for splitting a single file.
    Raises: TaskError, one line with file:line, for data that cannot be used; UsageError for invalid labels.
    """
    address = NAME if is_table(path) else str(path)
    file = read_folder_file(path)
    if labels is not None:
        given = given_labels(labels)
        file = file.model_copy(update={"labels": {label: words or label for label, words in given.items()}})
        if label is None and (kind or file.kind) in (None, "classification"):
            texts = _texts_alone(path, text, name, given, header=header)
            if texts is not None:
                return texts
    declared = given_columns(file, text, pair, label)
    declared_kind = settle_kind(kind or file.kind, "text" if file.target_column else None, address)
    found = _understood(path, file, declared, declared_kind, header=header, partly=labels is not None)
    splits, unanswered = answered(_examples_of(found, declared))
    described, label_notes = _labels_of(found, splits, declared)
    task_metric, metric_notes = settle_metric(
        metric or file.metric, found.kind, list(described), address, language=file.language, of_file=metric is None
    )
    class_of_f1 = settle_positive(positive or file.positive, described, address)
    metric_notes += f1_notes(task_metric, class_of_f1, described)
    splits, split_notes = complete(splits, seed)
    task_name, name_notes = settle_name(name or file.name, path)
    return Task(
        name=task_name,
        kind=found.kind,
        metric=task_metric,
        labels=described,
        splits=splits,
        positive=class_of_f1,
        language=file.language,
        family=file.family,
        licence=file.source.licence,
        source=file.source.repo or file.source.url or (address if address.startswith(PREFIX) else None),
        notes=(
            *name_notes, *found.notes, *label_notes, *metric_notes, *found.dropped, *unanswered,
            *_notes_on_rows(file, found, splits, split_notes),
        ),
        columns=found.columns.named(),
        separator=found.separator,
    )  # fmt: skip


def _examples_of(found: Understood, declared: Columns) -> dict[str, tuple[Example, ...]]:
    """The labelled rows of each split as examples, their labels written as the declared classes are, or train's."""
    examples = {
        split: make_examples(
            found.kind, found.columns.named() | table.columns.named() | declared.named(), table.rows, table.where, True
        )
        for split, table in found.labelled.items()
    }
    classes = found.labels or first_seen(examples["train"])
    return {split: in_classes(found.kind, rows, classes) for split, rows in examples.items()}


def _labels_of(
    found: Understood, splits: Mapping[str, tuple[Example, ...]], declared: Columns
) -> tuple[dict[str, str], list[str]]:
    """Labels with their descriptions, and notes on which they are and how they stand in rows."""
    lines = {split: (table.where, table.rows) for split, table in found.labelled.items()}
    is_guessed = declared.label is None and found.tables["train"].columns.label is None
    guessed = found.columns.label if is_guessed else None
    described, notes = settle_labels(found.kind, splits, lines, found.labels, guessed)
    several = multilabel_notes(found.kind, found.columns, found.tables["train"], described, splits)
    return described, [*notes, *case_notes(described), *several]


def _notes_on_rows(
    file: TaskFile, found: Understood, splits: Mapping[str, tuple[Example, ...]], drawn: Sequence[str]
) -> tuple[str, ...]:
    """Notes on how many rows there are, which are drawn, empty, or come again, and on what answers are held against.

    Args:
        drawn: how splits were drawn.
    """
    counted, empty = count_notes(file, found.tables), empty_notes(found.labelled, found.columns)
    return (*counted, *drawn, *empty, *repeat_notes(splits), *reference_notes(splits))


@dataclass(frozen=True)
class Understood:
    """Tables of a task, with what their columns hold.

    Attributes:
        labelled: those whose rows have labels.
        labels: the declared ones with their descriptions, or the columns of several labels a row.
        separator: what stands between the labels of a row, where there are several.
        notes, dropped: what was inferred, and what was left out.
    """

    tables: dict[str, Table]
    labelled: dict[str, Table]
    kind: Kind
    columns: Columns
    labels: dict[str, str]
    separator: str | None
    notes: tuple[str, ...]
    dropped: tuple[str, ...]


def _understood(
    path: TaskData, file: TaskFile, declared: Columns, declared_kind: Kind | None, *, header: bool, partly: bool
) -> Understood:
    """Read the tables and settle the kind, the columns and how labels stand in them.

    Args:
        partly: whether some rows may have no label in any format.
    """
    tables, notes = read_tables(path, header=header, kind=declared_kind, named=declared.named().values())
    if partly:
        tables = {split: dataclasses.replace(table, unlabelled=True) for split, table in tables.items()}
    tables, flags, flag_notes = gather_flags(tables, declared, declared_kind)
    train = tables["train"]
    kind = declared_kind or train.kind or ("multilabel" if flags else None)
    columns, column_notes = infer_columns(declared.over(train.columns), kind, train.rows, train.where)
    if kind is None:
        kind, note = infer_kind(columns, train.rows, declared=bool(file.labels))
        column_notes.append(note)
    labels = file.labels or {flag: flag for flag in flags}
    separator = None
    if kind == "multilabel":
        tables, separator = list_labels(tables, columns.label or "", labels)
    labelled, dropped = labelled_tables(tables, columns)
    inferred = (*notes, *flag_notes, *column_notes)
    return Understood(tables, labelled, kind, columns, labels, separator, inferred, tuple(dropped))


def _texts_alone(
    path: TaskData, text: str | None, name: str | None, labels: Mapping[str, str | None], *, header: bool
) -> Task | None:
    """The task whose labels are known and whose texts have none; None where there is more than a file of texts."""
    if isinstance(path, Mapping) or not (is_table(path) or Path(path).is_file()):
        return None
    wanted = _Wanted("", "classification", {} if text is None else {"text": text})
    try:
        if is_table(path):
            table = as_table(rows_of(path, NAME), features_of(path), NAME, wanted.kind, wanted.columns.values())
        else:
            table = read_inputs(path, wanted, header=header)
        if table.kind is not None:
            return None
        columns = columns_of(wanted, table, wanted.columns)
    except TaskError:
        return None
    label = _label_column(table)
    if _has_labels(table, label, columns["text"], labels):
        return None
    if len(labels) < 2:
        what = "one label only is declared" if labels else "no label is declared"
        raise TaskError(what, where=table.where, do="declare two labels or more")
    examples = make_examples("classification", columns, table.rows, table.where, labelled=False)
    task_name, named = settle_name(name, path)
    count = "1 text is" if len(examples) == 1 else f"{len(examples):,} texts are"
    note = f"no labels in {Path(table.where).name}: {count} unlabelled"
    passed_over = [] if label in (None, columns["text"]) else _unread_labels(table, str(label))
    return Task(
        name=task_name,
        kind="classification",
        metric="accuracy",
        labels={label: words or label for label, words in labels.items()},
        splits={"unlabelled": examples},
        notes=(*named, *table.notes, note, *passed_over, *name_notes(labels), *case_notes(labels)),
        columns=columns,
    )


@dataclass(frozen=True)
class _Wanted:
    """What is known of a task whose file is read for its texts."""

    name: str
    kind: Kind
    columns: Mapping[str, str]


def _label_column(table: Table) -> str | None:
    """The column of a file that would be read as the label; None where none can be told, or it is empty."""
    try:
        columns, _ = infer_columns(table.columns, None, table.rows, table.where)
    except TaskError:
        return None
    label = columns.label
    return None if label is None or all(missing(row.get(label)) for row, _ in table.rows) else label


def _has_labels(table: Table, label: str | None, text: str, declared: Collection[str]) -> bool:
    """Whether the rows of a file have labels, of which it is known what they may be.

    A column of the usual name of a label has some, unless it is filled in part and of one class so far. Another column,
    or columns of 0 and 1, have some only where there is a declared one among them.

    Args:
        label, text: the columns that would be read as such.
    """
    if structure(table.columns, table.rows) in ("tagging", "choice", "span"):
        return label is not None
    if label is not None and label == pick(LABELS, {label: ""}):
        present = [str(row.get(label)) for row, _ in table.rows if not missing(row.get(label))]
        return len(present) == len(table.rows) or len(set(present)) > 1
    _, flags, _ = gather_flags({"train": table}, Columns(), None)
    if any(flag in declared for flag in flags):
        return True
    folded = {name.casefold() for name in declared}
    return any(
        as_class(name, declared).casefold() in folded
        for row, _ in table.rows
        for column, value in row.items()
        if column != text
        for name in _names(value)
    )


def _names(value: object) -> Iterator[str]:
    """The names of labels that a cell may hold: its own, and those that it lists or joins."""
    for part in [value] if (parts := as_list(value)) is None else parts:
        name = label_name(part)
        yield name
        for joint in JOINTS:
            yield from parts_of(name, joint)


def _unread_labels(table: Table, label: str) -> list[str]:
    """A note on a column that would be read as the label, were one of two classes or of a declared label in it."""
    present = [label_name(row[label]) for row, _ in table.rows if not missing(row.get(label))]
    if label == pick(LABELS, {label: ""}):
        rows = f"{count_rows(len(present))} labelled {quoted(present[0])} (column {quoted(label)})"
        return [f"{rows} not used: no row has another label"]
    return [f"column {quoted(label)} holds no declared label and is not read; if it is the label: --label-column"]


def read_texts(path: str | Path, task: TaskLike, named: Collection[str] = ()) -> list[Example]:
    """The rows of a file to predict, in order: the task's columns, a label only where there is one.

    What there was to say about reading them is a warning.
    Args:
        named: the roles whose columns were named for this file.
    Raises: TaskError as `load_task` does.
    """
    table = read_inputs(path, task)
    columns = columns_of(task, table, named, option=bool(named))
    notes = list(table.notes)
    if table.columns.text is None and columns.keys() - task.columns.keys():
        notes.append(f"columns inferred: {', '.join(f'{role} = {quoted(name)}' for role, name in columns.items())}")
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return list(make_examples(task.kind, columns, table.rows, str(path), labelled=False))


def read_inputs(path: str | Path, task: TaskLike, *, header: bool = True) -> Table:
    """The rows of a file to predict.

    A .txt file holds one text a line (blank lines are passed over), for tasks of a single text, or lines of a format
    that is known.
    Raises: TaskError as `load_task` does.
    """
    path = Path(path)
    if file_format(path) != "txt":
        return read_table(path, header=header, kind=task.kind, named=task.columns.values())
    table = read_lines(path, task.kind)
    if table.kind is None and (not KINDS[task.kind].single or "pair" in task.columns):
        raise TaskError(f"a {task.kind} task needs more than a text", where=path, do="give a csv or jsonl file")
    return table


def columns_of(task: TaskLike, table: Table, named: Collection[str] = (), *, option: bool = True) -> dict[str, str]:
    """The column of each role in rows to predict: the task's own columns, else those of the file's format.

    What neither knows is found by its usual name. A single column is the text whatever its name. A column that is named
    has to be there.

    Args:
        named: the roles whose columns were named for these rows, and are not those that the task was read from.
        option: whether an option could name another column.
    Raises: TaskError where a column of the task is not there, or a needed one cannot be told.
    """
    known, names = dict(task.columns), list(table.rows[0][0])
    for role in named:
        _check_there(role, known[role], table, option=option)
    if "text" not in named and known.get("text") not in names:
        if table.columns.text is not None:
            return table.columns.named()
        if "text" in known and len(names) == 1 and KINDS[task.kind].single:
            known["text"] = names[0]
    for role in (role for role in known if role != "label"):
        _check_there(role, known[role], table, f", from which {task.name} is read", option=option)
    if any(role not in known for role in KINDS[task.kind].needs):
        return known | infer_text_columns(task.kind, table.rows, table.where, Columns(**known)).named()
    return known


def _check_there(role: str, name: str, table: Table, why: str = "", *, option: bool) -> None:
    """Raises a TaskError where a table has no column of a name, which is looked for in a role."""
    if name not in table.rows[0][0]:
        call = f"Call the right one {quoted(name)}"
        do = naming(role, call) if option else call
        raise no_column(name, table.rows[0][0], table.where, why=why, do=do)


def read_folder_file(path: TaskData) -> TaskFile:
    """The task.toml of a folder; an empty one where there is none."""
    if is_table(path):
        return TaskFile()
    file = Path(path) / FILE_NAME
    is_folder = not str(path).startswith(PREFIX) and Path(path).is_dir()
    return read_task_file(file) if is_folder and file.exists() else TaskFile()


def given_columns(file: TaskFile, text: str | None, pair: str | None, label: str | None) -> Columns:
    """The columns that task.toml or the caller names; the caller wins.

    Raises: UsageError, where the caller gives an empty name.
    """
    columns = file.columns
    for role, name in (("text", text), ("pair", pair), ("label", label)):
        if name == "":
            raise UsageError(f"the name of the {role} column is empty", do="name a column, or leave it out")
    return Columns(
        text or columns.text, pair or columns.pair, columns.question, columns.choices, label or columns.label
    )


def settle_kind(kind: str | None, other: str | None, where: str) -> Kind | None:
    """The kind, if it is a known one; None where it is still to be inferred."""
    kind = kind or other
    if kind is None:
        return None
    known = next((name for name in KINDS if name == OTHER_NAMES.get(kind, kind)), None)
    if known is None:
        raise unknown_at("kind", kind, KINDS, where)
    return known


def settle_metric(
    metric: str | None,
    kind: Kind,
    labels: Sequence[str],
    where: str,
    *,
    language: str | None = None,
    of_file: bool = False,
) -> tuple[str, list[str]]:
    """The metric, checked against the kind; the kind's usual one, with a note, where none is named.

    Args:
        of_file: whether task.toml names it, which may be one that is not computed here.
    """
    metric = OTHER_NAMES.get(metric or "", metric)
    usual, why = usual_metric(kind, labels, language)
    if metric is None:
        return usual, [f"metric: {usual} ({why})"]
    if of_file and KINDS[kind].written and metric in UNCOUNTED:
        return usual, [f"metric: {usual}, since {metric}, which {FILE_NAME} names, is not computed here"]
    fitting = [name for name in METRICS if name in KINDS[kind].metrics]
    if metric not in METRICS:
        raise unknown_at("metric", metric, fitting, where)
    if metric not in fitting:
        raise TaskError(f"metric {metric!r} is not for kind {kind!r}", where=where, do=f"use {' or '.join(fitting)}")
    return metric, []


def usual_metric(kind: Kind, labels: Sequence[str], language: str | None) -> tuple[str, str]:
    """The metric of a task for which none is named, and why."""
    facts = KINDS[kind]
    if facts.label == "tags" and not any(tag.startswith("B-") for tag in labels):
        return "accuracy", f"usual for {kind}"
    if facts.written and language is not None and language[:2] not in ("en", "zh"):
        return "chrf", f"usual for {kind} in other languages than English and Chinese"
    return facts.metrics[0], f"usual for {kind}"


def settle_positive(positive: str | None, labels: Mapping[str, str], where: str) -> str | None:
    """The positive class, if it is one of the classes. Raises: TaskError where it is not."""
    positive = None if positive is None else as_class(positive, labels)
    if positive is not None and positive not in labels:
        raise unknown_at("positive class", positive, labels, where)
    return positive


def f1_notes(metric: str, positive: str | None, labels: Collection[str]) -> list[str]:
    """A note on which F1 is meant, where there are two classes and none is named the positive one."""
    if metric != "f1" or positive is not None or len(labels) != 2:
        return []
    return ["f1: the mean of both classes' F1, since no class is named the positive one"]


def labelled_tables(tables: Mapping[str, Table], columns: Columns) -> tuple[dict[str, Table], list[str]]:
    """The tables without those (other than train) that have no label at all, with a note on each of them.

    Where a format allows rows that no one has labelled yet, these are left out, with their number.
    Raises: TaskError where no row of train is labelled.
    """
    kept, notes = {}, []
    for split, table in tables.items():
        label = table.columns.label or columns.label or ""
        rows = [(row, line) for row, line in table.rows if not missing(row.get(label))]
        if not rows and split != "train":
            notes.append(f"{split}: no labels (column {label!r}), left out")
        elif not rows and table.unlabelled:
            raise TaskError(f"no row has a label (column {label!r})", where=table.where, do="label some rows")
        elif len(rows) < len(table.rows) and table.unlabelled:
            notes.append(f"{split}: {count_rows(len(table.rows) - len(rows))} without a label, left out")
            kept[split] = dataclasses.replace(table, rows=rows)
        else:
            kept[split] = table
    return kept, notes


def answered(splits: Mapping[str, Sequence[Example]]) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """The splits without questions that have no answer in their context, and notes on how many were left out."""
    with_answer = {split: tuple(e for e in examples if e.label is not None) for split, examples in splits.items()}
    dropped = {split: len(splits[split]) - len(with_answer[split]) for split in splits}
    return with_answer, [
        f"{split}: {count_rows(count)} without an answer, left out" for split, count in dropped.items() if count
    ]


def count_notes(file: TaskFile, tables: Mapping[str, Table]) -> list[str]:
    """A note on each split whose rows are not as many as task.toml says."""
    counts = {split: (len(table.rows), file.rows.get(split)) for split, table in tables.items()}
    return [f"{s}: {count_rows(n)}, but task.toml says {m}" for s, (n, m) in counts.items() if m is not None and m != n]


def empty_notes(tables: Mapping[str, Table], columns: Columns) -> list[str]:
    """A note on each split with empty texts: how many, and where the first is."""
    names = [columns.named()[role] for role in ("text", "pair") if role in columns.named()]
    notes = []
    for split, table in tables.items():
        lines = [line for row, line in table.rows if any(is_empty(row[name]) for name in names)]
        if lines:
            notes.append(f"{split}: {count_rows(len(lines))} with an empty text (first: {table.where}:{lines[0]})")
    return notes


def reference_notes(splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """A note on each split whose rows have several texts that may be written."""
    counts = {
        split: [len(example.label.texts) for example in examples if isinstance(example.label, References)]
        for split, examples in splits.items()
    }
    return [
        f"{split}: up to {max(sizes)} references a row ({sum(sizes) / len(sizes):.1f} on average)"
        for split, sizes in counts.items()
        if max(sizes, default=1) > 1
    ]


def is_empty(value: object) -> bool:
    """Whether a text, or a list of words, holds nothing."""
    return not value.strip() if isinstance(value, str) else value is None or value == []


def complete(splits: dict[str, tuple[Example, ...]], seed: int) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """The splits with a test split: the validation split where there is one, else cut from train; and notes.

    A split that would have no rows is absent.
    """
    splits = {split: examples for split, examples in splits.items() if examples or split == "train"}
    if "test" in splits:
        return splits, []
    if "validation" in splits:
        return {"train": splits["train"], "test": splits["validation"]}, ["no test split: validation is used as test"]
    remaining, test = cut(splits["train"], TEST_SHARE, seed)
    train, validation = cut(remaining, VALIDATION_SHARE, seed)
    parts = {"train": train, "validation": validation, "test": test}
    counts = f"{len(train)} train, {len(validation)} validation and {len(test)} test rows"
    notes = [f"one file, split by seed {seed}: {counts}"]
    if not test:
        notes.append("too few rows a class for a test split (three or more give one)")
    return {split: examples for split, examples in parts.items() if examples}, notes
