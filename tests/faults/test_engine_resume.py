"""A run that is interrupted, killed or out of disk goes on to the same bits, and leaves nothing broken behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from disk import full_disk
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.progress import Event
from promptgraft.engine.result import Finished
from promptgraft.engine.store import Store
from promptgraft.errors import PromptgraftError
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.train.recipe import Recipe
from toys import tiny_model, toy_task

RECIPE = Recipe(steps=12, batch=8, length=3, evaluations=4, rate=3e-2, readout_rate=3e-2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def backbone(each_path: str, folder: Path) -> Backbone:
    return load_backbone(folder)


@pytest.fixture(scope="module")
def source(backbone: Backbone) -> Source:
    engine = LocalEngine(backbone)
    [done] = engine.run([job(backbone, "prompt-tuning", task_seed=5)])
    return Source("toy-source", make_artefact(done, engine.view(done.job)))


def job(backbone: Backbone, method: str, seed: int = 0, task_seed: int = 0, **changes: object) -> Job:
    made = Job(toy_task(seed=task_seed), backbone.fingerprint, method, seed, RECIPE)
    return made.replace(**changes)


class StoppedError(Exception):
    """What stands for Ctrl-C."""


def interrupted(backbone: Backbone, store: Store, jobs: Sequence[Job], at: int) -> int:
    """Run until the `at`-th sign of progress and stop there; how many signs there were."""
    seen = 0

    def stop(event: Event) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            raise StoppedError

    with suppress(StoppedError):
        list(LocalEngine(backbone, store=store, progress=stop).run(jobs))
    return seen


def bits(finished: Sequence[Finished], engine: LocalEngine) -> dict[str, str]:
    """Of each job the hash of all that was trained."""
    return {one.job.id: make_artefact(one, engine.view(one.job)).digest for one in finished}


def all_bits(backbone: Backbone, jobs: Sequence[Job], store: Store | None = None) -> dict[str, str]:
    engine = LocalEngine(backbone, store=store)
    return bits(list(engine.run(jobs)), engine)


def the_jobs(name: str, backbone: Backbone, source: Source) -> list[Job]:
    """Jobs whose state is of each kind: one run, several in one batch, with teachers, with weights of their own."""
    return {
        "alone": [job(backbone, "prompt-tuning")],
        "packed": [job(backbone, "prompt-tuning", seed) for seed in range(3)],
        "early stop": [
            job(backbone, "prompt-tuning", seed, recipe=RECIPE.changed(patience=1, evaluations=6)) for seed in range(3)
        ],
        "released": [job(backbone, "panda", source=source, options={"mode": "released", "weight": "5"})],
        "gated": [job(backbone, "panda", source=source, options={"mode": "gated"})],
        "model-tuning": [job(backbone, "model-tuning")],
        "mlp": [job(backbone, "prompt-tuning", recipe=RECIPE.changed(parameterisation="mlp"))],
    }[name]


@pytest.mark.parametrize("name", ["alone", "packed", "early stop", "released", "gated", "model-tuning", "mlp"])
def test_goes_on_to_the_same_bits(name: str, backbone: Backbone, source: Source, tmp_path: Path) -> None:
    jobs = the_jobs(name, backbone, source)
    undisturbed = all_bits(backbone, jobs)
    signs = interrupted(backbone, Store(tmp_path / "whole", every=0), jobs, at=-1)
    for at in sorted({signs // 2, signs - 1, signs, 1 + sum(map(ord, name)) % signs}):
        store = Store(tmp_path / str(at), every=0)
        interrupted(backbone, store, jobs, at)
        assert all_bits(backbone, jobs, store) == undisturbed, f"stopped at sign {at} of {signs}"
        assert not list((store.folder / "checkpoint").glob("*")), "a finished run leaves no checkpoint"


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a version wrote them that had an optimiser a run."""
    return {name.replace("exp_avg", "optimiser.0"): value for name, value in tensors.items()}


