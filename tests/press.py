"""Hostile data files by seed: sound ones of every format, under other encodings and endings, with damage.

`python tests/press.py SEED` shows the file of one seed and what becomes of it.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
import tempfile
import warnings
from pathlib import Path

from exports import CASES
from promptgraft.errors import PromptgraftError
from promptgraft.task.kinds import KINDS
from promptgraft.task.load import columns_of, load_task, read_inputs
from promptgraft.task.task import Task

TEXTS = ["fine lamp", "poor; really poor", 'he said "no"', "好评，很好", "a, b", "", "x|y", "1.5", "\u2028", "café"]
ENDINGS = ["csv", "tsv", "json", "jsonl", "txt", "conll", "parquet", "xlsx", ""]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "gbk"]
PIECES = [b'"', b"'", b"\x00", b"\xff", b"\n", b"\r", b"\r\n", b"\t", b",", b";", b"|", b"[", b"]", b"{", b"}", b"\\",
          b"\\ud83d", b"\xef\xbb\xbf", b"\xff\xfe", b"1e309", b"NaN", b"-1", b"null", b"true", b"#", b"-", b"sep=;\n",
          b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"__label__", b"O\n", b"x" * 70_000, "\u202e".encode(),
          b"=cmd"]  # fmt: skip
EXPANDING = ("MultiRC", "SQuAD", "BRAT")
"""Formats whose rows hold several of a task's."""
DROPPED = re.compile(r"(?:^|: )(\d+) rows? .*left out$|rows .*(?:left out|joined with the first): (\d+)$")


