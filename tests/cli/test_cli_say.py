"""What a verb says acts on no terminal, and shows on consoles of any encoding."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from promptgraft.cli.progress import Pace, ProgressLines
from promptgraft.cli.say import Output, Say
from promptgraft.engine.progress import Event

HOSTILE = "\x1b]52;c;aGk=\x07 \u202etxt.exe \x9b31m \U000e0041 a\rb"
"""Sets the clipboard, turns the direction of text, colours by a C1 control, hides a tag, overwrites the line."""
ACTING = set("\x1b\x07\u202e\x9b\U000e0041\r")


def spoken(
    encoding: str, monkeypatch: pytest.MonkeyPatch, act: Callable[[Say], None], **options: bool
) -> tuple[str, str]:
    """What `act` leaves on standard output and error of an encoding."""
    streams = [BytesIO(), BytesIO()]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, TextIOWrapper(stream, encoding=encoding, newline=""))
    act(Say(Output(**options)))
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = (stream.getvalue().decode(encoding) for stream in streams)
    return out, err


def everything(say: Say) -> None:
    say.note(HOSTILE)
    say.problem(HOSTILE)
    say.line(f"{HOSTILE}\nsecond line")
    say.table([HOSTILE, "n "], [[HOSTILE, "1"], ["好 🙂", "2"]], title=HOSTILE)
    say.either(lambda: HOSTILE, lambda: HOSTILE)
    say.data({"label": HOSTILE, "emoji": "好 🙂"})
    pace = Pace("reading", clock=lambda: 100.0)
    lines = ProgressLines(say, pace)
    lines._next = 0
    lines.tell(Event(0, 1, HOSTILE))


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "cp1252", "ascii"])
@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_that_is_said_acts_on_a_terminal(encoding: str, as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = spoken(encoding, monkeypatch, everything, json=as_json)
    assert not ACTING & set(out + err)
    assert err.count("\\x1b") == 3
    if as_json:
        assert json.loads(out) == {"label": HOSTILE, "emoji": "好 🙂"}
        return
    assert out.count("\\x1b") == 5
    assert "\nsecond line\n" in out
    assert ("好 🙂" if encoding == "utf-8" else "\\U0001f642") in out


def test_a_newline_in_a_cell_breaks_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = spoken("utf-8", monkeypatch, lambda say: say.table(["a"], [["one\ntwo\tthree\u2028four"]]))
    assert [line.strip() for line in out.splitlines()] == ["a", "one\\ntwo\\tthree\\u2028four"]


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "ascii"])
def test_predict_on_a_console_that_cannot_show_the_text(
    encoding: str, process: Callable[..., subprocess.Popen[str]], splade_tiny: Path, said_run: Path
) -> None:
    words = ["predict", said_run, "--text", "好 🙂", "--model", splade_tiny]
    started = process(*words, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    out, err = (stream.read() for stream in (started.stdout.buffer, started.stderr.buffer))
    assert started.wait() == 0, err
    assert b"\\U0001f642" in out
    started = process(*words, "--json", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    out, err = started.communicate()
    assert json.loads(out)[0]["text"] == "好 🙂"


@pytest.fixture(scope="module")
def said_run(
    done: Callable[..., object], splade_tiny: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    run = tmp_path_factory.mktemp("said") / "run"
    done("tune", reviews, "--shots", 4, "--method", "linear-probe", "--model", splade_tiny, "--out", run)
    return run


def test_the_package_is_a_command(home: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "promptgraft", "--version"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stdout[:12]) == (0, "promptgraft ")


@pytest.mark.parametrize("letter", ["a", "好", "\x1b"])
def test_of_a_cell_of_a_megabyte_the_beginning_is_shown(letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = letter * 2**20
    out, _ = spoken("utf-8", monkeypatch, lambda say: say.table(["text"], [[whole], ["short"]]))
    assert "... (1,048,576 characters)" in out
    assert len(out) < 20_000
    assert "short" in out
    out, _ = spoken("utf-8", monkeypatch, lambda say: say.data({"text": whole}), json=True)
    assert json.loads(out) == {"text": whole}
