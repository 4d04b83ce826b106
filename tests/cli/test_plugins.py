"""A method, a readout and a measure of another package: its module and its entry points are all that it takes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toys import tiny_model, toy_task

MODULE = '''
"""One of each, as short as they can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from promptgraft.prompt.reading import Reading
from promptgraft.measure.measure import Measure, Score, register as register_measure
from promptgraft.method.method import Method, register as register_method
from promptgraft.method.options import Options
from promptgraft.method.setup import new_readout
from promptgraft.readout.linear import Linear
from promptgraft.readout.readout import register as register_readout
from promptgraft.train.run import Fit, Tuned


class GuessOptions(Options):
    lucky: float = Field(0.5, ge=0, le=1, description="How lucky the guess is.")


@register_method
class Guess(Method):
    name: ClassVar[str] = "guess"
    summary: ClassVar[str] = "a readout that was never trained"
    needs: ClassVar[frozenset] = frozenset()
    options: ClassVar[type[GuessOptions]] = GuessOptions

    def requires(self, job):
        return ()

    def setup(self, job, view):
        lucky = self.options.read(self.name, job.options).lucky
        readout = new_readout(job, view, "sober", Reading(view.pooling))
        return Fit(job.id, Tuned(None, readout, Reading(view.pooling)), notes=(f"luck {lucky:g}",))


@register_readout
@dataclass(frozen=True, eq=False)
class Sober(Linear):
    name: ClassVar[str] = "sober"


@register_measure
@dataclass(frozen=True)
class Length(Measure):
    name: ClassVar[str] = "length"
    factor: float = 1.0

    @property
    def needs(self):
        return frozenset()

    def score(self, source, target, view):
        return Score(self.factor * source.prompt.length, 1)
'''
ENTRY_POINTS = """[promptgraft.methods]
guess = toy_plugin

[promptgraft.readouts]
sober = toy_plugin

[promptgraft.measures]
length = toy_plugin
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package, a tiny model and a task."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "toy_plugin.py").write_text(MODULE, encoding="utf-8")
    info = folder / "toy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    tiny_model(folder / "bert", "bert")
    for name, seed in (("toy", 0), ("other", 5)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = [row for split in toy_task(seed=seed).splits.values() for row in split]
            csv.writer(file).writerows([("text", "label"), *((row.text, row.label) for row in rows)])
    return folder


@pytest.fixture(scope="module")
def run(place: Path):  # type: ignore[no-untyped-def]
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(place), *filter(None, sys.path)])
        return subprocess.run(
            [sys.executable, "-m", "promptgraft", *words],
            cwd=place, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip

    return command


def test_its_method_is_tuned_by_its_typed_options(run) -> None:  # type: ignore[no-untyped-def]
    done = run("tune", "toy.csv", "-m", "bert", "--method", "guess", "--lucky", "0.75", "--out", "guessed")
    assert done.returncode == 0, done.stderr
    assert "luck 0.75" in done.stderr
    assert "guess:lucky=0.75" in done.stdout
    assert run("predict", "guessed", "--text", "a good film").returncode == 0
    refused = run("tune", "toy.csv", "-m", "bert", "--method", "guess", "--lucky", "2")
    assert refused.returncode == 2
    assert "lucky" in refused.stderr
    helped = run("tune", "--help").stdout
    assert "guess" in helped
    assert "How lucky the guess is" in helped


def test_its_method_is_compared(run) -> None:  # type: ignore[no-untyped-def]
    done = run("compare", "toy.csv", "-m", "bert", "--methods", "guess,linear-probe", "--seeds", "2", "--out", "both")
    assert done.returncode in (0, 1), done.stderr
    if "no prompt for" in done.stderr:  # the starter bank has none for this model
        tuned = run("tune", "other.csv", "-m", "bert", "--steps", "2", "--bank", "bank")
        assert tuned.returncode == 0, tuned.stderr
        done = run(
            "compare", "toy.csv", "-m", "bert", "--bank", "bank", "--methods", "guess,linear-probe",
            "--seeds", "2", "--out", "both",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "guess" in done.stdout


def test_its_readout_is_trained_carried_and_kept(run) -> None:  # type: ignore[no-untyped-def]
    words = ("-m", "bert", "--steps", "2", "--readout", "sober")
    tuned = run("tune", "other.csv", *words, "--bank", "sobers")
    assert tuned.returncode == 0, tuned.stderr
    assert "prompt-tuning:sober" in tuned.stdout
    for readout in ("sober", "keep"):
        given = ("transfer", "toy.csv", "-m", "bert", "--bank", "sobers", "--steps", "2", "--no-baselines")
        carried = run(*given, "--readout", readout, "--out", f"carried-{readout}")
        assert carried.returncode == 0, carried.stderr


def test_its_measure_ranks_with_its_options(run) -> None:  # type: ignore[no-untyped-def]
    run("tune", "other.csv", "-m", "bert", "--steps", "2", "--length", "3", "--bank", "ranked")
    done = run("rank", "toy.csv", "-m", "bert", "--bank", "ranked", "--measures", "length:factor=2,probe:repeats=1")
    assert done.returncode == 0, done.stderr
    assert "6.000" in done.stdout
    for wrong, message in [
        ("length:facto=2", "did you mean 'factor'?"),
        ("length:factor=x", "valid number"),
        ("probe:repeats=0", "0 repeats"),
    ]:
        refused = run("rank", "toy.csv", "-m", "bert", "--bank", "ranked", "--measures", wrong)
        assert refused.returncode == 2, refused.stderr
        assert message in refused.stderr