def reshaped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As of runs with longer prompts."""
    return {name: value.repeat_interleave(2, -1) if "now.prompt" in name else value for name, value in tensors.items()}


@pytest.mark.parametrize("spoil", [renamed, reshaped])
def test_a_checkpoint_of_another_version_is_as_good_as_none(
    spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], backbone: Backbone, tmp_path: Path
) -> None:
    jobs = [job(backbone, "prompt-tuning", seed) for seed in range(2)]
    store = Store(tmp_path, every=0)
    interrupted(backbone, store, jobs, at=6)
    [path] = (store.folder / "checkpoint").glob("*")
    with safe_open(path, framework="pt") as file:
        tensors, said = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(spoil(tensors), path, metadata=said)
    assert all_bits(backbone, jobs, store) == all_bits(backbone, jobs)


def test_what_shares_a_batch_is_kept_at_one_step(backbone: Backbone, tmp_path: Path) -> None:
    """Stopped between the keeping of two results of one batch, the others must not be trained in a smaller one."""
    jobs = [job(backbone, "prompt-tuning", seed) for seed in range(4)]
    store = Store(tmp_path, every=3600)
    for _ in zip(range(2), LocalEngine(backbone, store=store).run(jobs), strict=False):
        pass
    steps = []
    engine = LocalEngine(backbone, store=store, progress=lambda event: steps.append(event.step))
    list(engine.run(jobs))
    assert not any(steps), "all had been trained before the first was kept"


SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
import torch
torch.set_num_threads(1)
from toys import toy_task
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.store import Store
from promptgraft.method.job import Job
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact
from promptgraft.train.recipe import Recipe

backbone = load_backbone({model!r})
recipe = Recipe(steps=24, batch=8, length=3, evaluations=4)
jobs = [Job(toy_task(), backbone.fingerprint, "prompt-tuning", seed, recipe) for seed in range(2)]


def begin(folder):
    child = os.fork()
    if child == 0:
        list(LocalEngine(backbone, store=Store(Path(folder), every=0)).run(jobs))
        os._exit(0)
    return child


chance, began = random.Random({kills}), time.monotonic()
os.waitpid(begin({out!r} + "/undisturbed"), 0)
longest = time.monotonic() - began
number = killed = 0
while killed < {kills}:
    store = {out!r} + f"/killed-{{number}}"
    child = begin(store)
    time.sleep(chance.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        killed += 1
    else:
        number += 1  # it came to its end before: begin another
    for path in Path(store).glob("jobs/*/artefact"):
        artefact.load(path)
for last in range(number + 1):
    os.waitpid(begin({out!r} + f"/killed-{{last}}"), 0)
print(killed)
"""


def kept_bits(store: Path) -> dict[str, str]:
    """Of each kept job the hash of its artefact's tensors, all of them whole."""
    found = sorted(store.glob("jobs/*/result.json"))
    return {path.parent.name: artefacts.load(path.parent / "artefact").digest for path in found}


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_survives_kills(kills: int, root: Path, folder: Path, tmp_path: Path) -> None:
    """A process in training is killed (-9) at chance moments and begun again, `kills` times over."""
    paths = [str(root / "tests"), str(root / "src")]
    code = SCRIPT.format(paths=paths, model=str(folder), out=str(tmp_path), kills=kills)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    undisturbed = kept_bits(tmp_path / "undisturbed")
    assert len(undisturbed) == 2
    stores = list(tmp_path.glob("killed-*"))
    assert done.stdout.split() == [str(kills)]
    assert stores
    for store in stores:
        assert kept_bits(store) == undisturbed


def test_a_full_disk_is_one_line(backbone: Backbone, tmp_path: Path) -> None:
    store, jobs = Store(tmp_path / "store"), [job(backbone, "prompt-tuning")]
    with full_disk(), pytest.raises(PromptgraftError, match=r"could not be written.*make room") as caught:
        list(LocalEngine(backbone, store=store).run(jobs))
    assert "\n" not in str(caught.value)
    assert kept_bits(store.folder) == {}
    assert len(all_bits(backbone, jobs, store)) == 1


def test_a_full_disk_under_a_checkpoint_is_one_line(backbone: Backbone, tmp_path: Path) -> None:
    store = Store(tmp_path / "store", every=0)
    with full_disk(), pytest.raises(PromptgraftError, match=r"checkpoint.*could not be written.*make room") as caught:
        list(LocalEngine(backbone, store=store).run([job(backbone, "prompt-tuning")]))
    assert "\n" not in str(caught.value)
