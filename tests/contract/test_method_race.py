"""A bank's prompts race: all are judged on a few rows, the best of them on every row, and no more rows are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.view import JobView
from promptgraft.method.all import find
from promptgraft.method.job import Job, Source
from promptgraft.method.members import SourceRead
from promptgraft.method.race import RACERS, finalists, rows_read
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Kind
from promptgraft.train.recipe import Recipe
from toys import tiny_model, toy_task

RECIPE = Recipe(steps=2, batch=4, length=2, evaluations=1)
FIRST, MANY = 72, 300


def sources(count: int) -> list[SourceRead]:
    return [SourceRead(f"source {number}", None, Reading("mean")) for number in range(count)]


def judge_by(evidence: Sequence[float], seen: list[int]) -> object:
    """A judge that notes how many rows it was shown, and how many sources."""

    def judge(group: Sequence[SourceRead], first: np.ndarray) -> Iterable[float]:
        seen.extend((len(group), len(first)))
        return [evidence[int(source.name.split()[1])] for source in group]

    return judge


def test_the_best_by_the_first_rows_are_judged_on_all_in_their_order() -> None:
    evidence, seen = np.random.default_rng(0).standard_normal(30).tolist(), []
    kept = finalists(sources(30), np.arange(FIRST), MANY, 3, judge_by(evidence, seen))  # type: ignore[arg-type]
    best = sorted(np.argsort(evidence)[::-1][:RACERS].tolist())
    assert [source.name for source in kept] == [f"source {number}" for number in best]
    assert seen == [30, FIRST]


def test_of_equals_the_earlier_one_is_kept() -> None:
    kept = finalists(sources(30), np.arange(FIRST), MANY, 3, judge_by([1.0] * 30, []))  # type: ignore[arg-type]
    assert [source.name for source in kept] == [f"source {number}" for number in range(RACERS)]


@pytest.mark.parametrize(("prompts", "rows", "members"), [(30, 64, 3), (30, 90, 3), (RACERS, MANY, 3), (30, MANY, 20)])
def test_where_a_race_saves_nothing_all_are_judged_at_once(prompts: int, rows: int, members: int) -> None:
    seen: list[int] = []
    first = np.arange(min(FIRST, rows))
    kept = finalists(sources(prompts), first, rows, members, judge_by([0.0] * prompts, seen))  # type: ignore[arg-type]
    assert len(kept) == prompts
    assert not seen


def test_twice_as_many_race_as_are_kept() -> None:
    kept = finalists(sources(60), np.arange(FIRST), MANY, 12, judge_by([0.0] * 60, []))  # type: ignore[arg-type]
    assert len(kept) == 24


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 3000), st.integers(1, 32))
def test_a_race_never_reads_more(prompts: int, first: int, rows: int, members: int) -> None:
    assert 0 < rows_read(prompts, min(first, rows), rows, members) <= prompts * rows


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


@pytest.fixture(scope="module")
def bank(backbone: Backbone) -> tuple[Source, ...]:
    engine = LocalEngine(backbone)
    job = Job(toy_task(seed=9).replace(name="donor"), backbone.fingerprint, "prompt-tuning", 0, RECIPE)
    [finished] = engine.run([job])
    made, stream = make_artefact(finished, engine.view(job)), torch.Generator().manual_seed(0)
    prompts = (initial(Init(std=0.5), backbone, 2, "deep", "after_cls", stream) for _ in range(9))
    return tuple(Source(f"source {number}", made.replace(prompt=prompt)) for number, prompt in enumerate(prompts))


@pytest.mark.parametrize("kind", ["classification", "multilabel", "pair", "regression", "tagging"])
def test_a_graft_reads_as_many_rows_as_it_says(
    kind: Kind, backbone: Backbone, bank: tuple[Source, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All prompts are judged on some rows; the best of them on all, or those that are kept are fitted to all."""
    for name in ("race.RACERS=2", "graft.JUDGED=12", "members.JUDGED=12"):
        place, value = name.split("=")
        monkeypatch.setattr(f"promptgraft.method.{place}", int(value))
    read: list[int] = []
    states_each = JobView.states_each

    def counted(
        view: JobView, split: str, prompts: Iterable[Prompt | None], reading: Reading, rows: tuple[int, ...]
    ) -> Iterator[Tensor]:
        for states in states_each(view, split, prompts, reading, rows):  # type: ignore[arg-type]
            read.append(len(rows))
            yield states

    monkeypatch.setattr(JobView, "states_each", counted)
    task = toy_task(kind, train=40)
    job = Job(task, backbone.fingerprint, "graft", 0, RECIPE, options={"members": 1}, bank=bank)
    [finished] = LocalEngine(backbone).run([job])
    assert finished.result.scores["test"]["score"] > 0
    reads = find("graft").work(job).reads
    assert reads is not None
    assert reads(40) == 10 * 12 + (2 if kind in ("regression", "tagging") else 1) * 40
    assert sum(read[: 12 if kind in ("regression", "tagging") else 11]) == reads(40)
