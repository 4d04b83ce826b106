"""Settles the classes of a task, and refuses labels that cannot be right."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from promptgraft.errors import TaskError, UsageError, either, listed, listed_quoted, quoted, shortened
from promptgraft.task.kinds import KINDS
from promptgraft.task.table import TableRow
from promptgraft.task.task import Example, Kind
from promptgraft.task.values import NUMBER, as_class, label_name

OUTSIDE = "O"
Splits = Mapping[str, Sequence[Example]]
Lines = Mapping[str, tuple[str, Sequence[TableRow]]]
"""For each split, its file and the rows its examples were made from, so that errors can say where a label is."""


def settle_labels(
    kind: Kind, splits: Splits, lines: Lines, declared: Mapping[str, str], guessed: str | None = None
) -> tuple[dict[str, str], list[str]]:
    """Labels with descriptions in class order, and notes; empty for kinds without classes.

    Declared labels (task.toml) keep their order; else names are sorted, numbers by value.

    Args:
        guessed: the column of labels, where no one named it.
    Raises: TaskError for a label that is not declared, one that train lacks, one class only, numbers among words.
    """
    facts = KINDS[kind]
    if facts.label == "tags":
        refuse_unseen_types(splits, lines, declared)
        return tag_labels(splits, declared), []
    if not facts.has_classes:
        return {}, []
    seen = {split: first_seen(examples) for split, examples in splits.items()}
    refuse_one_class(seen, lines, declared if facts.several else ())
    if declared:
        refuse_undeclared(seen, lines, declared, guessed)
        return dict(declared), absent_from_train(seen, declared)
    if not facts.several:
        refuse_mixed(seen["train"], lines)
    refuse_unseen(seen, lines)
    names = sorted(seen["train"], key=class_order)
    return {name: name for name in names}, [f"labels inferred: {listed(names)}"]


def given_labels(labels: Mapping[Any, str | None] | Iterable[Any] | str) -> dict[str, str | None]:
    """Label -> description, None where there is none, of what a caller declares: a mapping, or names alone.

    Raises: UsageError where a label has no name or stands twice.
    """
    if isinstance(labels, str):
        labels = [labels]
    pairs = labels.items() if isinstance(labels, Mapping) else ((label, None) for label in labels)
    described: dict[str, str | None] = {}
    for label, text in pairs:
        name = label_name(label)
        if not name:
            raise UsageError("a label has no name", do="write NAME=DESCRIPTION")
        if name in described:
            raise UsageError(f"the label {quoted(name)} is given twice", do="keep one of them")
        described[name] = (str(text).strip() or None) if text is not None else None
    return described


def in_classes(kind: Kind, examples: Sequence[Example], classes: Collection[str]) -> tuple[Example, ...]:
    """Examples whose labels are written as the classes that they stand for; as they are where a kind has none."""
    return tuple(map(partial(_in_classes, classes=classes), examples)) if KINDS[kind].has_classes else tuple(examples)


def _in_classes(example: Example, classes: Collection[str]) -> Example:
    label = example.label
    if isinstance(label, str):
        return replace(example, label=as_class(label, classes))
    if isinstance(label, tuple):
        return replace(example, label=tuple(sorted({as_class(name, classes) for name in label})))
    return example


def first_seen(examples: Sequence[Example]) -> dict[str, int]:
    """For each label, the row number of its first example."""
    seen: dict[str, int] = {}
    for n, example in enumerate(examples):
        for label in example.label if isinstance(example.label, tuple) else (str(example.label),):
            seen.setdefault(label, n)
    return seen


def place(lines: Lines, split: str, row: int) -> str:
    """The place of a split's row, as file:line."""
    where, rows = lines[split]
    return f"{where}:{rows[row][1]}"


def class_order(name: str) -> tuple[bool, float, str]:
    """A sorting key for class names: numbers first and by value, then words."""
    number = NUMBER.fullmatch(name) is not None
    return not number, float(name) if number else 0.0, name


def refuse_one_class(seen: Mapping[str, Mapping[str, int]], lines: Lines, declared: Collection[str] = ()) -> None:
    """Raises an error where train has a single class, or no label at all."""
    if not seen["train"]:
        raise TaskError("no row of train has a label", where=lines["train"][0], do="label some rows")
    if len(seen["train"]) == 1 and len(declared) < 2:
        what = f"train has one class only ({quoted(next(iter(seen['train'])))})"
        raise TaskError(what, where=lines["train"][0], do="give examples of two classes or more")


def name_notes(labels: Mapping[str, str | None]) -> list[str]:
    """A note on labels that nothing describes, so that their names are read; none where all are described."""
    silent = [label for label, words in labels.items() if words is None or words == label]
    return [f"no description of {listed_quoted(silent)}: read is the name"] if silent else []


