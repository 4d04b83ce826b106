"""The page on several labels a row is what its script makes of the results that are kept, and how it reads its data."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from promptgraft.task.task import Example


@pytest.fixture
def page(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(root / "scripts")
    return importlib.import_module("multilabel_page")


@pytest.fixture
def script(page: ModuleType) -> ModuleType:
    return importlib.import_module("multilabel")


def test_the_page_is_made_of_the_results(page: ModuleType, root: Path) -> None:
    kept = (root / "docs/results/multilabel.md").read_text(encoding="utf-8")
    assert kept == page.page(page.read_rows()), "remake it: python scripts/multilabel.py write"


def test_every_row_is_of_a_task_of_its_half(page: ModuleType, script: ModuleType) -> None:
    facts = script.read_facts()
    for language in ("en", "zh"):
        halves = [of["half"] for name, of in facts.items() if of["language"] == language and name != "goemotions"]
        assert halves.count("chosen-on") == halves.count("untouched") == 3
    for row in page.read_rows():
        of = facts[row["task"]]
        assert (row["half"], row["language"]) == (of["half"], of["language"])
        assert row["method"] in page.METHODS
        assert int(row["labels"]) in page.SIZES


def test_labels_of_a_sentence_are_the_kinds_of_its_spans(script: ModuleType) -> None:
    row = Example(tokens=("Ann", "Lee", "in", "Rome"), label=("B-PER", "I-PER", "O", "B-LOC"))
    assert script.of_tags(row, {"PER": "", "LOC": ""}, " ") == Example("Ann Lee in Rome", label=("LOC", "PER"))
    assert script.of_tags(row, {"ORG": ""}, "") == Example("AnnLeeinRome", label=())


def test_goemotions_is_read_as_it_is_published(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "emotions.txt").write_text("admiration\nanger\nneutral\n", encoding="utf-8")
    (tmp_path / "train.tsv").write_text('He said "no\t0,1\tid1\nWell\t2\tid2\n', encoding="utf-8")
    (tmp_path / "test.tsv").write_text("Great\t0\tid3\n", encoding="utf-8")
    facts = script.read_facts()["goemotions"]
    task = script.read_task("goemotions", facts, tmp_path, tmp_path)
    assert [(row.text, row.label) for row in task.train] == [('He said "no', ("admiration", "anger")), ("Well", ())]
    assert (len(task.labels), len(task.test)) == (27, 1)


def test_calibration_is_over_pairs_of_a_row_and_a_label(page: ModuleType) -> None:
    assert page.calibration_error(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[1, 0], [0, 1]])) == 0
    assert page.calibration_error(np.array([[0.9, 0.1]]), np.array([[1, 1]])) == pytest.approx(50)


def test_tf_idf_answers_by_words(script: ModuleType) -> None:
    names = {"fruit": "", "metal": ""}
    texts = ["apple pear", "iron zinc", "pear iron", "apple zinc"] * 8
    words = {"fruit": {"apple", "pear"}, "metal": {"iron", "zinc"}}
    labels = [tuple(name for name in names if words[name] & set(text.split())) for text in texts]
    rows = tuple(Example(text, label=label) for text, label in zip(texts, labels, strict=True))
    task = script.Task("t", "multilabel", "micro_f1", names, {"train": rows, "test": rows[:4]})
    answers = script.tf_idf(task, 0)
    assert answers.predictions == [row.label for row in rows[:4]]
    assert answers.probabilities.shape == (4, 2)
