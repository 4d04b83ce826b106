"""Work that takes long is never silent, and what is said of its end is founded: on a terminal, in a log, stopped."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from command import Command, Tuned
from promptgraft.cli.predict import AT_ONCE
from promptgraft.cli.progress import EVERY, FIRST, LONG, Bars, Pace, ProgressLines, bars, progress
from promptgraft.cli.say import Output, Say
from promptgraft.engine.progress import Event, Teller


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace("reading", clock)


def job(done: int, behind: float, running: float, **more: object) -> Event:
    return Event(done, 4, "a job", behind=behind, running=running, **more)  # type: ignore[arg-type]


def test_jobs_count_by_what_they_cost(pace: Pace, clock: Clock) -> None:
    pace.tell(job(0, 0.0, 0.1))
    clock.now += 10
    pace.tell(job(3, 0.1, 0.9))
    assert pace.left == "about 90 s left", "three of four jobs are done, and a tenth of the work"
    clock.now += 30
    assert pace.left == "about 60 s left", "time passes while nothing is told"
    clock.now += 70
    assert pace.left == "", "it should have ended by now"
    clock.now += 10_000
    assert pace.left == ""


def test_steps_of_what_runs_count(pace: Pace, clock: Clock) -> None:
    pace.tell(job(0, 0.0, 0.5))
    clock.now += 60
    pace.tell(job(0, 0.0, 0.5, step=50, steps=100))
    assert pace.left == "", "nothing was seen of these steps: an earlier call may have done them"
    clock.now += 60
    pace.tell(job(0, 0.0, 0.5, step=100, steps=100))
    assert pace.left == "about 4 min left", "a quarter of the work in two minutes, and half is left"


@pytest.mark.parametrize(
    "events",
    [
        [],
        [job(0, 0.0, 0.0), job(3, 0.0, 0.0)],
        [job(0, 0.0, 1.0), job(0, 0.01, 0.99)],
        [job(0, 0.0, 1.0), job(4, 1.0, 0.0)],
    ],
    ids=["nothing told", "no costs known", "too little done", "all done"],
)
def test_what_is_not_founded_is_not_said(events: list[Event], pace: Pace, clock: Clock) -> None:
    for event in events:
        pace.tell(event)
        clock.now += 5
    assert pace.left == ""


def test_other_work_has_a_pace_of_its_own(pace: Pace, clock: Clock) -> None:
    pace.tell(Event(0, 17, "ranking", unit="prompts"))
    clock.now += 500
    pace.tell(job(0, 0.0, 0.5))
    clock.now += 10
    pace.tell(job(2, 0.5, 0.5))
    assert pace.left == "about 10 s left"
    assert pace.passed == 510


def test_a_part_is_said_while_it_lasts_and_what_is_kept_counts_for_nothing() -> None:
    told: list[Event] = []
    teller = Teller(told.append)
    teller.begin({"kept": 0.0, "small": 1.0, "large": 3.0})
    teller.finish("kept")
    teller.now("small, setting up", ["small"])
    with teller.part("tokenising 9 rows"):
        pass
    teller.finish("small")
    teller.now("large", ["large"])
    teller.step(1, 2, 0.5)
    labels = ["", "small, setting up", "small, setting up: tokenising 9 rows", *["small, setting up"] * 2]
    assert [event.label for event in told] == [*labels, "large", "large"]
    assert [event.share for event in told] == [0.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.625]
    assert [event.done for event in told] == [1, 1, 1, 1, 2, 2, 2]


def test_runs_that_train_together_stay_behind_while_each_is_scored() -> None:
    told: list[Event] = []
    teller = Teller(told.append)
    teller.begin({"one": 1.0, "two": 1.0, "three": 2.0})
    teller.now("one and 1 more", ["one", "two"])
    teller.step(5, 5)
    for name in ("one", "two"):
        teller.scoring(f"{name}, scoring")
        teller.finish(name)
    teller.now("three", ["three"])
    assert [event.share for event in told] == [0.0, *[0.5] * 6]


def voice(terminal: bool) -> tuple[Say, io.StringIO]:
    said, stream = Say(Output()), io.StringIO()
    said.err = Console(file=stream, force_terminal=terminal, width=200, _environ={})
    return said, stream


def test_a_log_gets_a_line_every_ten_seconds_whatever_is_told(pace: Pace, clock: Clock) -> None:
    said, stream = voice(terminal=False)
    lines = ProgressLines(said, pace)
    for second in range(61):
        if 20 <= second < 30:  # twice a second
            lines.tell(job(1, 0.2, 0.8, step=second - 19, steps=40))
        lines.beat()
        clock.now += 1
    seen = stream.getvalue().splitlines()
    assert len(seen) == 1 + (60 - FIRST) // EVERY
    assert seen[0] == "2 s: reading"
    assert seen[1] == "12 s: reading for 12 s"
    assert seen[2].startswith("1 of 4 jobs, 22 s")
    assert seen[2].endswith(": step 3 of 40 of a job")
    assert seen[-1] == "1 of 4 jobs, 52 s, about 7 s left: step 10 of 40 of a job for 32 s"


def test_bars_name_what_runs_before_anything_is_told_and_go_on_counting(pace: Pace, clock: Clock) -> None:
    said, _ = voice(terminal=True)
    with bars(said) as shown:
        drawn = Bars(shown, pace)
        assert [row.description for row in shown.tasks] == ["reading"]
        clock.now += 10
        drawn.tell(job(0, 0.0, 0.2))
        clock.now += LONG
        drawn.tell(job(1, 0.2, 0.8))
        clock.now += 15
        drawn.beat()
        now, every = shown.tasks
        assert now.description == "a job for 25 s"
        assert now.total is None
        assert (every.description, every.completed, every.total) == ("jobs", 1, 4)
        assert every.fields["aside"] == "about 25 s left"


def screen(shown: str) -> list[str]:
    """The rows that a terminal shows in the end."""
    rows, row = [""], 0
    for code, character in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([^\x1b])", shown):
        if code == "2K":
            rows[row] = ""
        elif code.endswith("A"):
            row -= int(code[:-1])
        elif character == "\n":
            row += 1
            rows += [""] * (row == len(rows))
        elif character not in ("", "\r"):
            rows[row] += character
    return [text for text in rows if text]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_bars_do_not_overwrite_results() -> None:
    ours, theirs = os.openpty()
    said = Say(Output())
    with os.fdopen(theirs, "w") as terminal:
        said.out, said.err = (Console(file=terminal, force_terminal=True, width=80, _environ={}) for _ in range(2))
        with progress(said, "reading"):
            for text in ("one", "two"):
                said.line(text)
                time.sleep(0.2)  # bars are drawn ten times a second
        said.line("three")
    shown = b""
    while piece := read(ours):
        shown += piece
    assert b"reading" in shown
    assert screen(shown.decode()) == ["one", "two", "three"]


def test_results_stay_on_standard_output_where_bars_go_elsewhere(tmp_path: Path) -> None:
    said = Say(Output())
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        said.out, said.err = (Console(file=file, force_terminal=True, _environ={}) for file in (out, err))
        with progress(said):
            said.line("one")
    assert (tmp_path / "out").read_text() == "one\n"


SLOW = """
import contextlib, io, sys, time
from promptgraft.cli import progress
from promptgraft.cli.main import app
from promptgraft.method.linear_probe import LinearProbe
progress.FIRST, progress.EVERY, progress.LONG, progress.BEAT = 0.5, 1.0, 1.0, 0.1
setup = LinearProbe.setup
def slowly(self, job, view):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        until = time.monotonic() + {seconds}
        while time.monotonic() < until:
            sum(range(100_000))  # busy, as a fit is, and silent
    return setup(self, job, view)
