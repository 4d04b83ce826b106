"""What comes from outside: names cannot leave their folder, text cannot act on a terminal, JSON ends in one error."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.bank.bank import open_bank
from promptgraft.errors import BankError, ModelError, TaskError
from promptgraft.model.catalog import resolve
from promptgraft.untrusted import (
    HIDDEN,
    JOINERS,
    LONGEST_NAME,
    at_home,
    file_name,
    read_bytes,
    read_json,
    read_toml,
    visible,
)


@given(st.text())
def test_a_file_name_stays_in_its_folder(text: str) -> None:
    name = file_name(text)
    assert (Path("/folder") / name).resolve().parent == Path("/folder")
    assert len(name.encode()) <= LONGEST_NAME
    assert file_name(name) == name


@pytest.mark.parametrize(
    "text", ["", "..", "/", "x/../../../../site", "a\0b", "...", "\ud800", "\U0001d400" * 29 + "xxx:y"]
)
def test_a_hostile_name_becomes_a_plain_one(text: str) -> None:
    assert file_name(file_name(text)) == file_name(text)
    assert not set(file_name(text)) & set("/\\\0")
    assert file_name(text) not in {"", ".", ".."}


@given(st.text())
def test_shown_text_has_no_hidden_character(text: str) -> None:
    assert all(character in JOINERS or unicodedata.category(character) not in HIDDEN for character in visible(text))


@given(st.text(st.characters(codec="utf-8", exclude_categories=sorted(HIDDEN))))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_escapes_name_what_they_hide() -> None:
    assert visible("a\x1b]52;c;\x07b\nc") == "a\\x1b]52;c;\\x07b\\nc"
    assert visible("a\tb\nc", lines=True) == "a\tb\nc"
    assert visible("\u202egnp.exe") == "\\u202egnp.exe"


@given(
    st.recursive(st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(), lambda inner: st.lists(inner))
)
def test_sound_json_is_read(value: object) -> None:
    assert read_json(json.dumps(value), "here", TaskError) == value


@pytest.mark.parametrize(
    "text",
    ["[" * 3000 + "]" * 3000, "[" * 200_000, "9" * 5000, '{"a":', b"\xff\xfe", "[" * 150 + "]" * 150, ""],
)
def test_json_that_cannot_be_read_is_one_line(text: str | bytes) -> None:
    with pytest.raises(TaskError, match=r"^here: this (is no )?JSON") as caught:
        read_json(text, "here", TaskError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a = " + "[" * 3000 + "]" * 3000, "a = " + "9" * 5000, "a = ", "a = 1\na = 2"])
def test_toml_that_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(TaskError, match=r"^here: ") as caught:
        read_toml(text, "here", TaskError)
    assert "\n" not in str(caught.value)


def test_only_regular_files_within_the_limit_are_read(tmp_path: Path) -> None:
    sound, pipe = tmp_path / "sound", tmp_path / "pipe"
    sound.write_bytes(b"12345")
    os.mkfifo(pipe)
    assert read_bytes(sound, 5, TaskError) == b"12345"
    for path, message in [
        (sound, "5 bytes; at most 4"),
        (pipe, "no regular file"),
        (tmp_path / "none", "no such file"),
    ]:
        with pytest.raises(TaskError, match=message):
            read_bytes(path, 4, TaskError)


def test_the_home_of_an_unknown_user_is_a_plain_path() -> None:
    assert at_home("~nosuchuser-at-all/x") == Path("~nosuchuser-at-all/x")
    assert at_home("~/x") == Path.home() / "x"
    with pytest.raises(BankError, match="~nosuchuser-at-all"):
        open_bank("~nosuchuser-at-all/bank")
    with pytest.raises(ModelError, match="~nosuchuser-at-all"):
        resolve("~nosuchuser-at-all/model")
