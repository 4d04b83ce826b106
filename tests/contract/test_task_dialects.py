"""Spreadsheets' files: delimiters, encodings, line ends and headers are recognised at every door, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptgraft.errors import TaskError
from promptgraft.task.load import columns_of, load_task, read_inputs
from promptgraft.task.readers import read_table
from promptgraft.task.task import Example, Task

ROWS = [(f"Text {n}; with, marks", ("good", "bad")[n % 2]) for n in range(10)]
TASK = Task("t", "classification", "accuracy", {"good": "good", "bad": "bad"}, {}, columns={"text": "text"})
TABLES = {
    "semicolons": ("a.csv", 'text;label\n"Fine; really, fine";good\nPoor, sadly;bad\n', ";"),
    "tabs": ("a.csv", "text\tlabel\nFine; really, fine\tgood\nPoor, sadly\tbad\n", "\t"),
    "bars": ("a.csv", "text|label\nFine; really, fine|good\nPoor, sadly|bad\n", "|"),
    "commas": ("a.tsv", 'text,label\n"Fine; really, fine",good\n"Poor, sadly",bad\n', ","),
    "a line that says it": ("a.csv", 'sep=;\r\ntext;label\r\n"Fine; really, fine";good\r\nPoor, sadly;bad\r\n', ";"),
    "a line that says the usual": ("a.csv", 'sep=,\ntext,label\n"Fine; really, fine",good\n"Poor, sadly",bad\n', ""),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_the_delimiter_is_recognised_to_train_and_to_predict(name: str, tmp_path: Path) -> None:
    file, content, delimiter = TABLES[name]
    (tmp_path / file).write_text(content, newline="")
    notes = [f"{file}: its fields are separated by {word}" for mark, word in NAMES.items() if mark == delimiter]
    task = load_task(tmp_path / file)
    assert task.train == (Example("Fine; really, fine", label="good"), Example("Poor, sadly", label="bad"))
    inputs = read_inputs(tmp_path / file, TASK)
    assert texts(tmp_path / file) == ["Fine; really, fine", "Poor, sadly"]
    assert list(inputs.notes) == [note for note in task.notes if "separated" in note] == notes


def texts(path: Path, task: Task = TASK, header: bool = True) -> list[str]:
    """The texts of a file to predict."""
    table = read_inputs(path, task, header=header)
    return [row[columns_of(task, table)["text"]] for row, _ in table.rows]


NAMES = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


def test_lines_are_counted_with_the_one_that_names_the_delimiter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\ntext;label\nfine;good\npoor;bad\n")
    assert [line for _, line in read_table(tmp_path / "a.csv").rows] == [3, 4]
    (tmp_path / "b.csv").write_text("sep=;\ntext;label\nfine;good\npoor;bad;odd\n")
    with pytest.raises(
        TaskError, match=r"b\.csv:4: the row has 3 fields, the header has 2 \(separated by semicolons\)"
    ):
        read_table(tmp_path / "b.csv")


def test_a_single_column_is_no_other_dialect(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\none; two\nthree | four\nfive\n")
    table = read_table(tmp_path / "a.csv")
    assert [row["text"] for row, _ in table.rows] == ["one; two", "three | four", "five"]
    assert table.notes == ()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("file", ["a.csv", "a.jsonl", "a.txt"])
def test_a_byte_order_mark_says_how_a_file_is_read(encoding: str, file: str, tmp_path: Path) -> None:
    content = {
        "a.csv": "text\tlabel\r\n好的 lamp\tgood\r\npoor\tbad\r\n",
        "a.jsonl": '{"text": "好的 lamp", "label": "good"}\r\n{"text": "poor", "label": "bad"}',
        "a.txt": "好的 lamp\r\npoor\r\n",
    }[file]
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    (tmp_path / file).write_bytes((mark + content).encode(encoding))
    inputs = read_inputs(tmp_path / file, TASK)
    assert texts(tmp_path / file) == ["好的 lamp", "poor"]
    assert f"{file}: read as {encoding[:6].upper()}, as its byte order mark says" in inputs.notes


def test_lines_end_at_line_ends_and_nowhere_else(tmp_path: Path) -> None:
    lines = ["The pan is great\u2028and light", "A\x0cform feed in here", "next\x85line", "last\x1d one"]
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "a.txt").write_bytes((end.join(lines) + end).encode())
        assert texts(tmp_path / "a.txt") == lines


def test_what_was_taken_for_a_header_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("The pan is great\nThe mug broke\nFine lamp\n")
    inputs = read_inputs(tmp_path / "a.csv", TASK)
    assert texts(tmp_path / "a.csv") == ["The mug broke", "Fine lamp"]
    taken = "its first line was taken for the names of the columns: 'The pan is great' (if it is a row: --no-header)"
    assert inputs.notes == (f"a.csv: {taken}",)
    inputs = read_inputs(tmp_path / "a.csv", TASK, header=False)
    assert texts(tmp_path / "a.csv", header=False) == ["The pan is great", "The mug broke", "Fine lamp"]
    assert inputs.notes == ()


def test_a_task_without_a_header_is_read_alike_later(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("".join(f"{n},text number {n},{'ab'[n % 2]}\n" for n in range(20)))
    task = load_task(tmp_path / "a.csv", header=False)
    assert sum(map(len, task.splits.values())) == 20
    assert task.columns == {"text": "column_2", "label": "column_3"}
    assert texts(tmp_path / "a.csv", task, header=False)[0] == "text number 0"


def test_a_json_file_of_lines_and_a_jsonl_file_of_one_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "x"}\n{"text": "y"}\n')
    (tmp_path / "b.jsonl").write_text('[\n{"text": "x"},\n{"text": "y"}]\n')
    lines, whole = read_table(tmp_path / "a.json"), read_table(tmp_path / "b.jsonl")
    assert [row for row, _ in lines.rows] == [row for row, _ in whole.rows] == [{"text": "x"}, {"text": "y"}]
    assert ([line for _, line in lines.rows], [line for _, line in whole.rows]) == ([1, 2], [2, 3])
    assert lines.notes == ("a.json: one JSON object a line",)
    assert whole.notes == ("b.jsonl: one JSON list, not one object a line",)


@pytest.mark.parametrize(("file", "mark"), [("a.tsv", "\t"), ("a.csv", ","), ("a.csv", ";")])
def test_rows_that_quotes_may_have_joined_are_said(file: str, mark: str, tmp_path: Path) -> None:
    content = 'text\tlabel\n"Hello\t1\nhe said"\t0\nfine\t1\n'.replace("\t", mark)
    (tmp_path / file).write_text(content)
    joined = "1 row with line ends in quotes (first: line 2); if quotes are plain characters there, double them"
    assert f"{file}: {joined}" in read_table(tmp_path / file).notes
    (tmp_path / file).write_text(f'text{mark}label\n"one\ntwo"{mark}1\nfine{mark}0\n')
    assert not any("line ends" in note for note in read_table(tmp_path / file).notes)


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_the_error_of_a_damaged_table_names_the_delimiter_of_its_header(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{ending}").write_text('"text";"label"\n"fine";"good"\n"po"or";"bad"\n')
    with pytest.raises(TaskError, match=rf"a\.{ending}:3: broken row \(.*; separated by semicolons\)"):
        read_table(tmp_path / f"a.{ending}")
