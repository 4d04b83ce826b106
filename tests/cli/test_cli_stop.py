"""Stopped work goes on by the same command; pipes that close early are no mistake."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command import Command, Tuned

LONG = ("--steps", "600", "--length", "3", "--batch", "4", "--evaluations", "2", "--max-length", "16")
GOES_ON = "stopped; the same command goes on where it was"
ANEW = "stopped before anything was kept; the same command begins anew"
Start = Callable[..., subprocess.Popen[str]]


@pytest.mark.slow
def test_ctrl_c_leaves_what_the_same_command_goes_on_from(
    process: Start, done: Command, reviews: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    def words(out: str) -> list[object]:
        return ["tune", reviews, "--model", splade_tiny, "--shots", 4, "--out", tmp_path / out, *LONG]

    child = process(*words("stopped"))
    assert child.stderr is not None
    said: list[str] = []
    while not said or (said[-1] and " step " not in said[-1]):  # until it is in the middle of training
        said.append(child.stderr.readline())
    if not said[-1] and child.wait(timeout=60) == 0:
        pytest.skip("this machine was done before it could be stopped")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    is_kept = any((tmp_path / "stopped" / "checkpoint").glob("*.safetensors"))
    assert err.splitlines()[-1] == f"promptgraft: {GOES_ON if is_kept else ANEW}"
    assert not list(tmp_path.rglob("result.json"))

    done(*words("stopped"))
    done(*words("undisturbed"))
    kept = [(tmp_path / out / "artefact" / "prompt.safetensors").read_bytes() for out in ("stopped", "undisturbed")]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("kept", "line"),
    [
        ("checkpoint/a.safetensors", GOES_ON),
        ("jobs/a/result.json", GOES_ON),
        ("grips/journal.jsonl", GOES_ON),
        ("jobs/a/job.json", ANEW),
        (".lock", ANEW),
        ("", ANEW),
    ],
)
def test_a_stop_says_whether_there_is_anything_to_go_on_from(
    kept: str, line: str, pg: Command, reviews: Path, splade_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptgraft import api

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if kept:
        (tmp_path / kept).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / kept).write_text("")
    for verb, more in (("tune", ()), ("search", ("-a", "grips"))):
        monkeypatch.setattr(api, verb, interrupted)
        said = pg(verb, reviews, "--model", splade_tiny, *more, "--out", tmp_path, "--quiet")
        assert (said.status, said.err) == (130, f"promptgraft: {line}\n")
    monkeypatch.setattr(api, "open_task", interrupted)
    said = pg("tune", reviews, "--model", splade_tiny, "--quiet")
    assert said.err == f"promptgraft: {ANEW}\n"


STOPPED_WHILE_IMPORTING = """
import sys

wanted = sys.argv.pop(1)


class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            raise KeyboardInterrupt


sys.meta_path.insert(0, Stop())
from promptgraft.__main__ import main

main()
"""


@pytest.mark.parametrize("module", ["promptgraft.cli.main", "promptgraft.method.all"])
def test_it_can_be_stopped_while_it_is_imported(module: str) -> None:
    command = [sys.executable, "-c", STOPPED_WHILE_IMPORTING, module, "tune", "data.csv", "--model", "minilm"]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (stopped.returncode, stopped.stderr) == (130, "promptgraft: stopped\n")


def test_a_reader_that_leaves_is_no_mistake(tuned: Tuned, process: Start) -> None:
    child = process("bank", "list", tuned.bank, "--json")
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == ""
    child.wait(timeout=60)


def test_what_goes_to_a_pipe_is_plain_and_whole(process: Start, tuned: Tuned) -> None:
    out, _ = process("bank", "list", tuned.bank).communicate(timeout=60)
    header, row = out.splitlines()[1:3]
    assert header.split()[:2] == ["name", "backbone"]
    assert row.split()[:2] == ["shop_questions_zh", "splade-tiny"]
    assert "\x1b" not in out


def test_module_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "promptgraft.cli.main", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("promptgraft 0.")
