"""Finds the names of Hugging Face's class numbers, in a parquet file's metadata or in dataset_info.json beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptgraft.errors import TaskError
from promptgraft.task.table import TableRow
from promptgraft.untrusted import read_bytes, read_json

INFO = "dataset_info.json"
LARGEST_INFO = 64 << 20
"""The most bytes of dataset_info.json that are read; one of hundreds of configurations can be large."""


def name_classes(
    rows: Sequence[TableRow], features: Mapping[str, Any], path: Path, source: str
) -> tuple[list[TableRow], list[str], dict[str, list[str]]]:
    """Rows with names for class numbers (None for -1, which is no label), a note, and the names by column.

    Args:
        features: as `datasets` writes them.
        path: where the rows come from; source: where the features do.
    Raises: TaskError for a number that has no name.
    """
    known = {column: classes for column, feature in features.items() if (classes := names_of(feature))}
    names = {
        column: classes for column, classes in known.items() if any(is_numbered(row.get(column)) for row, _ in rows)
    }
    if not names:
        return list(rows), [], {}
    renamed = [
        ({name: class_name(value, names[name], f"{path}:{line}") if name in names else value
          for name, value in row.items()}, line)
        for row, line in rows
    ]  # fmt: skip
    return renamed, [f"{path.name}: names for the numbers of {', '.join(map(repr, names))} from {source}"], names


def info_beside(path: Path) -> dict[str, Any]:
    """The features in dataset_info.json beside the file; empty where there is none."""
    file = path.with_name(INFO)
    if not file.is_file() or file == path:
        return {}
    content = read_json(read_bytes(file, LARGEST_INFO, TaskError), file, TaskError)
    features = content.get("features") if isinstance(content, dict) else None
    return features if isinstance(features, dict) else {}


def names_of(feature: Any) -> list[str] | None:
    """The class names of a feature, or of the items of its lists; None where it has none."""
    if isinstance(feature, list) and len(feature) == 1:
        return names_of(feature[0])
    if not isinstance(feature, dict):
        return None
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list):
        return [str(name) for name in names]
    return names_of(feature["feature"]) if feature.get("_type") in ("Sequence", "List", "LargeList") else None


def is_numbered(value: Any) -> bool:
    """Whether a value is a whole number, or a list of them."""
    if isinstance(value, list):
        return any(map(is_numbered, value))
    return isinstance(value, int) and not isinstance(value, bool)


def class_name(value: Any, names: Sequence[str], where: str) -> Any:
    """The name of a class number, or the names of a list of them; text is a name already."""
    if isinstance(value, list):
        return [class_name(part, names, where) for part in value]
    if not is_numbered(value):
        return value
    if value >= len(names):
        raise TaskError(f"class {value} has no name ({len(names)} are known)", where=where, do="correct the row")
    return None if value < 0 else names[value]
