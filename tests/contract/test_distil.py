"""A template's instruction or demonstrations become a prompt; what is lost, and what a pass costs, is counted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from causal_models import causal_folder
from promptgraft import api
from promptgraft.errors import RunError, TaskError, UsageError
from promptgraft.model.backbone import Backbone
from promptgraft.readout.matched import Matched
from promptgraft.task.task import Task
from promptgraft.template.remainder import remainder
from promptgraft.template.template import Template
from seq2seq import write_small
from toys import toy_task

LONG = "Say what it is, one of two, with care.\nReview: {text}\nIt is {mask}"
WORDS = "negative=bad,positive=good"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    causal, t5 = tmp_path_factory.mktemp("llama"), tmp_path_factory.mktemp("t5")
    causal_folder(causal, "llama")
    write_small("t5", t5)
    return {"llama": api.load_backbone(causal, dtype="fp32"), "t5": api.load_backbone(t5, dtype="fp32")}


@pytest.mark.parametrize(
    ("long", "short"),
    [
        (LONG, "Review: {text}\nIt is {mask}"),
        ("{demos:16}\nReview: {text}\nMood: {mask}", "Review: {text}\nMood: {mask}"),
        ("{demos:4}Review: {text} Mood: {mask}", "Review: {text} Mood: {mask}"),
        ("Is this good or bad? {text} {mask}", "{text} {mask}"),
        ("Read both.\nA: {text_a}\nB: {text_b}\nSame? {mask}", "A: {text_a}\nB: {text_b}\nSame? {mask}"),
        ("{text} It was {mask}", "{text} It was {mask}"),
    ],
)
def test_the_short_template_is_the_line_of_the_fields(long: str, short: str) -> None:
    assert str(remainder(Template.parse(long))) == short


def test_the_loss_is_the_divergence_over_all_words() -> None:
    generator = torch.Generator().manual_seed(0)
    columns, offset = torch.randn(9, 4, generator=generator), torch.randn(9, generator=generator)
    teacher, student = torch.randn(100, 4, generator=generator), torch.randn(100, 4, generator=generator)
    loss = Matched(columns, offset, teacher).loss(student, torch.arange(100))
    wanted, said = ((states @ columns.T + offset).softmax(-1) for states in (teacher, student))
    expected = [
        sum(p * math.log(p / q) for p, q in zip(a, b, strict=True))
        for a, b in zip(wanted.tolist(), said.tolist(), strict=True)
    ]
    assert loss.tolist() == pytest.approx(expected, abs=1e-4)
    assert Matched(columns, offset, teacher).loss(teacher, torch.arange(100)).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_prompt_comes_nearer_to_the_long_template_and_is_kept(
    models: dict[str, Backbone], name: str, tmp_path: Path
) -> None:
    task = toy_task(train=16, validation=6, test=8)
    long = LONG if name == "llama" else "w5 w6 w7 w8 w9 w10 w11 w12\nw13 {text}\nw14 {mask}"
    bank = tmp_path / "bank"
    words = WORDS if name == "llama" else "negative=w3,positive=w4"
    distilled = api.distil(
        long, models[name], task, length=4, steps=30, rate=0.1, evaluations=3, verbalizer=words, out=tmp_path / "run",
        bank=bank,
    )  # fmt: skip
    assert distilled.short == str(remainder(Template.parse(long)))
    assert distilled.kept.divergence < distilled.plain.divergence
    assert distilled.tokens[0] > distilled.tokens[1]
    assert distilled.rows == 8
    assert distilled.accuracy is not None
    artefact = distilled.outcome.artefact
    assert artefact.card.method == "distil"
    assert artefact.card.options == {"long": long}
    assert artefact.card.readout == "verbalizer"
    assert artefact.card.template == distilled.short
    texts = [row.text for row in task.test]
    again = api.load(tmp_path / "run", models[name])
    assert again.predict(texts) == distilled.outcome.predictor.predict(texts)
    assert again.evaluate(task.test)["score"] == pytest.approx(100 * (distilled.kept.accuracy or 0))
    assert api.as_bank(bank).load("toy-classification").hash == artefact.hash
    sentences = list(distilled.lines)
    assert sentences[0].endswith(f"beside 4 key-value pairs, where it had {distilled.tokens[0]:.0f}")
    assert len(sentences) == 4


def test_demonstrations_become_a_prompt(models: dict[str, Backbone]) -> None:
    task = toy_task(train=12, validation=4, test=4)
    long = "{demos:2}\n{text} is {mask}"
    limit = {"steps": 3, "evaluations": 1, "verbalizer": WORDS, "length": 3}
    distilled = api.distil(long, models["llama"], task, **limit)
    assert distilled.short == "{text} is {mask}"
    assert any("2 demonstrations" in note for note in distilled.outcome.notes)


def test_texts_without_labels_are_enough(models: dict[str, Backbone], tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"w{n} w{n + 3}" for n in range(20)), encoding="utf-8")
    distilled = api.distil(LONG, models["t5"], path, length=3, steps=2, evaluations=1)
    assert distilled.accuracy is None
    assert distilled.kept.accuracy is None
    assert "texts: its texts alone are read (no labels)" in distilled.outcome.notes
    assert distilled.outcome.best.result.readout == "written"
    assert len(distilled.outcome.predictor.predict(["w3 w4"])) == 1


def test_words_of_labels_name_the_labels_that_texts_lack(
    models: dict[str, Backbone], splade_tiny: Path, tmp_path: Path
) -> None:
    """So a masked model, which writes nothing, can be told apart by its classes."""
    path = tmp_path / "texts.csv"
    path.write_text("text\n" + "\n".join(f"w{n} w{n + 3}" for n in range(20)), encoding="utf-8")
    for model in (api.load_backbone(splade_tiny), models["llama"]):
        distilled = api.distil(LONG, model, path, length=3, steps=2, evaluations=1, verbalizer=WORDS)
        assert distilled.accuracy is None
        assert distilled.outcome.best.result.readout == "verbalizer"
        assert set(distilled.outcome.predictor.predict(["w3 w4"])) <= {"positive", "negative"}
        assert not any("no description" in note for note in distilled.outcome.notes), "words stand for the labels"


@pytest.mark.parametrize("verbalizer", ["", "auto"])
def test_a_model_that_writes_nothing_asks_for_the_words_of_labels_of_texts_alone(
    verbalizer: str, splade_tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"w{n} w{n + 3}" for n in range(20)), encoding="utf-8")
    with pytest.raises(RunError, match="or name the labels by their words: verbalizer label=word,label=word"):
        api.distil(LONG, splade_tiny, path, length=3, steps=2, evaluations=1, verbalizer=verbalizer)


def test_a_head_may_be_narrower_than_the_states(albert_tiny_zh: Path) -> None:
    """A task without one of its splits: the states of no rows are as wide as those of some."""
    task = toy_task(train=8, validation=0, test=2)
    distilled = api.distil(LONG, albert_tiny_zh, task, length=3, steps=2, evaluations=1, verbalizer=WORDS)
    assert distilled.rows == 2


def test_what_cannot_be_distilled_is_refused(models: dict[str, Backbone], tmp_path: Path) -> None:
    task = toy_task(train=8, validation=2, test=2)
    with pytest.raises(UsageError, match="no instruction or demonstrations"):
        api.distil("{text} is {mask}", models["llama"], task)
    with pytest.raises(RunError, match="vectors has no words"):
        api.distil("Say it.\n{soft:3} {text} {mask}", models["llama"], task, to="{text} {mask}", verbalizer=WORDS)
    with pytest.raises(RunError, match="a long template and a short one"):
        api.tune(task, models["llama"], method="distil", steps=1)
    with pytest.raises(TaskError):
        api.distil(LONG, models["llama"], tmp_path / "none.csv")
    empty = Task("empty", "text", "rougeL", {}, {})
    with pytest.raises((RunError, TaskError)):
        api.distil(LONG, models["llama"], empty)
