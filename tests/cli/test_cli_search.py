"""promptgraft search, as it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

from command import Command

FEW = ("--passes", "120", "--shots", "6", "--max-length", "48", "--test-rows", "20")


def test_a_search_shows_what_it_found_and_writes_its_page(
    done: Command, splade_tiny: Path, reviews: Path, tmp_path: Path
) -> None:
    words = ("search", reviews, "--model", splade_tiny, "--algorithms", "grips", *FEW, "--out", tmp_path / "run")
    said = done(*words)
    for name in ("none", "library", "random", "grips"):
        assert re.search(rf"^{name} ", said.out, flags=re.MULTILINE)
    assert "no better than the template" in said.out or "is better than the template" in said.out
    assert "edits begin with the library's sentiment-cloze-en" in said.err
    page = (tmp_path / "run" / "search.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "the words along the way" in page
    before = json.loads((tmp_path / "run" / "grips" / "found.json").read_text(encoding="utf-8"))
    again = done(*words, "--json").json
    [found] = [entry for entry in again["found"] if entry["algorithm"] == "grips"]
    assert {**found, "seconds": 0} == {**before, "seconds": 0}


def test_what_was_found_is_used_like_any_template(
    done: Command, splade_tiny: Path, reviews: Path, tmp_path: Path
) -> None:
    said = done(
        "search", reviews, "--model", splade_tiny, "-a", "demonstrations", *FEW, "--out", tmp_path / "run", "--json"
    )
    for found in said.json["found"]:
        template, words = ("--template", found["text"]), ("--verbalizer", found["verbalizer"])
        run = ("--method", "zero-shot", "--shots", "0", "--test-rows", "20", "--out", tmp_path / found["algorithm"])
        length = ("--max-length", "512" if found["shown"] else "48")
        used = done("tune", reviews, "--model", splade_tiny, *template, *words, *run, *length, "--json").json
        assert used["best"]["scores"]["test"]["score"] == found["report"]["score"]
    for place in (tmp_path / "run", tmp_path / "run" / "demonstrations"):
        assert "probability" in done("predict", place, "--text", "The blade broke on day two.").out


def test_what_it_will_cost_is_said_before(done: Command, splade_tiny: Path, reviews: Path) -> None:
    cost = done("search", reviews, "--model", splade_tiny, "-a", "grips", *FEW, "--estimate", "--json").json
    assert cost["passes"] == 4 * (120 + 20)
    assert 0 < cost["seconds"] < 600


def test_what_cannot_be_searched_has_its_line(pg: Command, splade_tiny: Path, reviews: Path, tmp_path: Path) -> None:
    said = pg("search", reviews, "--model", splade_tiny, "-a", "gripps", "--out", tmp_path / "run")
    assert said.status == 2
    assert "unknown algorithm 'gripps'; did you mean 'grips'?" in said.err
    empty = tmp_path / "empty.csv"
    empty.write_text("", encoding="utf-8")
    said = pg("search", empty, "--model", splade_tiny, "--out", tmp_path / "run")
    assert (said.status, said.err.count("\n")) == (1, 1)
    few = tmp_path / "few.csv"
    few.write_text("text,label\ngood,yes\nbad,no\n", encoding="utf-8")
    said = pg("search", few, "--model", splade_tiny, "--out", tmp_path / "run")
    assert said.status == 1
    assert "no labelled rows are left to" in said.err
    said = pg("search", reviews, "--model", splade_tiny, "-a", "cma-es", "--start", "films", "--out", tmp_path / "run")
    assert (said.status, said.err.splitlines()[-1][:30]) == (2, "promptgraft: no bank was given")
    said = pg("search", reviews, "--model", splade_tiny, "-a", " ,", "--out", tmp_path / "run")
    assert (said.status, said.err.splitlines()[-1][:40]) == (2, "promptgraft: --algorithms names none; gi")
    said = pg("search", reviews, "--model", splade_tiny, "--verbalizer", "auto", "--out", tmp_path / "run")
    assert said.status == 2
    assert "search takes no --verbalizer auto; leave it out and name the algorithm label-words" in said.err