def plain(rng: random.Random) -> tuple[str, str]:
    """A table of the product's own formats, in some dialect: its ending and content."""
    labels = rng.choice([["good", "bad"], ["0", "1", "2"], ["a", "a|b", "b"], ["0.5", "1.5", "2"], ["", "x", "y"]])
    rows = [(rng.choice(TEXTS) + f" {n}", rng.choice(labels)) for n in range(rng.choice([0, 1, 2, 5, 30]))]
    ending = rng.choice(["csv", "tsv", "json", "jsonl"])
    objects = [{"text": text, "label": label} for text, label in rows]
    if ending == "json":
        return ending, json.dumps(objects, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5)
    if ending == "jsonl":
        return ending, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects)
    delimiter, end = rng.choice(",;\t|"), rng.choice(["\n", "\r\n"])
    cells = [("text", "label"), *rows] if rng.random() < 0.8 else rows
    if rng.random() < 0.5:
        bare = [delimiter.join(re.sub(r'["|,;]', "", cell) for cell in row) + end for row in cells]
        return ending, (f"sep={delimiter}{end}" if rng.random() < 0.2 else "") + "".join(bare)
    lines = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) + end for row in cells]
    return ending, (f"sep={delimiter}{end}" if rng.random() < 0.2 else "") + "".join(lines)


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """The bytes after one to three blows."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        a, b = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
        near = min(b, a + rng.choice([1, 3, 20]))
        match rng.randrange(6):
            case 0:
                raw = raw[:a] + rng.choice(PIECES) + raw[a:]
            case 1:
                raw = raw[:a] + raw[near:]
            case 2:
                raw = raw[:a] + raw[a:b] * 2 + raw[b:]
            case 3:
                raw = raw[:b]
            case 4:
                raw = raw[:a] + bytes(rng.randrange(256) for _ in range(near - a)) + raw[near:]
            case _:
                raw = raw[:a] + rng.choice(PIECES) + raw[near:]
    return raw


def make_file(seed: int, folder: Path) -> Path:
    """The file of a seed: three in five are damaged."""
    rng = random.Random(seed)
    if rng.random() < 0.4:
        ending, content = plain(rng)
    else:
        file, content, *_ = CASES[rng.choice(list(CASES))]
        ending = file.split(".")[-1]
    if rng.random() < 0.1:
        ending = rng.choice(ENDINGS)
    raw = content.encode(rng.choice(ENCODINGS) if rng.random() < 0.3 else "utf-8", "replace")
    if rng.random() < 0.6:
        raw = damaged(raw, rng)
    if rng.random() < 0.1:
        packed = gzip.compress(raw)
        raw, ending = (damaged(packed, rng) if rng.random() < 0.5 else packed), ending + ".gz"
    path = folder / f"file{seed}.{ending}"
    path.write_bytes(raw)
    return path


def press(seed: int, folder: Path) -> str:
    """What becomes of the file of a seed: a task's row count or the line of an error.

    Raises: AssertionError where it is neither, a message is no short line, or rows are gone without a word.
    """
    path = make_file(seed, folder)
    rng = random.Random(-seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            header = rng.random() < 0.95 or not path.name.endswith(("csv", "tsv"))
            task = load_task(path, header=header, kind=rng.choice([None, None, None, None, *KINDS]))
            fate = f"{sum(map(len, task.splits.values()))} rows"
            is_line(*task.notes, task.name)
            account(path, task, header)
        except PromptgraftError as problem:
            fate = str(problem)
            is_line(fate.replace(str(folder), ""))
        to_label = Task("t", rng.choice([*KINDS]), "accuracy", {}, {}, columns=rng.choice([{}, {"text": "text"}]))
        try:
            table = read_inputs(path, to_label)
            columns_of(to_label, table)
            is_line(*table.notes)
        except PromptgraftError as problem:
            is_line(str(problem).replace(str(folder), ""))
    return fate


def is_line(*lines: str) -> None:
    """Every message is one line that a person reads."""
    for line in lines:
        assert len(line.splitlines()) < 2, line[:500]
        assert len(line) < 2000, line[:500]


def account(path: Path, task: Task, header: bool) -> None:
    """Rows in are rows out, and rows that were said to be left out; where rows in can be counted by other means."""
    there = rows_in(path, task, header)
    if there is None or any(f"read as {name}" in note for note in task.notes for name in EXPANDING):
        return
    said = sum(int(found[1] or found[2]) for note in task.notes if (found := DROPPED.search(note)))
    kept = sum(map(len, task.splits.values()))
    assert there == kept + said, f"{there} rows in, {kept} out, {said} said to be left out: {task.notes}"


def rows_in(path: Path, task: Task, header: bool) -> int | None:
    """The rows of a file that was read, by plain counting; None where that is not plain."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(encoding_of(task), "strict")
    ending = path.name.removesuffix(".gz").split(".")[-1]
    if ending in ("json", "jsonl"):
        try:
            content = json.loads(text.removeprefix("\ufeff"))
        except json.JSONDecodeError:
            return sum(bool(line.strip(" \t\r")) for line in text.split("\n"))
        rows = content["data"] if isinstance(content, dict) and isinstance(content.get("data"), list) else content
        return len(rows) if isinstance(rows, list) else 1
    lines = re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff"))
    full = [line for line in lines if line.strip()]
    if any("read as fastText" in note for note in task.notes):
        return len(full)
    if any("read as CoNLL" in note for note in task.notes):
        words = [line if not re.match(r"-DOCSTART-(\s|$)", line) else "" for line in lines]
        blocks = "\n".join(word for word in words if not re.match(r"#(?!.*\s(O|[BIESLU]-\S+)\s*$)", word)).split("\n\n")
        return sum(bool(block.strip()) for block in blocks)
    if '"' in text or any("read as" in note for note in task.notes) or len(full) != sum(map(bool, lines)):
        return None
    return len(full) - header - bool(re.fullmatch("sep=.", full[0], re.IGNORECASE))


def encoding_of(task: Task) -> str:
    """How the file was read, by the note on it."""
    return next(
        (name for name in ("UTF-16", "UTF-32") for note in task.notes if f"read as {name}" in note), "utf-8-sig"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        number = int(sys.argv[1])
        print(make_file(number, Path(temporary)).read_bytes()[:3000])  # noqa: T201
        print(press(number, Path(temporary)))  # noqa: T201