def case_notes(labels: Iterable[str]) -> list[str]:
    """A note on labels that differ in case only, each of which is a label of its own."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(label.casefold(), []).append(label)
    several = [label for group in alike.values() if len(group) > 1 for label in group]
    return [f"labels that differ in case only: {listed_quoted(several)}"] if several else []


def refuse_undeclared(
    seen: Mapping[str, Mapping[str, int]], lines: Lines, declared: Mapping[str, str], guessed: str | None
) -> None:
    """Raises an error for a label that was not declared."""
    for split, label, row in each(seen):
        if label not in declared:
            near = difflib.get_close_matches(label, declared, n=1, cutoff=0.5)
            do = f"did you mean {quoted(near[0])}?" if near else f"declared: {listed(list(declared))}"
            what = f"the label {quoted(label)} is not declared (--label, or task.toml)"
            if guessed is not None and not near:
                do = either(do, f"name another --label-column than {quoted(guessed)}, or take that out")
            raise TaskError(what, where=place(lines, split, row), do=do)


def refuse_unseen(seen: Mapping[str, Mapping[str, int]], lines: Lines) -> None:
    """Raises an error for a label of another split that does not occur in train."""
    for split, label, row in each(seen):
        if label not in seen["train"]:
            what = f"the label {quoted(label)} of {split} does not occur in train ({listed(sorted(seen['train']))})"
            do = "correct it, or declare it under [labels] in task.toml"
            raise TaskError(what, where=place(lines, split, row), do=do)


def each(seen: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str, int]]:
    """Every split's labels with the row of their first example."""
    return ((split, label, row) for split, labels in seen.items() for label, row in labels.items())


def refuse_mixed(train: Mapping[str, int], lines: Lines) -> None:
    """Raises an error where some labels are numbers and others words, mostly since a row has shifted columns."""
    numbers = [label for label in train if NUMBER.fullmatch(label)]
    words = [label for label in train if not NUMBER.fullmatch(label)]
    if numbers and words:
        odd = min(numbers, words, key=len)[0]
        what = (
            f"labels are mixed, numbers ({shortened(numbers[0])}) and words ({shortened(words[0])}); here {quoted(odd)}"
        )
        do = "correct the rows, or declare all labels under [labels] in task.toml"
        raise TaskError(what, where=place(lines, "train", train[odd]), do=do)


def absent_from_train(seen: Mapping[str, Mapping[str, int]], declared: Mapping[str, str]) -> list[str]:
    """A note on declared labels that do not occur in train."""
    absent = [label for label in declared if label not in seen["train"]]
    return [f"declared labels that train lacks: {listed(absent)}"] if absent else []


def refuse_unseen_types(splits: Splits, lines: Lines, declared: Mapping[str, str]) -> None:
    """Raises an error for a tag of another split whose type (or the tag, if untyped) neither train nor [labels] has.

    Tags that only begin or go on (B-, I-) a type that train knows are no news of what there is to find.
    """
    in_train = {tag_type(tag) for example in splits["train"] for tag in tags_of(example)}
    known = {OUTSIDE, *in_train, *map(tag_type, declared)}
    for split, examples in splits.items():
        for row, example in enumerate(examples):
            strange = next((tag for tag in tags_of(example) if tag_type(tag) not in known), None)
            if strange is not None:
                what = f"the tag {quoted(strange)} of {split} does not occur in train ({listed(sorted(known))})"
                do = "correct it, or declare it under [labels] in task.toml"
                raise TaskError(what, where=place(lines, split, row), do=do)


def tags_of(example: Example) -> tuple[str, ...]:
    """The tags of a row; none where it has no label."""
    return example.label if isinstance(example.label, tuple) else ()


def tag_type(tag: str) -> str:
    """The type of a tag without its prefix: B-LOC and I-LOC are both LOC."""
    return tag[2:] if tag[1:2] == "-" else tag


def tag_labels(splits: Splits, declared: Mapping[str, str]) -> dict[str, str]:
    """Tags with descriptions: O first, then by declared order, B before I; a type's description serves its tags."""
    tags = {tag for examples in splits.values() for example in examples for tag in tags_of(example)}
    order = {name: n for n, name in enumerate(declared)}

    def rank(tag: str) -> tuple[bool, int, str, str]:
        place = order.get(tag, order.get(tag[2:], len(order)))
        return tag != OUTSIDE, place, tag[2:] or tag, tag[:1]

    return {tag: declared.get(tag) or declared.get(tag[2:]) or tag for tag in sorted(tags, key=rank)}
