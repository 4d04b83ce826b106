"""The classes of a task, and what can be wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from promptgraft.errors import TaskError
from promptgraft.task.infer import NUMBER
from promptgraft.task.readers import Row
from promptgraft.task.task import Example, Kind

OUTSIDE = "O"
Splits = Mapping[str, Sequence[Example]]
Lines = Mapping[str, tuple[str, Sequence[Row]]]
"""Split -> its file and the rows its examples were made of, to say where a label stands."""


def settle_labels(
    kind: Kind, splits: Splits, lines: Lines, declared: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Labels with descriptions in class order, and notes; empty for kinds without classes.

    Declared labels (task.toml) keep their order; else names are sorted, numbers by value.
    Raises: TaskError for a label that is not declared, one that train lacks, one class only, numbers among words.
    """
    if kind == "tagging":
        return tag_labels(splits, declared), []
    if kind not in ("classification", "pair"):
        return {}, []
    seen = {split: first_seen(examples) for split, examples in splits.items()}
    refuse_one_class(seen, lines)
    if declared:
        refuse_undeclared(seen, lines, declared)
        return dict(declared), absent_from_train(seen, declared)
    refuse_mixed(seen["train"], lines)
    refuse_unseen(seen, lines)
    names = sorted(seen["train"], key=class_order)
    return {name: name for name in names}, [f"labels inferred: {', '.join(names)}"]


def first_seen(examples: Sequence[Example]) -> dict[str, int]:
    """Label -> row number of its first example."""
    seen: dict[str, int] = {}
    for n, example in enumerate(examples):
        seen.setdefault(str(example.label), n)
    return seen


def place(lines: Lines, split: str, row: int) -> str:
    """file:line of a split's row."""
    where, rows = lines[split]
    return f"{where}:{rows[row][1]}"


def class_order(name: str) -> tuple[bool, float, str]:
    """Numbers first and by value, then words."""
    number = NUMBER.fullmatch(name) is not None
    return not number, float(name) if number else 0.0, name


def refuse_one_class(seen: Mapping[str, Mapping[str, int]], lines: Lines) -> None:
    """Raises where train has a single class."""
    if len(seen["train"]) == 1:
        what = f"train has one class only ({next(iter(seen['train']))!r})"
        raise TaskError(what, where=lines["train"][0], do="give examples of two classes or more")


def refuse_undeclared(seen: Mapping[str, Mapping[str, int]], lines: Lines, declared: Mapping[str, str]) -> None:
    """Raises for a label that [labels] of task.toml does not have."""
    for split, label, row in each(seen):
        if label not in declared:
            near = difflib.get_close_matches(label, declared, n=1, cutoff=0.5)
            do = f"did you mean {near[0]!r}?" if near else f"declared: {', '.join(declared)}"
            what = f"the label {label!r} is not in [labels] of task.toml"
            raise TaskError(what, where=place(lines, split, row), do=do)


def refuse_unseen(seen: Mapping[str, Mapping[str, int]], lines: Lines) -> None:
    """Raises for a label of another split that train never shows."""
    for split, label, row in each(seen):
        if label not in seen["train"]:
            what = f"the label {label!r} of {split} does not occur in train ({', '.join(sorted(seen['train']))})"
            do = "correct it, or declare it under [labels] in task.toml"
            raise TaskError(what, where=place(lines, split, row), do=do)


def each(seen: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str, int]]:
    """Every split's labels with the row of their first example."""
    return ((split, label, row) for split, labels in seen.items() for label, row in labels.items())


def refuse_mixed(train: Mapping[str, int], lines: Lines) -> None:
    """Raises where some labels are numbers and some are words: most often a row that slipped."""
    numbers = [label for label in train if NUMBER.fullmatch(label)]
    words = [label for label in train if not NUMBER.fullmatch(label)]
    if numbers and words:
        odd = min(numbers, words, key=len)[0]
        what = f"labels are mixed, numbers ({numbers[0]}) and words ({words[0]}); here {odd!r}"
        do = "correct the rows, or declare all labels under [labels] in task.toml"
        raise TaskError(what, where=place(lines, "train", train[odd]), do=do)


def absent_from_train(seen: Mapping[str, Mapping[str, int]], declared: Mapping[str, str]) -> list[str]:
    """A note for declared labels that train never shows."""
    absent = [label for label in declared if label not in seen["train"]]
    return [f"declared labels that train lacks: {', '.join(absent)}"] if absent else []


def tag_labels(splits: Splits, declared: Mapping[str, str]) -> dict[str, str]:
    """Tags with descriptions: O first, then by declared order, B before I; a type's description serves its tags."""
    tags = {tag for examples in splits.values() for example in examples for tag in (example.label or ())}  # type: ignore[union-attr]
    order = {name: n for n, name in enumerate(declared)}

    def rank(tag: str) -> tuple[bool, int, str, str]:
        place = order.get(tag, order.get(tag[2:], len(order)))
        return tag != OUTSIDE, place, tag[2:] or tag, tag[:1]

    return {tag: declared.get(tag) or declared.get(tag[2:]) or tag for tag in sorted(tags, key=rank)}