LinearProbe.setup = slowly
app()
"""
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def slow(home: Path, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path) -> Start:
    """A comparison one of whose methods says nothing for so many seconds."""

    def start(seconds: float, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        words = ["compare", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 2, "--seeds", 1]
        words += ["--methods", "zero-shot,linear-probe", "--source", "shop_questions_zh", "--out", tmp_path / "run"]
        command = [sys.executable, "-c", SLOW.format(seconds=seconds), *map(str, words)]
        surroundings = os.environ | {"PROMPTGRAFT_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=surroundings | {"TERM": "xterm"})

    return start


def test_a_method_that_says_nothing_is_named_all_the_time(slow: Start) -> None:
    out, err = slow(4.5).communicate(timeout=120)
    lines = [line for line in err.decode().splitlines() if "linear-probe, setting up for" in line]
    assert len(lines) >= 2, err.decode()  # a busy machine has time for fewer than its clock says
    seconds = [int(re.findall(r"for (\d+) s", line)[0]) for line in lines]
    assert seconds == sorted(seconds)
    assert all(re.match(r"\d of \d jobs, \d+ s(, about \d+ s left)?: ", line) for line in lines)
    assert b"linear-probe" in out


@pytest.mark.slow
def test_ctrl_c_stops_what_says_nothing(slow: Start) -> None:
    child = slow(600)
    assert child.stderr is not None
    for line in child.stderr:
        if b"linear-probe, setting up for" in line:
            break
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.decode().splitlines()[-1].startswith("promptgraft: stopped")
    assert time.monotonic() - began < 10


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_a_terminal_shows_what_runs(slow: Start) -> None:
    ours, theirs = os.openpty()
    child = slow(3, stderr=theirs)
    os.close(theirs)
    shown = b""
    while piece := read(ours):
        shown += piece
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert re.search(rb"linear-probe, setting up for [12] s", shown), shown


def read(terminal: int) -> bytes:
    """What it has to say; nothing once all have hung up."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def test_a_large_file_is_labelled_piece_by_piece(
    done: Command, tuned: Tuned, splade_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text {place}" for place in range(50)]
    (tmp_path / "new.txt").write_text("\n".join(texts), encoding="utf-8")
    words = ["predict", tuned.run, "--model", splade_tiny, "--file", tmp_path / "new.txt", "--json"]
    assert AT_ONCE > 50
    whole = done(*words).json
    monkeypatch.setattr("promptgraft.cli.predict.AT_ONCE", 20)
    monkeypatch.setattr("promptgraft.cli.progress.FIRST", 0.0)
    monkeypatch.setattr("promptgraft.cli.progress.EVERY", 0.0)
    said = done(*words)
    assert [row["prediction"] for row in said.json] == [row["prediction"] for row in whole]
    assert [row["text"] for row in said.json] == texts
    assert {20, 40} <= {int(count) for count in re.findall(r"(\d+) of 50 rows", said.err)}
