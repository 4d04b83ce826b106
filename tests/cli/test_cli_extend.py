"""extend as a user calls it: a class from its description or from rows, and one line for what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from command import Command


@pytest.fixture(scope="module")
def run(done: Command, splade_tiny: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graft of the backbone alone, since there is no bank for it."""
    folder = tmp_path_factory.mktemp("extend")
    (folder / "bank").mkdir()
    words = ["transfer", questions, "--bank", folder / "bank", "--method", "graft", "--no-baselines", "--shots", 4]
    done(*words, "--model", splade_tiny, "--out", folder / "run")
    return folder / "run"


def rows_file(path: Path, *rows: tuple[str, str]) -> Path:
    content = "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)
    path.write_text(content, encoding="utf-8")
    return path


def test_a_class_is_added_and_predicted(done: Command, run: Path, splade_tiny: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    said = done("extend", run, "--label", "投诉=顾客投诉", "--model", splade_tiny, "--out", new)
    assert "remembered rows" in said.out
    assert f"added: 投诉; 5 classes, in {new}" in said.out.replace("\n", " ")
    card = json.loads((new / "card.json").read_text(encoding="utf-8"))
    assert card["task"]["labels"]["投诉"] == "顾客投诉"
    assert card["lineage"][-1]["role"] == "extended"
    answers = done("predict", new, "--text", "投诉", "--model", splade_tiny, "--json").json
    assert answers[0]["prediction"] in card["task"]["labels"]


def test_rows_are_read_and_judged(done: Command, run: Path, splade_tiny: Path, questions: Path, tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "more.jsonl", ("我要投诉你们", "投诉"), ("客服态度太差", "投诉"), ("投诉", "投诉"))
    test = questions / "test.jsonl"
    said = done(
        "extend", run, "--label", "投诉=顾客投诉", "--rows", rows, "--test", test, "--model", splade_tiny,
        "--out", tmp_path / "new", "--json",
    ).json  # fmt: skip
    assert said["added"] == {"投诉": "顾客投诉"}
    assert said["judged_on"].endswith("test rows")
    assert all(change["right_after"] <= change["rows"] for change in said["changes"])
    assert len(said["scores"]) == 2
    card = json.loads((tmp_path / "new" / "card.json").read_text(encoding="utf-8"))
    assert card["scores"]["test"]["value"] == pytest.approx(said["scores"][1])


def test_the_new_artefact_has_a_place_of_its_own(
    done: Command, pg: Command, run: Path, splade_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done("extend", run, "--label", "a", "--model", splade_tiny)
    assert Path("runs/extend-run/card.json").exists()
    again = pg("extend", run, "--label", "b", "--model", splade_tiny)
    assert again.status == 1
    assert "holds an artefact already; name another with --out, or --replace" in again.err
    said = done("extend", run, "--label", "b", "--model", splade_tiny, "--replace")
    assert "'b' has no description: its name is read" in said.err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "nothing to add"),
        (("--label", "=x"), "a label has no name"),
        (("--label", "a=x", "--label", "a=y"), "--label a is given twice"),
        (("--rows", "absent.csv"), "absent.csv"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...], line: str, pg: Command, run: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    said = pg("extend", run, *words, "--model", splade_tiny, "--out", tmp_path / "new")
    assert said.status in (1, 2)
    assert line in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_file_of_rows_is_held_to_the_classes(pg: Command, run: Path, splade_tiny: Path, tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "more.jsonl", ("我要投诉你们", "投诉"))
    said = pg("extend", run, "--rows", rows, "--model", splade_tiny, "--out", tmp_path / "new")
    assert said.status == 1
    assert "more.jsonl:1: the label '投诉' is none of the classes" in said.err
    assert "--label 投诉=DESCRIPTION" in said.err
    (tmp_path / "none.csv").write_text("text,label\na,\nb,\n", encoding="utf-8")
    said = pg("extend", run, "--rows", tmp_path / "none.csv", "--model", splade_tiny, "--out", tmp_path / "new")
    assert "no row has a label" in said.err
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    said = pg("extend", run, "--rows", tmp_path / "empty.csv", "--model", splade_tiny, "--out", tmp_path / "new")
    assert "the file is empty" in said.err


def test_a_long_line_is_read(done: Command, run: Path, splade_tiny: Path, tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "long.jsonl", ("投诉 " * 5000, "投诉"))
    said = done("extend", run, "--label", "投诉", "--rows", rows, "--model", splade_tiny, "--out", tmp_path / "new")
    assert "added: 投诉" in said.out


def test_a_label_is_added_where_rows_have_several(
    done: Command, pg: Command, splade_tiny: Path, tmp_path: Path
) -> None:
    data = tmp_path / "hotel.jsonl"
    labels = {"clean": "the room is clean", "quiet": "the hotel is quiet"}
    texts = [("a clean room", ["clean"]), ("quiet at night", ["quiet"]), ("clean and quiet", ["clean", "quiet"])]
    rows = [{"text": f"{text} {number}", "label": names} for number in range(6) for text, names in texts]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "bank").mkdir()
    run, new = tmp_path / "run", tmp_path / "new"
    words = ["transfer", data, "--bank", tmp_path / "bank", "--method", "graft", "--no-baselines"]
    labelled = [part for name, text in labels.items() for part in ("--label", f"{name}={text}")]
    done(*words, *labelled, "--model", splade_tiny, "--out", run)
    said = done(
        "extend", run, "--label", "price=the price is high", "--model", splade_tiny, "--out", new, "--json"
    ).json
    assert said["added"] == {"price": "the price is high"}
    assert {change["name"] for change in said["changes"]} == set(labels)
    answers = done("predict", new, "--text", "the price is high", "--model", splade_tiny, "--json").json
    assert set(answers[0]["prediction"]) <= {*labels, "price"}
    dear = [{"text": f"a high price {number}", "label": ["price"]} for number in range(4)]
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:4], *dear]), encoding="utf-8")
    taught = done(
        "extend", run, "--label", "price=the price is high", "--rows", more, "--model", splade_tiny, "--out",
        tmp_path / "taught",
    )  # fmt: skip
    assert "labels are given from a probability of" in " ".join(taught.err.split())
    assert re.search(r"set by 1\d remembered and 8 given rows", " ".join(taught.err.split()))
    failed = pg("extend", run, "--label", "clean=tidy", "--model", splade_tiny, "--out", tmp_path / "other")
    assert failed.status == 2
    assert "is a class already" in failed.err
