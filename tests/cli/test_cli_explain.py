"""explain as a user calls it: a table, a page and figures, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from command import QUICK, Command, Tuned


def test_a_run_is_explained_on_rows_of_its_task(
    done: Command, tuned: Tuned, splade_tiny: Path, questions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why"
    words = [tuned.run, "--file", questions, "--rows", 9, "--model", splade_tiny, "--out", out]
    said = done("explain", *words)
    assert "nearest words" in said.out
    assert "weak evidence" in said.out
    assert "Without the prompt the loss of 9 rows goes from" in said.out
    assert "asked are test rows of shop_questions_zh" in said.err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    first = json.loads((questions / "test.jsonl").read_text(encoding="utf-8").splitlines()[0])["text"]
    assert any(letter in page for letter in first)
    figures = json.loads((out / "explain.json").read_text(encoding="utf-8"))
    assert len(figures["members"][0]["left_out"]["vectors"]) == 3


def test_a_bank_entry_is_explained_without_rows(done: Command, tuned: Tuned, splade_tiny: Path, tmp_path: Path) -> None:
    entry = tuned.bank / "shop_questions_zh"
    said = done("explain", entry, "--model", splade_tiny, "--out", tmp_path, "--json")
    assert "no rows were given (--file)" in said.err
    assert said.json["files"] == [str(tmp_path / "report.html"), str(tmp_path / "explain.json")]
    [member] = said.json["members"]
    assert member["words"]["nearest"]
    assert member["attention"] is None


def test_a_file_without_labels_and_a_long_line(done: Command, tuned: Tuned, splade_tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text(f"text\n退货怎么办理？\n{'很长' * 5000}\n", encoding="utf-8")
    said = done("explain", tuned.run, "--file", file, "--model", splade_tiny, "--out", tmp_path / "out")
    assert "no row has a label" in said.err
    assert "退货怎么办理" in said.out


def test_a_probe_has_no_prompt_in_a_line(done: Command, splade_tiny: Path, questions: Path, tmp_path: Path) -> None:
    run = tmp_path / "probe"
    done("tune", questions, "--model", splade_tiny, "--method", "linear-probe", "--shots", 2, *QUICK, "--out", run)
    said = done("explain", run, "--file", questions, "--model", splade_tiny)
    scores, line = said.out.splitlines()
    assert scores.startswith("accuracy: ")
    assert line == (
        "linear-probe has no prompt, so there are no vectors to explain; "
        "`promptgraft tune TASK --model splade-tiny` makes some"
    )


def test_what_a_search_found_is_told_in_words(done: Command, splade_tiny: Path, reviews: Path, tmp_path: Path) -> None:
    few = ("--passes", 60, "--shots", 2, "--max-length", 48, "--test-rows", 20)
    done("search", reviews, "--model", splade_tiny, "-a", "none", *few, "--out", tmp_path / "run")
    said = done("explain", tmp_path / "run" / "library", "--model", splade_tiny)
    assert said.out.startswith("It reads rows in ")
    assert "Labels are read by negative = " in said.out
    assert "Its words were found by library with splade-tiny in " in said.out
    line = "search has no prompt, so there are no vectors to explain; `promptgraft tune TASK --model splade-tiny"
    assert said.out.splitlines()[-1].startswith(line)


def test_what_is_wrong_is_one_line(pg: Command, tuned: Tuned, splade_tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n退货怎么办理？,nonsense\n", encoding="utf-8")
    empty = tmp_path / "empty.csv"
    empty.write_text("", encoding="utf-8")
    model = ["--model", splade_tiny]
    for words, part in (
        ([tmp_path / "nowhere"], "no artefact here"),
        ([tuned.run, "--file", file, *model], "unknown class 'nonsense'"),
        ([tuned.run, "--file", file, *model], "; or name another --label-column"),
        ([tuned.run, "--file", empty, *model], "empty"),
        ([tuned.run, "--file", file, "--text-column", "texts", *model], "no column 'texts'"),
        ([tuned.run, "--file", tmp_path / "missing.csv", *model], "missing.csv"),
    ):
        said = pg("explain", *words)
        assert said.status in (1, 2)
        assert part in said.err
        assert len(said.err.strip().splitlines()) == 1, said.err
