"""A graft and a ranking hold few of many banked prompts at a time, and say what they say when they hold all."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from promptgraft.bank.bank import Bank, open_bank
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.rank import candidates, rank_sources
from promptgraft.errors import BankError
from promptgraft.method.job import Job, Source, StoredSource
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.prompt import Prompt
from promptgraft.readout.evidence import strength, strongest, weigh
from promptgraft.task.task import Kind
from promptgraft.train.recipe import Recipe
from toys import tiny_model, toy_task

RECIPE = Recipe(steps=2, batch=4, length=2, evaluations=1)
PROMPTS = 12


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


@pytest.fixture(scope="module")
def bank(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """A bank of prompts that differ, shallow and deep."""
    engine = LocalEngine(backbone)
    job = Job(toy_task(seed=9).replace(name="donor"), backbone.fingerprint, "prompt-tuning", 0, RECIPE)
    [finished] = engine.run([job])
    made = make_artefact(finished, engine.view(job))
    bank, stream = open_bank(tmp_path_factory.mktemp("bank"), create=True), torch.Generator().manual_seed(0)
    for number in range(PROMPTS):
        prompt = initial(Init(std=0.5), backbone, 2, ("deep", "shallow")[number % 2], "after_cls", stream)  # type: ignore[arg-type]
        bank.add(made.replace(prompt=prompt), f"p{number:02d}")
    return bank


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_prompts_that_are_read_as_they_are_needed_give_the_same_bits(
    kind: Kind, backbone: Backbone, bank: Bank
) -> None:
    task = toy_task(kind)
    stored, _ = candidates(bank, backbone, task)
    assert all(isinstance(source, StoredSource) for source in stored)
    whole = [Source(source.name, bank.load(source.name), source.service) for source in stored]
    hashes = []
    for sources in (stored, whole):
        engine = LocalEngine(backbone)
        job = Job(task, backbone.fingerprint, "graft", 0, RECIPE, bank=tuple(sources))
        [finished] = engine.run([job])
        hashes.append((job.id, finished.result.source, make_artefact(finished, engine.view(job)).digest))
    assert hashes[0] == hashes[1]


@dataclass
class Held:
    """The artefacts that are alive, and how many were at most."""

    alive: weakref.WeakSet[Artefact] = field(default_factory=weakref.WeakSet)
    most: int = 0


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """What is held of a bank that is read in companies of two."""
    counted, load = Held(), artefacts.load

    def counting(*words: object, **named: object) -> Artefact:
        found = load(*words, **named)  # type: ignore[arg-type]
        counted.alive.add(found)
        counted.most = max(counted.most, len(counted.alive))
        return found

    monkeypatch.setattr("promptgraft.engine.share.COMPANY", 2)
    monkeypatch.setattr(artefacts, "load", counting)
    return counted


def test_a_graft_holds_those_of_a_company_and_those_that_may_be_kept(
    backbone: Backbone, bank: Bank, held: Held
) -> None:
    task = toy_task()
    sources, _ = candidates(bank, backbone, task)
    engine = LocalEngine(backbone)
    job = Job(task, backbone.fingerprint, "graft", 0, RECIPE, options={"members": 2}, bank=tuple(sources))
    [finished] = engine.run([job])
    make_artefact(finished, engine.view(job))
    gc.collect()
    assert held.most <= 4
    assert len(held.alive) == 0, "the graft has its own prompts"


@pytest.mark.parametrize("measure", ["probe", "label-text", "task-embedding"])
def test_a_ranking_holds_those_of_a_company(measure: str, backbone: Backbone, bank: Bank, held: Held) -> None:
    task = toy_task()
    sources, _ = candidates(bank, backbone, task)
    job = Job(task, backbone.fingerprint, "prompt-tuning", 0, RECIPE)
    ranking = rank_sources(LocalEngine(backbone), job, sources, [measure], ())
    gc.collect()
    assert len(ranking.rows) == PROMPTS
    assert held.most <= 3
    assert len(held.alive) == 0


def test_a_ranking_by_prompts_that_are_read_as_they_are_needed_gives_the_same_scores(
    backbone: Backbone, bank: Bank
) -> None:
    task = toy_task()
    stored, _ = candidates(bank, backbone, task)
    whole = [Source(source.name, bank.load(source.name), source.service) for source in stored]
    job = Job(task, backbone.fingerprint, "prompt-tuning", 0, RECIPE)
    first, second = (rank_sources(LocalEngine(backbone), job, sources, ["probe"], ()) for sources in (stored, whole))
    assert [(row.source.name, row.scores) for row in first.rows] == [
        (row.source.name, row.scores) for row in second.rows
    ]


def test_a_prompt_that_was_replaced_in_its_bank_is_not_taken_for_the_old_one(
    backbone: Backbone, bank: Bank, tmp_path: Path
) -> None:
    own = open_bank(tmp_path / "bank", create=True)
    own.add(bank.load("p00"), "one")
    [source], _ = candidates(own, backbone, toy_task())
    gc.collect()
    assert source.artefact.hash == source.hash
    own.add(bank.load("p02"), "one", replace=True)
    gc.collect()
    with pytest.raises(BankError, match="one was replaced while it was in use"):
        _ = source.artefact


def test_a_digest_tells_prompts_apart() -> None:
    values = torch.randn(3, 4)
    assert Prompt(values).digest == Prompt(values.clone()).digest
    others = (Prompt(values + 1e-6), Prompt(values, "peft"), Prompt(values.reshape(4, 3)), Prompt(values.half()))
    assert len({prompt.digest for prompt in (Prompt(values), *others)}) == 5


@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_strongest_of_a_stream_are_those_that_are_weighed(count: int) -> None:
    stream = np.random.default_rng(0)
    scores = [stream.normal(size=2).round(1) for _ in range(9)] + [np.zeros(2)] * 3
    kept = strongest(
        ((values, True) for values in scores), lambda pair: strength(pair[0]), lambda pair: (pair[0], False), count
    )
    assert {place for place, (_, whole) in enumerate(kept) if whole} == set(weigh(scores, count))
