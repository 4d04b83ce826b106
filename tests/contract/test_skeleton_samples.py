"""The sample tasks that ship with the repository are balanced, free of repeats, and split without overlap."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from promptgraft.task.load import load_task

SAMPLES = ("home_reviews", "shop_questions_zh")


def read(folder: Path, split: str) -> list[dict[str, str]]:
    lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def described(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "task.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SAMPLES)
def test_rows_are_as_many_as_the_task_file_says_and_balanced(root: Path, name: str) -> None:
    folder = root / "examples" / "data" / name
    task = described(folder)
    for split, count in task["rows"].items():
        labels = Counter(row["label"] for row in read(folder, split))
        assert labels == {label: count // len(task["labels"]) for label in task["labels"]}


@pytest.mark.parametrize("name", SAMPLES)
def test_no_text_occurs_twice(root: Path, name: str) -> None:
    folder = root / "examples" / "data" / name
    texts = [row["text"] for split in ("train", "validation", "test") for row in read(folder, split)]
    assert len(texts) >= 200
    assert len({text.casefold() for text in texts}) == len(texts)


@pytest.mark.parametrize("name", SAMPLES)
def test_licence_lets_anyone_use_them(root: Path, name: str) -> None:
    source = described(root / "examples" / "data" / name)["source"]
    assert source["licence"] == "CC0-1.0"
    assert source["repo"] == "written for promptgraft"


def test_unlabelled_reviews_are_none_of_the_labelled_ones(root: Path) -> None:
    data = root / "examples" / "data"
    unlabelled = (data / "unlabelled_home_reviews.txt").read_text(encoding="utf-8").splitlines()
    labelled = {row["text"] for split in ("train", "validation", "test") for row in read(data / "home_reviews", split)}
    assert len(set(unlabelled)) == 60
    assert not labelled & set(unlabelled)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_loads_without_remarks(root: Path, name: str) -> None:
    task = load_task(root / "examples" / "data" / name)
    assert (len(task.train), len(task.validation), len(task.test)) == (48, 48, 120)
    assert task.notes == ()
    assert task.licence == "CC0-1.0"
