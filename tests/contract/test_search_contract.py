"""Every algorithm keeps to its budget, goes on where it was killed, and takes what a model gives it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from torch import Tensor

from causal_models import causal_folder
from promptgraft.api.searching import search, setting_for, skills
from promptgraft.errors import PromptgraftError
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.gaps import FilledGaps
from promptgraft.model.load import load_backbone
from promptgraft.model.seq2seq import SequenceBackbone
from promptgraft.searches import asker
from promptgraft.searches import run as running
from promptgraft.searches.all import algorithms
from promptgraft.searches.journal import Journal, KeptAnswer
from promptgraft.task.task import Example, Task
from seq2seq import write_small
from toys import masked_model, toy_task

NAMES = sorted(algorithms())
PASSES = 64
OFTEN = ("random", "grips", "autoprompt", "policy-gradient", "cma-es")
EACH = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
"""All algorithms; those that are unlike each other in the fast tests as well."""
ASKING = [name for name in NAMES if algorithms()[name].needs & {"words", "text", "spans"}]
"""Those that take what a model proposes."""


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A small random model that says what stands at its mask."""
    return load_backbone(masked_model(tmp_path_factory.mktemp("models") / "bert"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A small random model that writes."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    causal_folder(folder, "llama")
    return load_backbone(folder)


@pytest.fixture(scope="module")
def filling(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A small random model that fills gaps."""
    folder = tmp_path_factory.mktemp("models") / "t5"
    write_small("t5", folder, gaps=3)
    return load_backbone(folder)


def prepared(task: Task, model: Backbone, **changes: object) -> running.Setting:
    """A search with a budget for a few candidates."""
    values: dict[str, object] = {"passes": PASSES, "shots": 4, "max_length": 60, **changes}
    return setting_for(task, model, **values)[0]  # type: ignore[arg-type]


@cache
def toy(model: Backbone) -> running.Setting:
    """A search on the toy task, prepared once a model."""
    return prepared(toy_task(), model)


def found(setting: running.Setting, name: str, folder: Path | None = None) -> running.FoundPrompt:
    """What an algorithm finds."""
    if folder is not None:
        folder.mkdir(exist_ok=True)
    return running.run_algorithm(algorithms()[name], setting, folder, lambda spent, label: None)


def fitting(name: str, *models: Backbone) -> Backbone:
    """The first model that an algorithm can work with."""
    if "cma" in name:
        pytest.importorskip("cmaes", reason="needs the extra `search`")
    able = [model for model in models if algorithms()[name].needs <= skills(model, model)]
    if not able:
        pytest.skip(f"{name} needs another kind of model")
    return able[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_is_never_exceeded(
    name: str, masked: Backbone, causal: Backbone, filling: Backbone, tmp_path: Path
) -> None:
    """By what the journal says of every single answer, up to the report."""
    setting = toy(fitting(name, masked, causal, filling))
    result = found(setting, name, tmp_path)
    entries = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert 0 < result.passes <= PASSES
    assert result.passes == sum(entry[1] for entry in entries[:-1])
    assert result.tokens == sum(entry[2] for entry in entries[:-1])
    assert entries[-1][1] == len(setting.split.report) * setting.passes_a_row


def simplest(result: running.FoundPrompt) -> dict[str, object]:
    """All that a search says, but for seconds."""
    content = running.plain(result)
    del content["seconds"]
    return {**content, "answers": [result.choosing.answers, result.report.answers], "key": result.candidate.key}


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_search_goes_on_with_the_same_bits(
    name: str,
    kills: int,
    masked: Backbone,
    causal: Backbone,
    filling: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the middle of keeping an answer, at random points one after the other, all in one search."""
    setting = toy(fitting(name, masked, causal, filling))
    whole = found(setting, name, tmp_path / "whole")
    count = len((tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines())
    keep = Journal.keep

    def kill_at(point: int) -> None:
        def killed(journal: Journal, entry: KeptAnswer) -> None:
            assert journal.path is not None
            if len(journal) >= point:
                with journal.path.open("ab") as file:
                    file.write(b'["half an ans')
                raise KeyboardInterrupt
            keep(journal, entry)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "keep", killed)
            with pytest.raises(KeyboardInterrupt):
                found(setting, name, tmp_path / "killed")

    for point in sorted(random.Random(name).randrange(count) for _ in range(kills)):
        kill_at(point)
    assert simplest(found(setting, name, tmp_path / "killed")) == simplest(whole)


RUBBISH = ["", " ", "the the the the " * 200, "{{{mask}}}", "{text}", "\x00\ufffd[MASK]</s>", "好" * 500]


@pytest.fixture
def rubbish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that propose nothing of use."""

    def words(values: Tensor, known: Sequence[str], most: int) -> list[list[list[object]]]:
        return [[[text, -1.0] for text in RUBBISH][:most] for _ in values]

    def texts(self: Backbone, batch: Batch, *_: object, **__: object) -> list[str]:
        return [RUBBISH[place % len(RUBBISH)] for place in range(batch.tokens.sequences)]

    def gaps(self: Backbone, asked: Sequence[Sequence[str]], *, most: int, **_: object) -> FilledGaps:
        spans = [(RUBBISH[place % len(RUBBISH)], RUBBISH[-1]) for place in range(len(asked))]
        return FilledGaps(tuple(spans), len(asked), most * len(asked))

    monkeypatch.setattr(asker, "likeliest", words)
    monkeypatch.setattr(CausalBackbone, "generate", texts)
    monkeypatch.setattr(SequenceBackbone, "fill", gaps)


@pytest.mark.parametrize("name", ASKING)
def test_rubbish_costs_its_passes_and_nothing_else(
    name: str, masked: Backbone, causal: Backbone, filling: Backbone, rubbish: None
) -> None:
    assert found(toy(fitting(name, masked, causal, filling)), name).passes <= PASSES


@pytest.mark.parametrize("name", EACH)
def test_two_labelled_rows_a_class_are_enough(name: str, masked: Backbone, causal: Backbone, filling: Backbone) -> None:
    rows = [Example("a good film", label="positive"), Example("a bad film", label="negative")]
    splits = {"train": tuple(rows * 2), "validation": tuple(rows), "test": tuple(rows)}
    task = Task("few", "classification", "accuracy", {"negative": "bad", "positive": "good"}, splits)
    assert found(prepared(task, fitting(name, masked, causal, filling), shots=None), name).report.rows == 2


@pytest.mark.parametrize("name", EACH)
def test_a_class_alone_is_always_right(name: str, masked: Backbone, causal: Backbone, filling: Backbone) -> None:
    rows = tuple(Example(f"film {number}", label="positive") for number in range(12))
    task = Task("alone", "classification", "accuracy", {"positive": "good"}, {"train": rows, "test": rows[:3]})
    setting = prepared(task, fitting(name, masked, causal, filling), passes=40)
    assert found(setting, name).report.score == 100


@pytest.fixture(scope="module")
def chinese(albert_tiny_zh: Path) -> Backbone:
    return load_backbone(albert_tiny_zh)


@pytest.mark.parametrize("name", EACH)
def test_chinese_words_are_searched(name: str, chinese: Backbone) -> None:
    rows = [Example(f"这个手机{word}", label=label) for word, label in (("很好", "好评"), ("很差", "差评"))] * 12
    splits = {"train": tuple(rows), "test": tuple(rows[:6])}
    task = Task("reviews", "classification", "accuracy", {"好评": "好评", "差评": "差评"}, splits)
    result = found(prepared(task, fitting(name, chinese), passes=24, shots=1), name)
    assert "{mask}" in result.candidate.template


def test_pairs_are_searched(masked: Backbone) -> None:
    setting = prepared(toy_task("pair"), masked)
    assert {"{text_a}", "{text_b}"} <= set(setting.space.start.template.replace("}", "} ").split())
    assert found(setting, "random").report.rows == len(toy_task("pair").test)


def test_the_best_so_far_is_on_disk(masked: Backbone, tmp_path: Path) -> None:
    result = found(toy(masked), "library", tmp_path)
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["template"] == result.curve[-1].template


def test_another_search_in_the_folder_is_not_overwritten_unasked(masked: Backbone, tmp_path: Path) -> None:
    search(toy_task(), masked, shots=4, passes=PASSES, out=tmp_path)
    with pytest.raises(PromptgraftError, match="another search is kept there"):
        search(toy_task(), masked, shots=4, passes=PASSES, out=tmp_path, seed=1)
    search(toy_task(), masked, shots=4, passes=PASSES, out=tmp_path, seed=1, replace=True)


def test_a_search_without_gain_says_so(masked: Backbone) -> None:
    """Of a task that nothing can tell: the library's template is what everything is compared with."""
    draws = random.Random(5)
    rows = [Example(f"film {draws.random()}", label=draws.choice(["negative", "positive"])) for _ in range(80)]
    splits = {"train": tuple(rows[:32]), "test": tuple(rows[32:])}
    task = Task("noise", "classification", "accuracy", {"negative": "bad", "positive": "good"}, splits)
    outcome = search(task, masked, shots=4, passes=PASSES)
    assert outcome.verdict.startswith("no better than the template")
    none = outcome.of("none")
    assert none is not None
    alone = replace(none, choosing=replace(none.choosing, score=101.0))
    others = tuple(entry for entry in outcome.found if entry is not none)
    assert "against it the row without a template gains " in replace(outcome, found=(alone, *others)).verdict


def test_what_cannot_be_searched_is_refused_in_one_line(masked: Backbone, minilm: Path) -> None:
    with pytest.raises(PromptgraftError, match="did you mean 'random'"):
        search(toy_task(), masked, ["randon"])
    with pytest.raises(PromptgraftError, match="too small: one candidate on all rows takes 16"):
        search(toy_task(), masked, shots=4, passes=15)
    with pytest.raises(PromptgraftError, match="no prompt is searched for a task of kind regression"):
        search(toy_task("regression"), masked)
    with pytest.raises(PromptgraftError, match="no probability of whole answers; take a causal"):
        search(toy_task("text"), masked)
    with pytest.raises(PromptgraftError, match="no head over words"):
        search(toy_task(), load_backbone(minilm))
    with pytest.raises(PromptgraftError, match=r"leave {demos} out"):
        search(toy_task(), masked, template="{demos:4}{text} {mask}")
