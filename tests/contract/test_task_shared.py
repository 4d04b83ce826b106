"""All real tasks load, as their own task.toml says, at a small multiple of what parsing them costs."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from promptgraft.task.compare import overlap
from promptgraft.task.load import load_task

KIND_COUNTS = {"classification": 58, "pair": 23, "regression": 2, "choice": 6, "tagging": 16, "span": 4, "text": 10}


# In a process of its own: the checks of every call that the test run adds make this five times as long.
SUMMARY = """
import gzip, json, pathlib, sys, time
from promptgraft.errors import TaskError
from promptgraft.task.load import load_task
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    begin = time.process_time()
    try:
        task = load_task(folder)
        task.fingerprint
    except TaskError as error:
        print(json.dumps([folder.name, {"error": error.what}]))
        continue
    rows = {split: len(examples) for split, examples in task.splits.items()}
    seconds = time.process_time() - begin
    begin = time.process_time()
    for file in folder.glob("*.jsonl.gz"):
        for line in gzip.open(file, "rt", encoding="utf-8"):
            json.loads(line)
    parsing = time.process_time() - begin
    told = {"name": task.name, "kind": task.kind, "metric": task.metric, "licence": task.licence}
    told |= {"seconds": seconds, "parsing": parsing, "rows": rows}
    print(json.dumps([folder.name, {**told, "labels": dict(task.labels), "notes": task.notes}]))
"""


@pytest.mark.slow
def test_all_119_tasks_load_at_a_small_multiple_of_what_parsing_them_costs(shared: Path) -> None:
    tasks = shared / "data" / "tasks"
    done = subprocess.run([sys.executable, "-c", SUMMARY, str(tasks)], capture_output=True, text=True, check=True)
    told = dict(json.loads(line) for line in done.stdout.splitlines())
    assert [task["error"] for task in told.values() if "error" in task] == []
    assert Counter(task["kind"] for task in told.values()) == KIND_COUNTS
    assert len(told) == 119
    assert [name for name, task in told.items() if task["seconds"] > 30 * task["parsing"] + 0.05] == []
    for name, task in told.items():
        agrees_with_its_file(task, tomllib.loads((tasks / name / "task.toml").read_text(encoding="utf-8")))


def agrees_with_its_file(task: dict[str, Any], said: dict[str, Any]) -> None:
    if said["kind"] == "text2text":
        said |= {"kind": "text", "metric": {"bleu": "bleu"}.get(said["metric"], "rougeL")}
    assert [task[key] for key in ("name", "kind", "metric")] == [said[key] for key in ("name", "kind", "metric")]
    assert task["licence"] == said["source"]["licence"]
    left_out = sum(int(note.split()[1]) for note in task["notes"] if "left out" in note)
    assert left_out <= 1  # squad has one question without an answer
    assert sum(task["rows"].values()) == sum(said["rows"].values()) - left_out
    if task["kind"] in ("classification", "pair"):
        assert task["labels"] == said["labels"]


def test_the_same_data_has_the_same_fingerprint_whatever_the_notes(shared: Path) -> None:
    folder = shared / "data" / "tasks" / "cb"
    task = load_task(folder)
    assert task.noted("said").fingerprint == load_task(folder).fingerprint
    assert task.replace(metric="f1").fingerprint != task.fingerprint
    assert task.replace(splits={**task.splits, "test": task.test[:-1]}).fingerprint != task.fingerprint


def test_overlap_finds_tasks_that_share_texts(shared: Path) -> None:
    tasks = {name: load_task(shared / "data" / "tasks" / name) for name in ("sst2", "mr", "trec")}
    assert overlap(tasks["mr"], tasks["sst2"])["train", "test"] > 1000
    assert overlap(tasks["mr"], tasks["trec"]) == {}


def test_tags_are_described_by_tag_or_by_type(shared: Path) -> None:
    chinese, english = (load_task(shared / "data" / "tasks" / name) for name in ("cluener", "wnut17"))
    assert list(chinese.labels.items())[:3] == [("O", "O"), ("B-address", "地址"), ("I-address", "地址")]
    assert english.labels["B-location"] == "begin of the name of a place"
    assert english.classes[0] == "O"
