"""suggest as a user calls it: rows in their format or as Label Studio's tasks, and one line for what is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from command import Command, Tuned


@pytest.fixture
def texts(questions: Path, tmp_path: Path) -> Path:
    """Unlabelled questions in a table with a column of its own."""
    lines = (questions / "test.jsonl").read_text(encoding="utf-8").splitlines()[:12]
    rows = [{"id": number, "text": json.loads(line)["text"]} for number, line in enumerate(lines)]
    path = tmp_path / "unlabelled.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_rows_are_written_in_order_with_their_columns(
    done: Command, tuned: Tuned, splade_tiny: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "next.csv"
    said = done("suggest", tuned.run, "--file", texts, "--count", 5, "--model", splade_tiny, "--out", out)
    assert f"5 rows to label next in {out}" in said.out.replace("\n", " ")
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["prediction", "probability", "id", "text"]
    assert len({row["id"] for row in rows}) == 5
    shown = done("suggest", tuned.run, "--file", texts, "--count", 5, "--model", splade_tiny, "--json").json
    assert [str(row["id"]) for row in shown] == [row["id"] for row in rows]


def test_columns_of_another_name_are_named(done: Command, tuned: Tuned, splade_tiny: Path, texts: Path) -> None:
    renamed = texts.with_name("renamed.csv")
    renamed.write_text(texts.read_text(encoding="utf-8").replace("id,text", "id,words", 1), encoding="utf-8")
    words = ["--count", 5, "--model", splade_tiny, "--json"]
    shown = done("suggest", tuned.run, "--file", renamed, "--text-column", "words", *words).json
    assert [row["id"] for row in shown] == [
        row["id"] for row in done("suggest", tuned.run, "--file", texts, *words).json
    ]


def test_label_studio_gets_tasks_with_predictions(
    done: Command, tuned: Tuned, splade_tiny: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tasks.json"
    words = ["--count", 4, "--model", splade_tiny, "--out", out, "--format", "label-studio"]
    said = done("suggest", tuned.run, "--file", texts, *words)
    assert "the interface for these tasks: <View>" in said.err
    tasks = json.loads(out.read_text(encoding="utf-8"))
    assert len(tasks) == 4
    assert set(tasks[0]) == {"data", "annotations", "predictions"}
    assert set(tasks[0]["data"]) == {"id", "text"}
    [prediction] = tasks[0]["predictions"]
    assert 0 < prediction["score"] <= 1
    done("suggest", tuned.run, "--file", out, "--model", splade_tiny)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--count", 0), "--count 0; ask for one row or more"),
        (("--format", "label-studio"), "add --out FILE.json"),
        (("--format", "label-studio", "--out", "x.csv"), "add --out FILE.json"),
        (("--out", "x.doc"), "cannot write 'doc'"),
    ],
)
def test_what_is_wrong_is_said(
    words: tuple[object, ...], line: str, pg: Command, tuned: Tuned, splade_tiny: Path, texts: Path
) -> None:
    said = pg("suggest", tuned.run, "--file", texts, "--model", splade_tiny, *words)
    assert said.status == 2
    assert line in said.err


def test_a_file_without_rows_to_label_is_one_line(
    pg: Command, tuned: Tuned, splade_tiny: Path, questions: Path, tmp_path: Path
) -> None:
    said = pg("suggest", tuned.run, "--file", questions / "test.jsonl", "--model", splade_tiny)
    assert said.status == 1
    assert "no row is left to label" in said.err
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    said = pg("suggest", tuned.run, "--file", tmp_path / "empty.csv", "--model", splade_tiny)
    assert "the file is empty" in said.err
    (tmp_path / "words.csv").write_text("words,more\na,b\n", encoding="utf-8")
    said = pg("suggest", tuned.run, "--file", tmp_path / "words.csv", "--model", splade_tiny)
    assert said.status == 1
    assert "text" in said.err


def test_a_very_long_line_is_read(done: Command, tuned: Tuned, splade_tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("退货 " * 5000 + "\n怎么开发票\n", encoding="utf-8")
    said = done("suggest", tuned.run, "--file", tmp_path / "long.txt", "--model", splade_tiny, "--json")
    assert len(said.json) == 2
    assert "1 input was longer than allowed and cut\n" in said.err
