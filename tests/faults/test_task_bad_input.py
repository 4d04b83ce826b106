"""Every bad input of a task says what, where (file:line) and what to do, on one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from promptgraft.errors import TaskError
from promptgraft.task.load import load_task, read_texts
from promptgraft.task.readers import read_table

GOOD = '{"text": "fine", "label": "good"}\n{"text": "awful", "label": "bad"}\n'
TOML = 'kind = "classification"\n[labels]\ngood = "a good one"\nbad = "a bad one"\n'
TWO = "text,label\n" + "a,x\nb,y\n" * 4


def row(content: str) -> str:
    return GOOD + content + "\n"


# files by name -> the message, {} standing for the folder
CASES: dict[str, tuple[dict[str, str | bytes], str]] = {
    "empty file": (
        {"a.csv": ""},
        "{}/a.csv: the file is empty; give a file with at least one row",
    ),
    "header only": (
        {"a.csv": "text,label\n"},
        "{}/a.csv: the file holds no rows; give a file with at least one row",
    ),
    "bad bytes": (
        {"a.jsonl": b'{"text": "x", "label": "a"}\n{"text": "\xff", "label": "b"}\n'},
        "{}/a.jsonl:2: byte 0xff is not UTF-8; save the file as UTF-8",
    ),
    "broken json line": (
        {"a.jsonl": row('{"text": "x"')},
        "{}/a.jsonl:3: broken JSON: Expecting ',' delimiter at column 13; write one JSON object a line",
    ),
    "json line that is no object": (
        {"a.jsonl": row("[1, 2]")},
        '{}/a.jsonl:3: a row is a JSON object, not list; write {{"text": ...}}',
    ),
    "broken json": (
        {"a.json": '[{"text": "x"},\n{"text" "y"}]'},
        "{}/a.json:2: broken JSON: Expecting ':' delimiter; repair the file",
    ),
    "json without rows": (
        {"a.json": '{"rows": []}'},
        '{}/a.json: no list of rows; write a list of objects, or {{"data": [...]}}',
    ),
    "ragged row": (
        {"a.csv": 'text,label\n"two\nlines",a\nx,b,c\n'},
        "{}/a.csv:4: the row has 3 fields, the header has 2 (separated by commas);"
        " put fields that hold the delimiter or a newline in quotes",
    ),
    "open quote": (
        {"a.csv": 'text,label\nx,a\n"never closed,b\nz,a\n'},
        "{}/a.csv:3: broken row (unexpected end of data; separated by commas);"
        ' double the quotes inside a field, and put it in quotes: "a ""b"" c"',
    ),
    "column twice": (
        {"a.csv": "text,text\nx,a\n"},
        "{}/a.csv:1: column 'text' stands twice; rename one of them, or give header=False if this is a row",
    ),
    "cut gzip": (
        {"a.csv.gz": gzip.compress(TWO.encode())[:-12]},
        "{}/a.csv.gz: not a whole gzip file (Compressed file ended before the end-of-stream marker was reached);"
        " pack or download it again",
    ),
    "unknown format": (
        {"a.xlsx": "PK"},
        "{}/a.xlsx: unknown format '.xlsx'; use one of: jsonl, json, csv, tsv, parquet",
    ),
    "one class": (
        {"a.csv": "text,label\nx,a\ny,a\n"},
        "{}/a.csv: train has one class only ('a'); give examples of two classes or more",
    ),
    "empty label": (
        {"a.csv": TWO + "c,\n"},
        "{}/a.csv:10: the label (column 'label') is empty; label the row or take it out",
    ),
    "NaN label": (
        {"a.jsonl": row('{"text": "x", "label": NaN}')},
        "{}/a.jsonl:3: the label (column 'label') is NaN, which stands for none; label the row or take it out",
    ),
    "null label": (
        {"a.jsonl": row('{"text": "x", "label": null}')},
        "{}/a.jsonl:3: the label (column 'label') is null; label the row or take it out",
    ),
    "mixed labels": (
        {"a.csv": TWO + "c,3\n"},
        "{}/a.csv:10: labels are mixed, numbers (3) and words (x); here '3';"
        " correct the rows, or declare all labels under [labels] in task.toml",
    ),
    "row without the column": (
        {"a.jsonl": row('{"txt": "x", "label": "good"}')},
        "{}/a.jsonl:3: no column 'text'; did you mean 'txt'?",
    ),
    "text that is a list": (
        {"a.jsonl": row('{"text": ["x"], "label": "good"}')},
        "{}/a.jsonl:3: column 'text' holds a list, not a text; give a text",
    ),
    "no label column to be told": (
        {"a.csv": "body,one,two\nx,a,c\ny,b,d\nz,a,c\nw,b,d\n"},
        "{}/a.csv: cannot tell which column holds the label (none, or more than one, has few values that come back;"
        " its columns: 'body', 'one', 'two'); name it with label, or in task.toml",
    ),
    "texts alone": (
        {"a.csv": "body\nx\ny\nz\n"},
        "{}/a.csv: cannot tell which column holds the label (none, or more than one, has few values that come back;"
        " its columns: 'body'); label its rows, or declare what labels there are (labels)",
    ),
    "unseen label": (
        {"t/train.jsonl": GOOD, "t/test.jsonl": row('{"text": "x", "label": "ugly"}')},
        "{}/t/test.jsonl:3: the label 'ugly' of test does not occur in train (bad, good);"
        " correct it, or declare it under [labels] in task.toml",
    ),
    "undeclared label": (
        {"t/task.toml": TOML, "t/train.jsonl": row('{"text": "x", "label": "god"}')},
        "{}/t/train.jsonl:3: the label 'god' is not declared (labels, or task.toml); did you mean 'good'?",
    ),
    "two trains": (
        {"t/train.jsonl": GOOD, "t/train.csv": TWO},
        "{}/t: train.csv and train.jsonl are both train; keep one of them",
    ),
    "no train": (
        {"t/test.jsonl": GOOD},
        "{}/t: no train split; name the files train, validation and test, as jsonl, json, csv, tsv, parquet",
    ),
    "unknown key": (
        {"t/task.toml": 'knd = "pair"', "t/train.jsonl": GOOD},
        "{}/t/task.toml: unknown key 'knd'; did you mean 'kind'?",
    ),
    "broken toml": (
        {"t/task.toml": "kind = ", "t/train.jsonl": GOOD},
        "{}/t/task.toml: this is no TOML: Invalid value (at end of document); repair the file",
    ),
    "value of the wrong type": (
        {"t/task.toml": "[labels]\ngood = 1", "t/train.jsonl": GOOD},
        "{}/t/task.toml: labels.good: input should be a valid string; repair the value",
    ),
    "unknown kind": (
        {"t/task.toml": 'kind = "clasification"', "t/train.jsonl": GOOD},
        "{}/t: unknown kind 'clasification'; did you mean 'classification'?",
    ),
    "unknown metric": (
        {"t/task.toml": 'metric = "acuracy"', "t/train.jsonl": GOOD},
        "{}/t: unknown metric 'acuracy'; did you mean 'accuracy'?",
    ),
    "metric of another kind": (
        {"t/task.toml": 'metric = "em_f1"', "t/train.jsonl": GOOD},
        "{}/t: metric 'em_f1' is not for kind 'classification'; use accuracy or f1 or macro_recall or matthews",
    ),
    "unknown positive class": (
        {"t/task.toml": 'positive = "goood"', "t/train.jsonl": GOOD},
        "{}/t: unknown positive class 'goood'; did you mean 'good'?",
    ),
    "column that task.toml names wrongly": (
        {"t/task.toml": 'label = "lable"', "t/train.jsonl": GOOD},
        "{}/t/train.jsonl: no column 'lable'; did you mean 'label'? Name it with label",
    ),
    "word for a number": (
        {"t/task.toml": 'kind = "regression"', "t/train.jsonl": '{"text": "x", "label": 1.5}\n' + GOOD},
        "{}/t/train.jsonl:2: the label 'good' is not a number; regression needs numbers; else give kind",
    ),
    "choice that is none": (
        {"a.jsonl": '{"text": "x", "choices": ["a", "b"], "label": "c"}'},
        "{}/a.jsonl:1: the label 'c' is not among the choices ('a', 'b'); write the right choice's text",
    ),
    "one choice": (
        {"a.jsonl": '{"text": "x", "choices": ["a"], "label": "a"}'},
        "{}/a.jsonl:1: 1 choices; give two or more",
    ),
    "tags and tokens": (
        {"a.jsonl": '{"tokens": ["a", "b"], "tags": ["O"]}'},
        "{}/a.jsonl:1: 2 tokens but 1 tags; give every token one tag",
    ),
    "empty tag": (
        {"a.jsonl": '{"tokens": ["a", "b"], "tags": ["O", ""]}'},
        "{}/a.jsonl:1: a tag is empty; tag every token, with O where there is nothing",
    ),
    "answer that is not there": (
        {"a.jsonl": '{"context": "重庆在西南", "question": "?", "answers": {"text": ["西南"], "answer_start": [2]}}'},
        "{}/a.jsonl:1: answer_start 2 does not point at the answer '西南';"
        " count the context's characters, not bytes, from 0",
    ),
    "answers of another shape": (
        {"a.jsonl": '{"context": "c", "question": "?", "answers": {"texts": ["c"]}}'},
        '{}/a.jsonl:1: the answers are not understood; write {{"text": [...], "answer_start": [...]}}',
    ),
    "deep JSON in a line": (
        {"a.jsonl": row('{"text": "x", "label": ' + "[" * 100_000 + "]" * 100_000 + "}")},
        "{}/a.jsonl:3: this JSON is nested more than 100 levels deep; write one JSON object a line",
    ),
    "deep JSON": (
        {"a.json": "[" * 100_000 + "]" * 100_000},
        "{}/a.json: this JSON is nested more than 100 levels deep",
    ),
    "a whole number of 5,000 digits in a line": (
        {"a.jsonl": row('{"text": "x", "label": ' + "9" * 5000 + "}")},
        "{}/a.jsonl:3: this JSON cannot be read: Exceeds the limit (4300 digits) for integer string conversion:"
        " value has 5000 digits; write one JSON object a line",
    ),
    "deep TOML": (
        {"t/task.toml": "name = " + "[" * 10_000 + "]" * 10_000, "t/train.jsonl": GOOD},
        "{}/t/task.toml: this TOML is nested more than 100 levels deep; repair the file",
    ),
    "a whole number of 5,000 digits in task.toml": (
        {"t/task.toml": "rows = " + "9" * 5000, "t/train.jsonl": GOOD},
        "{}/t/task.toml: this is no TOML: Exceeds the limit (4300 digits) for integer string conversion:"
        " value has 5000 digits; repair the file",
    ),
    "deep JSON in a field": (
        {"a.csv": "text,choices,label\nx," + "[" * 100_000 + ",c\n"},
        "{}/a.csv:2: column 'choices' does not hold a list of texts; write [\"a\", \"b\"]",
    ),
    "a start beyond all numbers": (
        {"a.jsonl": '{"context": "c", "question": "?", "answers": {"text": ["c"], "answer_start": [Infinity]}}'},
        '{}/a.jsonl:1: the answers are not understood; write {{"text": [...], "answer_start": [...]}}',
    ),
    "a number too large to square": (
        {"a.jsonl": '{"text": "x", "label": 0.5}\n{"text": "y", "label": 1e308}\n'},
        "{}/a.jsonl:2: the label '1e+308' is too large; give numbers within 1e+18",
    ),
    "a whole number beyond a float": (
        {"a.jsonl": '{"text": "x", "label": 0.5}\n{"text": "y", "label": 1' + "0" * 400 + "}\n"},
        "{}/a.jsonl:2: the label '1" + "0" * 76 + "...' is too large; give numbers within 1e+18",
    ),
    "text and label in one column": (
        {"t/task.toml": 'text = "text"\nlabel = "text"', "t/train.jsonl": GOOD},
        "{}/t/train.jsonl: column 'text' is both text and label; give each a column of its own",
    ),
    "tag that train lacks": (
        {"t/train.jsonl": '{"tokens": ["a", "b"], "tags": ["O", "B-X"]}',
         "t/test.jsonl": '{"tokens": ["a", "b"], "tags": ["I-X", "B-Y"]}'},
        "{}/t/test.jsonl:1: the tag 'B-Y' of test does not occur in train (O, X);"
        " correct it, or declare it under [labels] in task.toml",
    ),
    "an empty label in a list": (
        {"a.jsonl": '{"text": "a", "labels": ["x", "y"]}\n{"text": "b", "labels": ["x", ""]}'},
        "{}/a.jsonl:2: a label in the list is empty; take it out; a row without labels has the list []",
    ),
    "several labels of test that train lacks": (
        {"t/train.csv": "text,labels\na,x|y\nb,x\nc,y\n", "t/test.csv": "text,labels\nd,x|z\n"},
        "{}/t/test.csv:2: the label 'z' of test does not occur in train (x, y);"
        " correct it, or declare it under [labels] in task.toml",
    ),
    "UTF-16 without its mark": (
        {"a.csv": TWO.encode("utf-16-le")},
        "{}/a.csv: this looks like UTF-16 without a byte order mark; save the file as UTF-8",
    ),
    "UTF-16 cut short": (
        {"a.csv": TWO.encode("utf-16")[:-1]},
        "{}/a.csv: it begins with the mark of UTF-16 and is not (truncated data); save the file as UTF-8",
    ),
    "one list that is no list of objects": (
        {"a.json": "3"},
        '{}/a.json: no list of rows; write a list of objects, or {{"data": [...]}}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_line_with_its_place(name: str, tmp_path: Path) -> None:
    files, message = CASES[name]
    for file, content in files.items():
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError) as caught:
        load_task(tmp_path / next(iter(files)).split("/")[0])
    assert str(caught.value) == message.format(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text(TWO)
    with pytest.raises(TaskError) as caught:
        load_task(tmp_path / "reviws.csv")
    assert str(caught.value) == (
        f"{tmp_path}/reviws.csv: no such file or folder; did you mean '{tmp_path}/reviews.csv'?"
    )
    with pytest.raises(TaskError, match=r"no such file; did you mean '.*reviews\.csv'\?$"):
        read_table(tmp_path / "reviws.csv")
    with pytest.raises(TaskError, match=r": this is a folder; name a file in it$"):
        read_table(tmp_path)
    with pytest.raises(
        TaskError, match=r"^the name of the task is empty; give a file, a folder with task\.toml, or hub:"
    ):
        load_task("")


def test_a_wrong_column_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TWO)
    with pytest.raises(TaskError) as caught:
        load_task(tmp_path / "a.csv", label="lebel")
    assert str(caught.value) == f"{tmp_path}/a.csv: no column 'lebel'; did you mean 'label'? Name it with label"


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TaskError, match=r"a\.parquet: not a parquet file \(.*\); write or download it again$"):
        load_task(tmp_path / "a.parquet")


def test_hub_without_network_is_one_line() -> None:
    pytest.importorskip("datasets", reason="needs the extra hub")
    with pytest.raises(TaskError) as caught:
        load_task("hub:nobody-here/no-such-set")
    assert str(caught.value).startswith("hub:nobody-here/no-such-set: cannot be had from the hub (")
    assert str(caught.value).endswith("); check the name and the network")
    assert "\n" not in str(caught.value)


def test_texts_of_a_pair_task_need_both_columns(tmp_path: Path) -> None:
    data = "".join(f'{{"premise": "p{n}", "hypothesis": "h{n}", "label": "{"ny"[n % 2]}"}}\n' for n in range(20))
    (tmp_path / "train.jsonl").write_text(data)
    task = load_task(tmp_path / "train.jsonl")
    (tmp_path / "new.txt").write_text("one text a line\n")
    with pytest.raises(TaskError, match=r"new\.txt: a pair task needs more than a text; give a csv or jsonl file$"):
        read_texts(tmp_path / "new.txt", task)
    (tmp_path / "new.csv").write_text("premise,hypotesis\na,b\n")
    line = (
        r"no column 'hypothesis', from which train is read; did you mean 'hypotesis'\? Call the right one 'hypothesis'"
    )
    with pytest.raises(TaskError, match=rf"new\.csv: {line}$"):
        read_texts(tmp_path / "new.csv", task)


def test_parquet_with_texts_that_are_not_utf8(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    raw = pyarrow.array([b"fine", b"\xff\xfe"], pyarrow.binary())
    texts = pyarrow.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(TaskError, match=r"a\.parquet: a text in it is not UTF-8 \(.*\); write it again$"):
        load_task(tmp_path / "a.parquet")


def test_parquet_with_a_column_twice(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(TaskError, match=r"a\.parquet: column 'text' stands twice; rename one of them$"):
        load_task(tmp_path / "a.parquet")


def test_notes_and_errors_stay_short_whatever_the_file_holds(tmp_path: Path) -> None:
    names = [f"column number {n}" for n in range(20_000)]
    cells = ["x" * (1 + n % 7) for n in range(20_000)]
    header, row = ",".join(["text", "label", *names]), ",".join(cells)
    (tmp_path / "wide.csv").write_text(f"{header}\nfine,good,{row}\npoor,bad,{row}\n")
    task = load_task(tmp_path / "wide.csv")
    assert max(map(len, task.notes)) < 2000
    assert any(note.endswith("... and 19988 more)") for note in task.notes)
    with pytest.raises(TaskError) as caught:
        load_task(tmp_path / "wide.csv", label="lebel")
    assert len(str(caught.value)) < 2000
    (tmp_path / "twice.csv").write_text(f"{header},{'y' * 1000},{'y' * 1000}\n")
    with pytest.raises(TaskError, match=r"^.{0,300}stands twice.{0,300}$"):
        load_task(tmp_path / "twice.csv")
    (tmp_path / "wider.csv").write_text(",".join(map(str, range(100_001))) + "\n")
    with pytest.raises(TaskError, match=r"wider\.csv:1: 100,001 columns; at most 100,000 are read"):
        load_task(tmp_path / "wider.csv")
    rows = "".join(f"text {n},class number {n % 5000}\n" for n in range(10_000))
    (tmp_path / "many.csv").write_text("text,label\n" + rows)
    assert max(map(len, load_task(tmp_path / "many.csv").notes)) < 2000


@pytest.mark.parametrize(
    "name", ["a/../../b", "x\x00y", "\x1b]0;title\x07", "a\u202eb", "..", "c:\\d", "n" * 4000, " \n "]
)
def test_a_name_from_task_toml_is_one_line_and_no_place(name: str, tmp_path: Path) -> None:
    import json

    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "task.toml").write_text(f"name = {json.dumps(name)}")
    task = load_task(tmp_path)
    assert not set(task.name) & set("/\\\x00\x1b\x07\n\u202e")
    assert 0 < len(task.name) <= 120
    assert task.name.strip(". ") == task.name
    assert any(f"is read as {task.name!r}" in note for note in task.notes)


def test_a_plain_name_is_kept_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "task.toml").write_text('name = "my reviews (final v2), 评论"')
    task = load_task(tmp_path)
    assert task.name == "my reviews (final v2), 评论"
    assert not any("is read as" in note for note in task.notes)


def test_no_header_is_refused_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    with pytest.raises(
        TaskError, match=r"a\.jsonl: only csv and tsv have a header to do without; leave out header=False"
    ):
        load_task(tmp_path / "a.jsonl", header=False)
