"""templates as a user calls it: the library listed and shown, a template tried on rows, and one line for mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import Command
from promptgraft.template.known import EXPECTED


def test_the_library_is_listed_and_filtered(done: Command) -> None:
    said = done("templates", "list")
    assert len(said.out.splitlines()) >= 49
    said = done("templates", "list", "--language", "zh", "--family", "sentiment", "--json")
    assert [entry["style"] for entry in said.json] == ["cloze", "question", "descriptive"]
    assert said.json[0]["words"]["positive"] == ["好", "棒"]


def test_one_is_shown_with_its_words(done: Command) -> None:
    said = done("templates", "show", "inference-cloze-en")
    assert said.out.startswith("{text_a}? {mask}, {text_b}\n")
    assert "for masked models" in said.out
    assert "Yes, Therefore, So" in said.out


def test_it_is_tried_on_rows(done: Command, reviews: Path) -> None:
    said = done("templates", "try", reviews, "--template", "sentiment-cloze-en", "--rows", 2)
    assert said.out.count("It was [mask].") == 2
    assert "the answer: terrible" in said.out
    assert "note: words of the template sentiment-cloze-en: negative = terrible or bad or awful" in said.err


def test_a_model_shows_its_tokens_and_what_is_cut(done: Command, questions: Path, splade_tiny: Path) -> None:
    template = '{soft:2} {text} {soft:"it was"} {mask}.'
    words = ("--template", template, "--model", splade_tiny, "--max-length", 12, "--rows", 1)
    [row] = done("templates", "try", questions, *words, "--json").json["rows"]
    assert len(row["tokens"]) == 12
    assert row["tokens"][:3] == ["[CLS]", "(vector)", "(vector)"]
    assert row["tokens"][-5:] == ["(vector)", "(vector)", "[MASK]", ".", "[SEP]"]
    assert row["mark"] == 9
    assert row["lost"] > 0
    said = done("templates", "try", questions, *words)
    assert "12 tokens, read at token 10: [MASK]" in said.out
    assert "characters of its texts are cut off" in said.out


def test_demonstrations_are_drawn_and_said(done: Command, reviews: Path) -> None:
    said = done("templates", "try", reviews, "-t", "{demos:4}\n{text} Sentiment: {mask}", "--rows", 1, "--seed", 3)
    assert said.out.count("Sentiment:") == 5
    assert "note: 4 demonstrations from the training rows, by seed 3" in said.err


def test_a_long_row_is_shown_by_its_beginning(done: Command, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\n{'很好 ' * 5000},a\nbad,b\n" * 4, encoding="utf-8")
    said = done("templates", "try", tmp_path / "a.csv", "-t", "{text}：{mask}", "--rows", 1)
    assert len(said.out) < 1_000
    assert "characters of its texts are not shown" in said.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("show", "sentiment-clozeen"), "unknown template 'sentiment-clozeen'; did you mean 'sentiment-cloze-en'?"),
        (("show", "zzz"), "unknown template 'zzz'; see `promptgraft templates list`\n"),
        (("try", "{}", "-t", "zzz"), f"unknown template 'zzz'; {EXPECTED}\n"),
        (("try", "{text} {mask}", "-t", "zzz"), "'{text} {mask}' is a template and no rows; give these first: "),
        (("try", "topic-cloze-en", "-t", "zzz"), "'topic-cloze-en' is a template and no rows; give these first: "),
        (("list", "--style", "clozee"), "unknown style of templates 'clozee'; did you mean 'cloze'?"),
        (("try", "{}", "-t", "{txt} {mask}"), "'{txt}' is no slot of a template; did you mean 'text'?"),
        (("try", "{}", "-t", "{text}"), "the template has no place of the answer; write {mask}"),
        (("try", "{}", "-t", "{text} {mask} {mask}"), "two places of the answer in the template; keep one"),
        (("try", "{}", "-t", "inference-cloze-en"), "home_reviews has single texts: no {text_a} for the template"),
        (("try", "{}", "-t", "It was great"), "the template 'It was great' has no slot"),
        (
            ("try", "{}", "-t", "{text} It was surely a most wonderful thing {mask}", "-m", "MODEL", "--max-length", 8),
            "the template alone has 8 tokens, and there is room for 6; shorten it, or show fewer demonstrations",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[object, ...], line: str, pg: Command, reviews: Path, splade_tiny: Path
) -> None:
    places = {"{}": reviews, "MODEL": splade_tiny}
    said = pg("templates", *(places.get(str(word), word) for word in words), "--quiet")
    assert said.err.startswith(f"promptgraft: {line}")
    assert said.err.count("\n") == 1
    assert (said.status, said.out) == (2, "")


# words of a verb in which PATH stands for a template
DOORS = {
    "tune": "tune none.csv -m MODEL --template PATH",
    "compare": "compare none.csv -m MODEL --template PATH",
    "estimate": "estimate tune none.csv -m MODEL --template PATH",
    "search": "search none.csv -m MODEL --template PATH",
    "distil": "distil PATH -m MODEL --file none.csv",
    "distil, short": "distil topic-cloze-en -m MODEL --file none.csv --to PATH",
    "generate": "generate MODEL none --template PATH",
    "templates try": "templates try none.csv --template PATH",
}


@pytest.mark.parametrize("door", DOORS)
def test_a_path_that_is_no_template_is_one_line(door: str, pg: Command, splade_tiny: Path, tmp_path: Path) -> None:
    def line(path: Path) -> str:
        places = {"MODEL": splade_tiny, "PATH": path}
        said = pg(*(places.get(word, word) for word in DOORS[door].split()), "--quiet")
        assert said.status == 2
        return said.err

    (tmp_path / "words-of-films").mkdir()
    (tmp_path / "texts.txt").write_text("fine\n", encoding="utf-8")
    near, far = tmp_path / "words-of-film", tmp_path / "elsewhere" / "x"
    assert line(near) == f"promptgraft: there is no folder {near}; did you mean '{near}s'?\n"
    assert line(far) == f"promptgraft: there is no folder {far}; {EXPECTED}, or the folder of a search\n"
    named = tmp_path / "elsewhere" / "topic-cloze"
    assert line(named).startswith(f"promptgraft: there is no folder {named}; did you mean 'topic-cloze-")
    assert line(tmp_path / "texts.txt") == (
        f"promptgraft: {tmp_path}/texts.txt is a file, not a template; {EXPECTED}; "
        "on rows of a file it is tried by `promptgraft templates try FILE --template NAME`\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("texts.txt", "w1 fine\nw2 worse\n", "no labels"),
        ("texts.csv", "text,id\nw1 fine,3\nw2 worse,4\n", "cannot tell which column holds the label"),
    ],
)
def test_it_is_tried_on_texts_without_labels(
    name: str, content: str, why: str, pg: Command, done: Command, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    said = done("templates", "try", file, "-t", "sentiment-cloze-en")
    assert "w1 fine It was [mask]." in said.out
    assert f"note: texts: its texts alone are read ({why}" in said.err
    said = pg("templates", "try", file, "-t", "sentiment-cloze-en", "--kind", "classification")
    assert said.status == 1
    assert said.err.count("\n") == 1


def test_words_are_found_and_demonstrations_chosen_from_the_command_line(
    done: Command, reviews: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    run, new = tmp_path / "run", tmp_path / "new.csv"
    new.write_text("text\nA lovely chair.\n好用\n" + "so bad " * 2000 + "\n", encoding="utf-8")
    said = done(
        "tune", reviews, "--model", splade_tiny, "--method", "zero-shot", "--shots", 4, "--max-length", 160,
        "--template", "{demos:2 near}\n{text} It was {mask}.", "--verbalizer", "auto", "--out", run,
    )  # fmt: skip
    assert "each row is shown the 2 labelled rows of 8 that are nearest to it" in said.err
    assert "words of labels, found from 8 labelled rows: negative = " in said.err
    assert "tokens more a row" in said.err
    done("predict", run, "--model", splade_tiny, "--file", new, "--out", tmp_path / "answers.csv")
    assert len((tmp_path / "answers.csv").read_text("utf-8").splitlines()) == 4


def test_what_neither_rows_nor_words_are_there_for_is_one_line(
    pg: Command, reviews: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    common = ("tune", reviews, "--model", splade_tiny, "--method", "zero-shot", "--out", tmp_path / "run")
    cloze = ("--template", "{text} It was {mask}.")
    for words, message in (
        ((*cloze, "--shots", 0, "--verbalizer", "auto"), "words are found from labelled rows, and there are none"),
        (("--template", "{demos:2 near}\n{text} {mask}", "--shots", 0), "no training rows for demonstrations"),
        (("--template", "{demos:2 next}\n{text} {mask}", "--shots", 4), "write {demos:4}, {demos:4 near} or"),
        ((*cloze, "--shots", 4, "--calibration", "domian"), "domain"),
    ):
        said = pg(*common, *words)
        assert said.status != 0
        assert message in " ".join(said.err.split())
