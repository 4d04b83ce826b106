"""Data sets of the Hugging Face hub, through `datasets` (extra `hub`)."""

from __future__ import annotations

from typing import Any

from promptgraft.errors import MissingExtraError, TaskError

PREFIX = "hub:"


def read_hub(address: str) -> Any:
    """The splits of `hub:NAME[/config]` by name, as `datasets` gives them.

    Raises: MissingExtraError without `datasets`; TaskError where it cannot be had (unknown, no network).
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"reading {address}", "hub") from None
    return download(datasets, address)


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
