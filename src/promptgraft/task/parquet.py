"""Reads Apache Parquet through pyarrow."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

from promptgraft.errors import TaskError, quoted
from promptgraft.task.table import TableRow
from promptgraft.untrusted import read_json


def read_parquet_rows(raw: bytes, path: Path) -> tuple[list[TableRow], dict[str, Any]]:
    """The rows, and the features that Hugging Face's libraries write into the file (empty where there are none)."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(raw)).read()
        refuse_twice(table.column_names, path)
        rows = table.to_pylist()
    except UnicodeDecodeError as problem:
        raise TaskError(f"a text in it is not UTF-8 ({problem.reason})", where=path, do="write it again") from None
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise TaskError(f"not a parquet file ({reason})", where=path, do="write or download it again") from None
    features = (table.schema.metadata or {}).get(b"huggingface", b"")
    return [(row, n) for n, row in enumerate(rows, 1)], hub_features(features, path)


def refuse_twice(names: list[str], path: Path) -> None:
    """Raises an error where two columns have the same name."""
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise TaskError(f"column {quoted(name)} stands twice", where=path, do="rename one of them")


def hub_features(written: bytes, path: Path) -> dict[str, Any]:
    """The features in the metadata that Hugging Face's libraries wrote; empty where it cannot be read."""
    try:
        content = read_json(written, path, TaskError)
    except TaskError:
        return {}
    info = content.get("info") if isinstance(content, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}
