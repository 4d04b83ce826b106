"""Vectors are searched in the span of a bank's prompts, and what a search finds is an artefact like any other."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import promptgraft as pg
from promptgraft.api.searching import setting_for
from promptgraft.bank.bank import Bank
from promptgraft.errors import PromptgraftError
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.card import SearchCard, SplitScore
from promptgraft.searches.asker import Asker
from promptgraft.searches.banked import principal_axes
from promptgraft.searches.budget import Budget
from promptgraft.searches.journal import Journal
from promptgraft.searches.kept import artefact_of
from promptgraft.searches.oracle import Oracle
from promptgraft.searches.outcome import SearchOutcome
from promptgraft.searches.run import FoundPrompt, Setting, run_algorithm
from promptgraft.searches.vectors import CmaEs, RandomVectors
from promptgraft.task.task import Task
from toys import masked_model, toy_task

pytest.importorskip("cmaes", reason="needs the extra `search`")
FEW: dict[str, Any] = {"steps": 2, "batch": 4, "evaluations": 1, "length": 3, "depth": "shallow"}
SEARCH: dict[str, Any] = {
    "shots": 4, "passes": 120, "template": "{text} was {mask} .", "verbalizer": "negative=bad,positive=good",
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("masked")
    masked_model(folder)
    return load_backbone(folder, dtype="fp32")


@pytest.fixture(scope="module")
def task() -> Task:
    return toy_task()


@pytest.fixture(scope="module")
def bank(backbone: Backbone, task: Task, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """Four prompts of other tasks, one of another length, in every layer, or laid out by PEFT, and the task's own."""
    made = pg.open_bank(tmp_path_factory.mktemp("bank") / "bank", create=True)
    for seed in range(1, 5):
        other = toy_task(seed=seed).replace(name=f"other {seed}")
        made.add(pg.tune(other, backbone, shots=4, **FEW).artefact, f"t{seed}")
    others = {"long": {"length": 5}, "deep": {"depth": "deep"}, "first": {"placement": "peft"}}
    for name, own in others.items():
        other = toy_task(seed=9).replace(name=name)
        made.add(pg.tune(other, backbone, shots=4, **{**FEW, **own}).artefact, name)
    made.add(pg.tune(task, backbone, shots=4, **FEW).artefact, "own")
    return made


def oracle_of(setting: Setting) -> Oracle:
    return Oracle(setting.scorer, setting.split.search, Budget(10_000), Journal())


def values_of(bank: Bank) -> torch.Tensor:
    prompts = [bank.load(f"t{seed}").prompt for seed in range(1, 5)]
    return torch.stack([prompt.values for prompt in prompts if prompt is not None])


def found(setting: Any, kind: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[FoundPrompt, list[torch.Tensor]]:
    """What an algorithm finds, and all vectors that it proposes."""
    proposed: list[torch.Tensor] = []
    propose = kind.propose

    def noted(algorithm: Any) -> Any:
        candidates = propose(algorithm)
        proposed.extend(entry.vectors.values for entry in candidates if entry.vectors is not None)
        return candidates

    monkeypatch.setattr(kind, "propose", noted)
    return run_algorithm(kind, setting, None, lambda spent, name: None), proposed


def test_axes_are_worked_out_by_hand() -> None:
    """Of (1,0,0), (-1,0,0), (0,2,0): their mean is (0,2/3,0); variances are 1 and 4/3, and nothing goes together."""
    axes = principal_axes(np.array([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0]]))
    assert axes is not None
    np.testing.assert_allclose(axes, [[0, np.sqrt(4 / 3), 0], [1, 0, 0]], atol=1e-12)
    assert principal_axes(np.eye(2)) is None
    assert principal_axes(np.array([[0.0, 0], [1, 1], [2, 2]])) is None


def test_axes_have_the_covariance_of_the_points() -> None:
    points = np.random.default_rng(0).normal(size=(6, 20))
    axes = principal_axes(points)
    assert axes is not None
    np.testing.assert_allclose(axes.T @ axes, np.cov(points.T), atol=1e-12)


