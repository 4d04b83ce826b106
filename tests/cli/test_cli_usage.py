"""Wrong usage of any verb is one line as every other error is, whichever library finds it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer

from command import Command

VERBS = (
    "tune", "rank", "transfer", "compare", "estimate", "predict", "generate", "distil", "extend", "suggest", "search",
    "explain", "doctor", "models list", "models pull", "models path", "templates list", "templates show",
    "templates try", "bank list", "bank show", "bank add", "bank remove", "bank verify", "bank export", "bank import",
    "bank record", "cache clear",
)  # fmt: skip
ALONE = {"doctor", "models list", "templates list", "bank list", "bank verify", "bank record", "cache clear"}
"""What may be called without any further word."""


def verbs(group: typer.Typer, before: str = "") -> Iterator[str]:
    """The words of every verb."""
    yield from (f"{before}{command.name}" for command in group.registered_commands)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from verbs(inner.typer_instance, f"{inner.name} ")


# words -> the line
LINES = {
    "tunee": "unknown verb 'tunee'; did you mean 'tune'?",
    "models pul": "unknown verb of models 'pul'; did you mean 'pull'?",
    "templates tr": "unknown verb of templates 'tr'; did you mean 'try'?",
    "cache klear": "unknown verb of cache 'klear'; did you mean 'clear'?",
    "--verson": "unknown option '--verson'; did you mean '--version'?",
    "tune x --modle y": "unknown option '--modle'; did you mean '--model'?",
    "tune x --zzzzzz y": "unknown option '--zzzzzz'; see promptgraft tune --help",
    "bank list a b c": "got unexpected extra argument(s) (b c); see promptgraft bank list --help",
    "tune": "missing argument 'TASK' (a file (csv, tsv, json, jsonl, parquet; .gz too), a folder with task.toml, or "
    "hub:DATASET); see promptgraft tune --help",
    "models pull": "missing argument 'NAME' (a name of `promptgraft models list`, or OWNER/MODEL); see promptgraft "
    "models pull --help",
    "search x": "missing option '--model' / '-m' (the frozen model: a name from `promptgraft models list`, a folder, "
    "or a hub name that was downloaded); see promptgraft search --help",
    "templates try texts.txt": "missing option '--template' / '-t' (a name of `promptgraft templates list`, a text "
    'such as "{text} It was {mask}.", or the folder of a search); see promptgraft templates try --help',
    "tune x --model": "option '--model' has no value; give one, or see promptgraft tune --help",
    "tune x -m": "option '-m' has no value; give one, or see promptgraft tune --help",
    "tune x -m y --shots": "option '--shots' has no value; give one, or see promptgraft tune --help",
    "predict x --text": "option '--text' has no value; give one, or see promptgraft predict --help",
    "templates list --language": "option '--language' has no value; give one, or see promptgraft templates list --help",
    "bank record b x --model": "option '--model' has no value; give one, or see promptgraft bank record --help",
    "tune x -m y --out --steps 3": "option '--out' has no value; give one, or see promptgraft tune --help",
    "tune x -m --steps 3": "option '-m' has no value; give one, or see promptgraft tune --help",
    "tune x -m y --out=": "option '--out' has no value; give one, or see promptgraft tune --help",
    "predict x --text --file y": "option '--text' has no value; give one, or see promptgraft predict --help",
    "bank add b x --name --replace": "option '--name' has no value; give one, or see promptgraft bank add --help",
    "tune x --model y --depth deeep": "unknown value of --depth 'deeep'; did you mean 'deep'?",
    "predict x --format xml": "unknown value of --format 'xml'; known: csv, json, jsonl, parquet, tsv, txt",
    "tune x --model y --rate abc": "--rate 'abc': should be a valid number; see promptgraft tune --help",
    "tune x -m y --shots two": "--shots 'two': should be a valid integer; see promptgraft tune --help",
    "tune x -m y --rate -1": "--rate '-1': should be greater than or equal to 0; see promptgraft tune --help",
    "search x -m y --passes 0": "--passes '0': should be greater than or equal to 1; see promptgraft search --help",
}


@pytest.mark.parametrize("words", LINES)
def test_wrong_usage_is_one_line_that_says_what_to_do(words: str, pg: Command) -> None:
    said = pg(*words.split())
    assert (said.status, said.out, said.err) == (2, "", f"promptgraft: {LINES[words]}\n")


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        ("predict  --text x", "RUN"),
        ("predict -- ", "RUN"),
        ("tune  --model y", "TASK"),
        ("bank list ", "BANK"),
        ("bank import bank ", "PATH"),
        ("models pull ", "NAME"),
    ],
)
def test_an_empty_argument_is_said_to_be_so(words: str, argument: str, pg: Command) -> None:
    said = pg(*words.split(" "))
    verb = " ".join(words.split(" ")[: 2 if words.startswith(("bank", "models")) else 1])
    line = f"promptgraft: {argument} is empty; give one, or see promptgraft {verb} --help\n"
    assert (said.status, said.out, said.err) == (2, "", line)


def test_an_empty_text_is_a_value(pg: Command) -> None:
    assert "empty" not in pg("predict", "x", "--text", "").err


@pytest.mark.parametrize("option", ["--out", "-o", "--model", "--bank", "--name", "--text-column", "--template"])
def test_an_empty_value_is_none(option: str, pg: Command) -> None:
    said = pg("tune", "x", "--model", "y", option, "")
    line = f"promptgraft: option '{option}' has no value; give one, or see promptgraft tune --help\n"
    assert (said.status, said.out, said.err) == (2, "", line)


def test_a_text_may_be_empty_or_look_like_an_option(pg: Command) -> None:
    for words in (["--text", ""], ["--text=--file"], ["--text", "x", "--abstain-as", ""]):
        assert "no value" not in pg("predict", "nowhere", *words).err


def test_these_are_all_verbs() -> None:
    from promptgraft.cli.main import app  # not above: shapes are checked in what is imported from here on

    assert set(verbs(app)) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_is_missing_or_unknown_in_one_line(verb: str, pg: Command) -> None:
    said = pg(*verb.split(), *(["--no-such-option"] if verb in ALONE else []))
    assert said.status == 2
    assert said.err.startswith(f"promptgraft: {'unknown option' if verb in ALONE else 'missing'} ")
    assert said.err.endswith(f"; see promptgraft {verb} --help\n")
    assert said.err.count("\n") == 1


def test_what_is_quoted_acts_on_no_terminal(pg: Command) -> None:
    said = pg("tune", "x", "--model", "y", "--rate", "\x1b[31mred\n")
    assert "\x1b" not in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("group", ["models", "bank", "templates"])
def test_a_group_alone_shows_its_help(group: str, pg: Command) -> None:
    said = pg(group)
    assert said.status == 2
    assert "Commands" in said.out + said.err
    assert "promptgraft:" not in said.err
