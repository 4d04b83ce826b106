"""Data sets of the Hugging Face hub, through `datasets` (extra `hub`)."""

from __future__ import annotations

from typing import Any

from promptgraft.errors import MissingExtraError, TaskError
from promptgraft.task.table import TableRow

PREFIX = "hub:"
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev", "validation_matched"),
    "test": ("test", "test_matched"),
}


def read_hub(address: str) -> dict[str, list[TableRow]]:
    """The labelled splits of `hub:NAME[/config]` by split name; class numbers become class names.

    Raises: MissingExtraError without `datasets`; TaskError where it cannot be had (unknown, no network).
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"reading {address}", "hub") from None
    dataset = download(datasets, address)
    splits = {split: next((dataset[n] for n in names if n in dataset), None) for split, names in SPLIT_NAMES.items()}
    return {split: hub_rows(data) for split, data in splits.items() if data is not None}


def download(datasets: Any, address: str) -> Any:
    """Downloads a data set. Raises: TaskError, one line, for whatever goes wrong in the libraries below."""
    try:
        return fetch(datasets, address.removeprefix(PREFIX))
    except Exception as failure:  # every layer below (requests, fsspec, pyarrow, datasets) has errors of its own
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
        what = f"cannot be had from the hub ({reason})"
        raise TaskError(what, where=address, do="check the name and the network") from None


def fetch(datasets: Any, name: str) -> Any:
    """Fetches NAME, OWNER/NAME, NAME/config or OWNER/NAME/config; two parts are tried as OWNER/NAME first."""
    head, _, config = name.rpartition("/")
    if "/" in head:
        return datasets.load_dataset(head, config)
    try:
        return datasets.load_dataset(name)
    except datasets.exceptions.DatasetNotFoundError as unknown_owner:
        if not head:
            raise
        try:
            return datasets.load_dataset(head, config)
        except datasets.exceptions.DatasetNotFoundError:
            raise unknown_owner from None


def hub_rows(data: Any) -> list[TableRow]:
    """Rows with class names for class numbers; a hidden label (-1) becomes None."""
    import datasets

    rows = [dict(row) for row in data]
    for column, feature in data.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel):
            for row in rows:
                row[column] = class_names(row[column], inner.names)
    return [(row, n) for n, row in enumerate(rows, 1)]


def class_names(value: Any, names: list[str]) -> Any:
    """The name(s) of a class number, or of a list of them."""
    if isinstance(value, list):
        return [class_names(part, names) for part in value]
    return None if value is None or value < 0 else names[value]
