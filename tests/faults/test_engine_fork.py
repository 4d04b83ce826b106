"""A process that is forked after a model was loaded answers, or says what to do; it never waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from promptgraft.errors import RunError
from promptgraft.model import forked
from toys import tiny_model

PROGRAM = """
import multiprocessing, os, sys
import promptgraft as pg

model, folder = sys.argv[1:]
rows = tuple(pg.Example(text=f"the film was {word} {n}", label=word) for n in range(12) for word in ("good", "bad"))
task = pg.Task("toy", "classification", "accuracy", {"good": "good", "bad": "bad"}, {"train": rows, "test": rows})
predictor = pg.tune(task, model, method="linear-probe", device="cpu").predictor
texts = [row.text for row in rows] * 20
expected = predictor.predict(texts)
estimator = pg.PromptClassifier(model, steps=2, random_state=0)
estimator.fit(texts[:24], expected[:24])

def ask(kind):
    if kind == "predictor":
        return predictor.predict(texts)
    if kind == "estimator":
        return list(map(str, estimator.predict(texts)))
    return list(map(str, pg.PromptClassifier(model, steps=2, random_state=0).fit(texts[:24], expected[:24]).classes_))

with multiprocessing.get_context("fork").Pool(2) as pool:
    answers = pool.map_async(ask, ["predictor", "estimator", "fit"])
    try:
        found = answers.get(90)
    except multiprocessing.TimeoutError:
        print("the children wait for ever")
        os._exit(1)
assert found[0] == expected, "the same answers"
assert found[1] == list(map(str, estimator.predict(texts))), "the parent goes on as before"
assert found[2] == ["bad", "good"]
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("native", [None, "0"], ids=["chosen path", "plain torch"])
def test_forked_processes_answer(native: str | None, tmp_path: Path, home: Path) -> None:
    surroundings = {name: value for name, value in os.environ.items() if name != "PROMPTGRAFT_NATIVE"}
    surroundings |= {"PROMPTGRAFT_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    surroundings |= {} if native is None else {"PROMPTGRAFT_NATIVE": native}
    words = [sys.executable, "-c", PROGRAM, str(tiny_model(tmp_path / "model", "bert")), str(tmp_path)]
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_gpu_is_not_used_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    forked.check(torch.device("cuda"))
    monkeypatch.setattr(forked, "_forked", True)
    forked.check(torch.device("cpu"))
    with pytest.raises(RunError, match="start processes with multiprocessing's 'spawn'"):
        forked.check(torch.device("cuda"))
