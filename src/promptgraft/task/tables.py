"""Reads a task's tables from one file, the split files of a folder, a table in memory, or a data set of the hub."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from pathlib import Path

from promptgraft.errors import SHOWN, TaskError
from promptgraft.task.content import NoRowsError, near_path
from promptgraft.task.formats import brat
from promptgraft.task.frames import NAME, TaskData, is_table, read_frames
from promptgraft.task.hub import PREFIX, read_hub
from promptgraft.task.readers import ENDINGS, TEXT_ENDINGS, file_format, read_table
from promptgraft.task.splits import by_column, split_named, with_train
from promptgraft.task.table import Table
from promptgraft.task.task import SPLITS, Kind

BRAT = brat.FORMAT.name


def read_tables(
    path: TaskData, *, header: bool, kind: Kind | None, named: Collection[str]
) -> tuple[dict[str, Table], list[str]]:
    """The tables by split, train always among them, and notes; a split file without rows is left out.

    Args: as of `readers.read_table`.
    """
    if is_table(path):
        return read_frames(path, NAME, kind=kind, named=named)
    address = str(path)
    if address.startswith(PREFIX):
        return read_frames(read_hub(address), address, kind=kind, named=named)
    if not address:
        raise TaskError("the name of the task is empty", do="give a file, a folder with task.toml, or hub:DATASET")
    path = Path(path)
    if not path.exists():
        raise TaskError("no such file or folder", where=path, do=near_path(path))
    if path.is_file():
        table = read_table(path, header=header, kind=kind, named=named)
        tables, notes = by_column(table, named)
        return tables, [*table.notes, *notes]
    tables, notes = documents(path, kind), []
    for split, file in split_files(path).items():
        try:
            tables[split] = read_table(file, header=header, kind=kind, named=named)
        except NoRowsError as problem:
            if split == "train":
                raise
            notes.append(f"{file.name}: {problem.what}, so there is no {split} split of it")
    do = f"name the files train, validation and test, as {', '.join(ENDINGS)}"
    return with_train(tables, address, do), [*(note for table in tables.values() for note in table.notes), *notes]


def documents(folder: Path, kind: Kind | None) -> dict[str, Table]:
    """The train table of a folder of BRAT documents without split files; empty for any other folder."""
    marks = sorted(folder.glob("*.ann"))
    if not marks or split_files(folder) or kind not in (None, "tagging"):
        return {}
    tables = [read_table(file.with_suffix(".txt"), kind="tagging") for file in marks]
    rows = [row for table in tables for row in table.rows]
    notes = [note for table in tables for note in table.notes if not note.endswith(BRAT)]
    remainder = [f"... and {len(notes) - SHOWN} more notes on documents"] if len(notes) > SHOWN else []
    table_notes = (f"{len(tables)} documents read as {BRAT}", *notes[:SHOWN], *remainder)
    return {"train": dataclasses.replace(tables[0], where=str(folder), rows=rows, notes=table_notes)}


def split_files(folder: Path) -> dict[str, Path]:
    """The split files of a folder: train, validation (valid, val, dev) and test, in any format.

    Files of plain lines (txt, conll and their like) count where a split has no other.
    """
    files = [file for file in sorted(folder.iterdir()) if split_of(file) and file.is_file()]
    split_paths: dict[str, Path] = {}
    for endings in (ENDINGS, TEXT_ENDINGS):
        candidates = [file for file in files if file_format(file) in endings and split_of(file) not in split_paths]
        for split in SPLITS:
            matches = [file for file in candidates if split_of(file) == split]
            if len(matches) > 1:
                what = f"{matches[0].name} and {matches[1].name} are both {split}"
                raise TaskError(what, where=folder, do="keep one of them")
            if matches:
                split_paths[split] = matches[0]
    return {split: split_paths[split] for split in SPLITS if split in split_paths}


def split_of(file: Path) -> str | None:
    """The split that a file's name stands for; `train-00000-of-00001`, as on Hugging Face's hub, is train."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", file.name.split(".")[0].lower())
    return split_named(stem)
