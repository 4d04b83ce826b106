"""A column that a file does not have is said alike by every verb, with the nearest one and the option that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

import promptgraft as pg
from causal_models import causal_folder
from command import Command, Tuned
from promptgraft.errors import TaskError

ROWS = "texts,label\n退货怎么办理？,return\n多少钱？,price\n"

# words of a verb in which RUN stands for a run folder, FILE for a file, MODEL and CAUSAL for models
OF_AN_ARTEFACT = {
    "predict": "predict RUN --file FILE -m MODEL",
    "suggest": "suggest RUN --file FILE -m MODEL",
    "explain": "explain RUN --file FILE -m MODEL",
    "extend, rows": "extend RUN --rows FILE -m MODEL",
    "extend, test": "extend RUN --label other=others --test FILE -m MODEL",
}
OF_A_FILE = OF_AN_ARTEFACT | {
    "generate": "generate CAUSAL --file FILE",
    "distil": "distil {text}:{mask} --to {text}{mask} --file FILE -m MODEL",
    "tune": "tune FILE -m MODEL",
    "rank": "rank FILE -m MODEL --bank BANK",
    "transfer": "transfer FILE -m MODEL --bank BANK",
    "compare": "compare FILE -m MODEL --bank BANK",
    "estimate": "estimate tune FILE -m MODEL",
    "search": "search FILE -m MODEL -a grips",
    "templates try": "templates try FILE -t {text}:{mask}",
    "bank record": "bank record BANK FILE -m MODEL",
    "bank import": "bank import BANK no-adapter --task FILE --model MODEL",
}
OF_LABELS = OF_A_FILE.keys() - {"predict", "generate"}
"""What takes --label-column."""


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    causal_folder(folder, "llama")
    return folder


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


@pytest.fixture
def typed(pg: Command, tuned: Tuned, splade_tiny: Path, causal: Path, file: Path) -> Command:
    places = {"RUN": tuned.run, "BANK": tuned.bank, "FILE": file, "MODEL": splade_tiny, "CAUSAL": causal}

    def call(words: str, *more: object) -> object:
        return pg(*(places.get(word, word) for word in words.split()), *more, "--quiet")

    return call  # type: ignore[return-value]


@pytest.mark.parametrize("verb", OF_AN_ARTEFACT)
def test_the_column_that_was_tuned_from(verb: str, typed: Command, file: Path) -> None:
    said = typed(OF_AN_ARTEFACT[verb])
    line = "no column 'text', from which shop_questions_zh is read; did you mean 'texts'? Name it with --text-column"
    assert (said.status, said.err) == (1, f"promptgraft: {file}: {line}\n")


@pytest.mark.parametrize("verb", OF_A_FILE)
def test_a_column_that_is_named(verb: str, typed: Command, file: Path) -> None:
    """Also where the file has one column only, which is the text where none is named."""
    said = typed(OF_A_FILE[verb], "--text-column", "txet")
    line = "no column 'txet'; did you mean 'texts'? Name it with --text-column"
    assert (said.status, said.err) == (1, f"promptgraft: {file}: {line}\n")
    file.write_text("texts\n退货怎么办理？\n多少钱？\n", encoding="utf-8")
    said = typed(OF_A_FILE[verb], "--text-column", "zzz")
    line = "no column 'zzz'; its columns: texts. Name it with --text-column"
    assert (said.status, said.err) == (1, f"promptgraft: {file}: {line}\n")


@pytest.mark.parametrize("verb", sorted(OF_LABELS))
def test_a_column_of_labels_that_is_named(verb: str, typed: Command, file: Path) -> None:
    said = typed(OF_A_FILE[verb], "--text-column", "texts", "--label-column", "lable")
    line = "no column 'lable'; did you mean 'label'? Name it with --label-column"
    assert (said.status, said.err) == (1, f"promptgraft: {file}: {line}\n")


def test_a_file_beside_the_task_has_the_columns_of_the_task(
    pg: Command, reviews: Path, tuned: Tuned, splade_tiny: Path, file: Path
) -> None:
    words = ("--model", splade_tiny, "--bank", tuned.bank, "--method", "panda", "--shots", 2, "--unlabelled", file)
    said = pg("transfer", reviews, *words, "--quiet")
    line = "no column 'text', from which home_reviews is read; did you mean 'texts'? Call the right one 'text'"
    assert (said.status, said.err) == (1, f"promptgraft: {file}: {line}\n")


def test_explain_reads_a_task_by_the_columns_that_are_named(
    done: Command, tuned: Tuned, splade_tiny: Path, questions: Path, tmp_path: Path
) -> None:
    task = tmp_path / "task"
    task.mkdir()
    lines = (questions / "train.jsonl").read_text(encoding="utf-8").replace('"text"', '"words"')
    (task / "train.jsonl").write_text(lines, encoding="utf-8")
    words = ("--file", task, "--rows", 4, "--text-column", "words", "--model", splade_tiny, "--out", tmp_path / "out")
    assert done("explain", tuned.run, *words, "--json").json["labelled"] == 4


def test_python_says_the_argument(tuned: Tuned, splade_tiny: Path, file: Path) -> None:
    line = r"no column 'txet'; did you mean 'texts'\? Name it with text$"
    for rows in (file, [{"texts": "多少钱？", "label": "price"}]):
        for ask in (pg.explain, pg.suggest, pg.extend):
            with pytest.raises(TaskError, match=line):
                ask(tuned.run, rows=rows, columns={"text": "txet"}, model=splade_tiny)


def test_a_bank_is_recorded_on_a_file_whose_columns_are_named(
    done: Command, tuned: Tuned, splade_tiny: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mails.csv"
    rows = [("late again", "x"), ("a fine film", "y"), ("it broke", "x"), ("well made", "y")] * 2
    file.write_text("subject,body,sort\n" + "".join(f"{text},b,{label}\n" for text, label in rows), encoding="utf-8")
    words = ("--text-column", "subject", "--label-column", "sort", "--label", "x=bad", "--label", "y=good")
    said = done("bank", "record", tuned.bank, file, "--model", splade_tiny, *words, "--json")
    assert [list(entry["gains"].values()) for entry in said.json] != []
    assert "mails" in str(said.json)


def test_options_that_read_a_task_need_one(pg: Command, tuned: Tuned, tmp_path: Path) -> None:
    said = pg("bank", "import", tuned.bank, tmp_path, "--text-column", "body")
    line = "--text-column is for reading a task; add --task, or leave it out"
    assert (said.status, said.err) == (2, f"promptgraft: {line}\n")