@pytest.mark.parametrize("kind", [CmaEs, RandomVectors])
def test_all_that_is_proposed_lies_in_the_span(
    kind: Any, backbone: Backbone, task: Task, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, notes = setting_for(task, backbone, bank=bank, **SEARCH)
    assert any("in the span of 4 prompts of the bank, which has 3 dimensions" in note for note in notes)
    assert any("in every layer, or before the first token are left out" in note for note in notes)
    result, proposed = found(setting, kind, monkeypatch)
    assert len(proposed) > 2
    own = values_of(bank).double().flatten(1)
    away = torch.stack(proposed).double().flatten(1) - own.mean(0)
    _, _, axes = torch.linalg.svd(own - own.mean(0), full_matrices=False)
    torch.testing.assert_close(away @ axes[:3].T @ axes[:3], away, atol=1e-5, rtol=0)
    assert result.passes <= SEARCH["passes"]


def test_a_search_begins_with_a_banked_prompt_as_it_is(
    backbone: Backbone, task: Task, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, notes = setting_for(task, backbone, bank=bank, start="t2", **SEARCH)
    assert any("beginning with 't2'" in note for note in notes)
    _, proposed = found(setting, CmaEs, monkeypatch)
    assert torch.equal(proposed[0], values_of(bank)[1])
    away = torch.stack(proposed[1:17]).flatten(1) - proposed[0].flatten()
    assert float(away.norm(dim=1).min()) > 0


@pytest.fixture(scope="module")
def searched(
    backbone: Backbone, task: Task, bank: Bank, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchOutcome, Path]:
    folder = tmp_path_factory.mktemp("searched") / "run"
    return pg.search(task, backbone, ["cma-es", "demonstrations"], bank=bank, out=folder, **SEARCH), folder


def test_what_is_found_predicts_what_the_report_says(
    searched: tuple[SearchOutcome, Path], backbone: Backbone, task: Task
) -> None:
    outcome, folder = searched
    assert outcome.of("random-vectors") is not None
    for entry in outcome.found:
        predictor = pg.load(folder / entry.algorithm, backbone)
        answers = predictor.predict([row.text for row in task.test])
        assert list(answers) == [task.classes[answer] for answer in entry.report.answers], entry.algorithm
    best = pg.load(folder, backbone).artefact
    assert best.hash == outcome.best.artefact.hash


def test_what_is_found_is_banked_with_its_lineage_and_cost(
    searched: tuple[SearchOutcome, Path], tmp_path: Path
) -> None:
    outcome, folder = searched
    other = pg.open_bank(tmp_path / "bank", create=True)
    card = other.load(other.import_(folder / "cma-es" / "artefact", "found")).card
    vectors = outcome.of("cma-es")
    assert vectors is not None
    assert card.search is not None
    assert (card.search.algorithm, card.search.passes) == ("cma-es", vectors.passes)
    assert card.search.report.value == card.scores["test"].value == vectors.report.score
    words = outcome.of("demonstrations")
    assert words is not None
    assert words.artefact.card.lineage == ()


def test_vectors_keep_their_bits_as_an_artefact(backbone: Backbone, task: Task, bank: Bank, tmp_path: Path) -> None:
    setting, _ = setting_for(task, backbone, bank=bank, start="t1", **SEARCH)
    algorithm = CmaEs(setting.space, Asker(oracle_of(setting), backbone), random.Random(0))
    algorithm.propose()
    [candidate] = algorithm.propose()
    score = SplitScore(value=50.0, rows=2)
    card = SearchCard(algorithm="cma-es", passes=1, choosing=score, report=score)
    artefacts.save(artefact_of(setting.space, setting.scorer, candidate, card), tmp_path / "kept")
    again = artefacts.load(tmp_path / "kept")
    assert again.prompt is not None
    assert torch.equal(again.prompt.values, values_of(bank)[0])
    assert [origin.name for origin in again.card.lineage] == ["t1", "t2", "t3", "t4"]
    [scores] = oracle_of(setting).scores([candidate], range(len(setting.split.search)))
    assert scores is not None
    answers = pg.load(tmp_path / "kept", backbone).predict([row.text for row in setting.split.search])
    assert list(answers) == [task.classes[score.answer] for score in scores]


def test_what_cannot_be_begun_with_has_its_line(backbone: Backbone, task: Task, bank: Bank, tmp_path: Path) -> None:
    with pytest.raises(PromptgraftError, match="did you mean 't1'"):
        setting_for(task, backbone, bank=bank, start="t11", **SEARCH)
    with pytest.raises(PromptgraftError, match="it was tuned on this task"):
        setting_for(task, backbone, bank=bank, start="own", **SEARCH)
    with pytest.raises(PromptgraftError, match="vectors in every layer"):
        setting_for(task, backbone, bank=bank, start="deep", **SEARCH)
    with pytest.raises(PromptgraftError, match="before the first token, where no template has a place"):
        setting_for(task, backbone, bank=bank, start="first", **SEARCH)
    with pytest.raises(PromptgraftError, match="no bank was given"):
        setting_for(task, backbone, start="t1", **SEARCH)
    with pytest.raises(PromptgraftError, match="none is named; add cma-es"):
        pg.search(task, backbone, ["grips"], bank=bank, **SEARCH)
    few = pg.open_bank(tmp_path / "few", create=True)
    few.add(bank.load("t1"), "t1")
    with pytest.raises(PromptgraftError, match="takes 3 prompts alike, and the bank has 1"):
        setting_for(task, backbone, bank=few, **SEARCH)
    setting, notes = setting_for(task, backbone, bank=few, start="t1", **SEARCH)
    assert setting.space.banked is not None
    assert setting.space.banked.directions is None
    assert any("in random directions" in note for note in notes)
