"""The page over label counts: what its script makes of the results that are kept, and how it counts."""

from __future__ import annotations

import csv
import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from toys import toy_task

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(root / "scripts")
    return importlib.import_module("labels_page")


@pytest.fixture
def script(page: ModuleType) -> ModuleType:
    return importlib.import_module("labels")


def row(task: str, method: str, score: float, labels: str = "8", seed: int = 0, **others: str) -> dict[str, str]:
    half = "untouched" if task in ("cr", "imdb") else "chosen-on"
    model = method if method in ("tf-idf", "static-embedding") else "minilm"
    return {
        "task": task, "half": half, "language": "en", "model": model, "labels": labels, "seed": str(seed),
        "method": method, "score": str(score), "metric": "accuracy", "ece": "3.0", "coverage": "",
        "error_at_risk": "", "seconds": "1.0", "bytes": "1000", **others,
    }  # fmt: skip


@pytest.fixture
def two_tasks(page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    tasks = {name: {"language": "en", "half": "untouched", "classes": "2"} for name in ("cr", "imdb")}
    monkeypatch.setattr(page, "read_tasks", lambda: tasks)
    return page


def test_the_page_is_current(page: ModuleType, root: Path) -> None:
    kept = (root / "docs" / "results" / "labels.md").read_text(encoding="utf-8")
    assert kept == page.page(page.read_rows()), "remake it: python scripts/labels_page.py"
    for half in page.HALVES:
        assert (root / "docs" / "results" / f"labels-{half}.svg").stat().st_size < 2**20


def test_the_advice_that_ships_is_of_these_rows(page: ModuleType) -> None:
    assert page.ADVICE.read_text(encoding="utf-8") == page.measured(page.read_rows())


def test_advice_is_of_the_untouched_half_where_half_of_the_tasks_have_rows(two_tasks: ModuleType) -> None:
    rows = [
        row(task, method, score, labels)
        for labels in ("8", "32")
        for task, ahead in (("cr", 2), ("imdb", 4), ("sst2", 90))
        for method, score in (("graft", 50 + ahead), ("linear-probe", 50))
        if labels == "8" or task != "imdb"
    ]
    found = json.loads(two_tasks.measured(rows))
    (gap,) = found["minilm"]["gaps"]["linear-probe"]
    assert (gap["labels"], gap["ahead"]) == ("8", 3.0), "of one task there is no interval"
    assert (found["minilm"]["language"], len(found)) == ("English", 1)


def test_every_row_is_of_a_task_of_its_half(page: ModuleType) -> None:
    tasks = page.read_tasks()
    assert {facts["half"] for facts in tasks.values()} == set(page.HALVES)
    for kept in page.read_rows():
        facts = tasks[kept["task"]]
        assert (kept["half"], kept["language"]) == (facts["half"], facts["language"])
        assert kept["method"] in page.METHODS
        assert kept["labels"] in page.LABELS


def test_a_mean_is_over_all_tasks_or_not_there(two_tasks: ModuleType) -> None:
    rows = [row("cr", "graft", 70, seed=0), row("cr", "graft", 80, seed=1), row("imdb", "graft", 61)]
    part = two_tasks.part_of(rows, "untouched", "en", "minilm")
    assert part.average("graft", "8", "score") == pytest.approx((75 + 61) / 2)
    assert two_tasks.part_of(rows[:2], "untouched", "en", "minilm").average("graft", "8", "score") is None
    assert part.average("graft", "8", "coverage") is None, "an empty field is no figure"


def test_differences_pair_seeds_within_tasks_and_say_how_many_tasks(two_tasks: ModuleType) -> None:
    rows = [
        row("cr", "graft", 70, seed=0), row("cr", "graft", 90, seed=1), row("cr", "linear-probe", 66, seed=0),
        row("imdb", "graft", 60), row("imdb", "linear-probe", 62), row("cr", "tf-idf", 71),
    ]  # fmt: skip
    part = two_tasks.part_of(rows, "untouched", "en", "minilm")
    found = part.difference("graft", "linear-probe", "8")
    assert (found.value, found.count) == (pytest.approx(1.0), 2), "seed 1 has no partner"
    assert part.difference("graft", "linear-probe", "32") is None
    assert two_tasks.counted(part.difference("graft", "tf-idf", "8"), 2) == "-1.0 [1]"
    assert part.worse("graft", "8") == (1, 2)
    assert "| graft - linear probe |  | 1.0 (" in "\n".join(two_tasks.difference_table(part))


def test_advice_goes_by_the_interval(two_tasks: ModuleType) -> None:
    rows = [
        row(task, method, score + jitter, labels)
        for labels, graft, probe in (("8", 80, 70), ("250", 80, 85), ("all", 80, 80.5))
        for method, score in (("graft", graft), ("linear-probe", probe))
        for task, jitter in (("cr", 0.0), ("imdb", {"graft": 0.1 if labels == "250" else 1.0}.get(method, 0.01)))
    ]
    part = two_tasks.part_of(rows, "untouched", "en", "minilm")
    (line,) = two_tasks.advice(part)
    assert line == "- Linear probe: certainly better at 250 labels a class."
    (line,) = two_tasks.advice(two_tasks.part_of(rows[:4], "untouched", "en", "minilm"))
    assert line == "- Linear probe: behind graft at 8 labels a class."


def test_a_number_of_labels_that_few_tasks_have_gives_no_advice(two_tasks: ModuleType) -> None:
    rows = [row("cr", method, score, "8") for method, score in (("graft", 70), ("linear-probe", 80))]
    part = two_tasks.part_of(rows, "untouched", "en", "minilm")
    assert two_tasks.advice(part) == [
        "- Linear probe: ahead in the mean at 8 labels a class, but not certainly better."
    ]
    wider = two_tasks.Part((*part.tasks, "imdb2", "imdb3"), part.figures)
    assert two_tasks.advice(wider) == []
    assert two_tasks.leaders(wider) == []
    assert two_tasks.listed(["4", "8", "all"]) == "4 and 8 labels a class and all labels"
    assert two_tasks.listed(["all"]) == "all labels"


def test_what_was_not_run_is_said(two_tasks: ModuleType) -> None:
    text = two_tasks.page([row("cr", "linear-probe", 70), row("cr", "tf-idf", 60)])
    assert "| linear probe |  |  | 1 of 2, 1 |  |  |  |  |  |" in text
    assert "English tasks, bge-small-en: not run." in text


def test_what_answers_nothing_has_no_error_and_no_coverage(two_tasks: ModuleType) -> None:
    some, none = {"coverage": "0.5", "error_at_risk": "0.04"}, {"coverage": "0.0", "error_at_risk": ""}
    part = two_tasks.part_of(
        [row("cr", "graft", 70, **some), row("imdb", "graft", 60, **none)], "untouched", "en", "minilm"
    )
    table = two_tasks.risk_table(part)
    assert table[2].startswith("| answered |  |  | 25.0 [2] |")
    assert table[3].startswith("| wrong among the answers |  |  | 4.0 [1] |")


def test_a_later_run_of_a_cell_takes_its_place(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    page.write_csv([row("cr", "graft", 1), row("cr", "graft", 3, "all"), row("cr", "graft", 2)])
    assert [(kept["labels"], kept["score"]) for kept in page.read_rows()] == [("8", "2"), ("all", "3")]


def test_a_source_that_shares_texts_is_left_out(script: ModuleType, page: ModuleType) -> None:
    assert script.is_left_out("sst2", "sst2")
    assert script.is_left_out("sst2", "sst5_fine"), "the table names its data set"
    assert script.is_left_out("scicite", "scicite_reason")
    assert not script.is_left_out("emotion", "goemotions")
    with page.LEFT_OUT.open(newline="", encoding="utf-8") as file:
        assert {line["task"] for line in csv.DictReader(file)} <= page.read_tasks().keys()


def test_every_stage_leaves_whole_columns(script: ModuleType, page: ModuleType) -> None:
    cells = list(script.cells(page.read_tasks(), ["minilm", "e5-small"], ["linear-probe", "tf-idf"]))
    first = cells[: 2 * 2 * len(page.read_tasks()) - 1]  # TF-IDF with 119 classes of 32 rows would take hours
    assert {cell.labels for cell in first} <= {8, 32}
    assert {cell.task for cell in first} == page.read_tasks().keys()
    assert {(cell.model, cell.task) for cell in cells if cell.method == "tf-idf"} == {
        ("tf-idf", task) for task in page.read_tasks()
    }


def test_a_baseline_reads_the_rows_of_every_other_method(script: ModuleType) -> None:
    task = toy_task(train=24, test=12)
    third = task.replace(labels={**task.labels, "mixed": "so so"})
    answers = script.BASELINES["tf-idf"](third, 0)
    assert answers.probabilities.shape == (12, 3)
    np.testing.assert_allclose(answers.probabilities.sum(1), 1)
    assert (answers.probabilities[:, 2] == 0).all(), "no row is of this class"
    assert script.judged(third, answers)[1].mean() > 0.8
    assert answers.bytes < 10_000


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_what_the_readme_quotes_stands_on_the_page(name: str) -> None:
    """Differences with their intervals, as `10.6 (6.5 to 14.8)`."""
    page = (ROOT / "docs/results/labels.md").read_text(encoding="utf-8")
    line = next(row for row in (ROOT / name).read_text(encoding="utf-8").splitlines() if "labels.md" in row)
    quoted = re.findall(r"-?\d+\.\d \(-?\d+\.\d to -?\d+\.\d\)(?: \[\d+\])?", line)
    assert len(quoted) > 3
    assert [figure for figure in quoted if f" {figure} |" not in page] == []
