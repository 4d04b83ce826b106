"""Every bad input of a task says what, where (file:line) and what to do, on one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from promptgraft.errors import TaskError
from promptgraft.task.load import load_task, read_texts
from promptgraft.task.readers import read_rows

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
        "{}/a.csv:4: the row has 3 fields, the header has 2;"
        " put fields that hold the delimiter or a newline in quotes",
    ),
    "open quote": (
        {"a.csv": 'text,label\nx,a\n"never closed,b\nz,a\n'},
        "{}/a.csv:3: broken row (unexpected end of data);"
        ' double the quotes inside a field, and put it in quotes: "a ""b"" c"',
    ),
    "column twice": (
        {"a.csv": "text,text\nx,a\n"},
        "{}/a.csv:1: column 'text' stands twice; rename one of them",
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
        "{}/a.csv:10: the label (column 'label') is empty or not a number; label the row or take it out",
    ),
    "NaN label": (
        {"a.jsonl": row('{"text": "x", "label": NaN}')},
        "{}/a.jsonl:3: the label (column 'label') is empty or not a number; label the row or take it out",
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
        " its columns: 'body', 'one', 'two'); name it with"
        " --text-column, --pair-column or --label-column, or in task.toml",
    ),
    "unseen label": (
        {"t/train.jsonl": GOOD, "t/test.jsonl": row('{"text": "x", "label": "ugly"}')},
        "{}/t/test.jsonl:3: the label 'ugly' of test does not occur in train (bad, good);"
        " correct it, or declare it under [labels] in task.toml",
    ),
    "undeclared label": (
        {"t/task.toml": TOML, "t/train.jsonl": row('{"text": "x", "label": "god"}')},
        "{}/t/train.jsonl:3: the label 'god' is not in [labels] of task.toml; did you mean 'good'?",
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
        "{}/t/task.toml: broken TOML: Invalid value (at end of document); repair the file",
    ),
    "value of the wrong type": (
        {"t/task.toml": "[labels]\ngood = 1", "t/train.jsonl": GOOD},
        "{}/t/task.toml: labels.good: input should be a valid string; repair the value",
    ),
    "unknown kind": (
        {"t/task.toml": 'kind = "clasification"', "t/train.jsonl": GOOD},
        "{}/t: unknown kind 'clasification'; did you mean 'classification'?",
    ),
    "text2text": (
        {"t/task.toml": 'kind = "text2text"', "t/train.jsonl": GOOD},
        "{}/t: kind 'text2text' is not supported yet;"
        " use one of: classification, pair, regression, choice, tagging, span",
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
        "{}/t/train.jsonl: no column 'lable'; did you mean 'label'?",
    ),
    "word for a number": (
        {"t/task.toml": 'kind = "regression"', "t/train.jsonl": '{"text": "x", "label": 1.5}\n' + GOOD},
        "{}/t/train.jsonl:2: the label 'good' is not a number; regression needs numbers; else give --kind",
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
    with pytest.raises(TaskError, match="no such file; check the path"):
        read_rows(tmp_path / "reviws.csv")


def test_a_wrong_column_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TWO)
    with pytest.raises(TaskError) as caught:
        load_task(tmp_path / "a.csv", label="lebel")
    assert str(caught.value) == f"{tmp_path}/a.csv: no column 'lebel'; did you mean 'label'?"


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
    with pytest.raises(TaskError, match=r"new\.csv: no column 'hypothesis'; did you mean 'hypotesis'\?$"):
        read_texts(tmp_path / "new.csv", task)
