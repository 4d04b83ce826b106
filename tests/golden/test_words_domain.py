"""The domain's prior: what a row adds to an answer, PMI_DC, worked out with transformers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import promptgraft as pg
from causal_models import causal_folder
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import PromptgraftError
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.task.task import Example
from promptgraft.template.remainder import premise
from promptgraft.template.template import Template
from toys import toy_task

TEMPLATE = "Film: {text}\nMood: {mask}"
WORDS = "negative=bad thing,positive=good"
TEXTS = ["the film was a plot", "good", ""]
DOMAIN = {"calibration": "domain"}
COMPLETED = {**DOMAIN, "readout": "completion"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    causal_folder(folder, "llama")
    return folder


@pytest.fixture(scope="module")
def speaker(folder: Path) -> Backbone:
    return load_backbone(folder)


@pytest.fixture(scope="module")
def log_p(folder: Path) -> Callable[[str, str], float]:
    """The log-probability of an answer behind a text, by transformers."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def likelihood(text: str, answer: str) -> float:
        before, ids = tokenizer(text)["input_ids"], tokenizer(text + answer)["input_ids"]
        assert ids[: len(before)] == before
        with torch.no_grad():
            logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return float(sum(logs[place - 1, ids[place]] for place in range(len(before), len(ids))))

    return likelihood


def softmax(scores: Sequence[Sequence[float]]) -> np.ndarray:
    return torch.tensor(scores).softmax(-1).numpy()


@pytest.mark.parametrize(
    ("template", "asking"),
    [
        ("Film: {text}\nMood: {mask}", "Mood: {mask}"),
        ("{text} It was {mask}.", "It was {mask}."),
        ("Good or bad? {text} {mask}", "Good or bad?  {mask}"),
        ("This is a {mask} message: {text}", "This is a {mask} message: "),
        ("{demos:2}\nFilm: {text}\nMood: {mask}", "{demos:2}Mood: {mask}"),
        ("{demos:2 near}\nFilm: {text}\nMood: {mask}", "Mood: {mask}"),
        ("{text}\nOptions: {choices}\nRight: {mask}", "Right: {mask}"),
        ("{text}{mask}", "{mask}"),
    ],
)
def test_the_premise_is_the_template_without_the_row(template: str, asking: str) -> None:
    assert str(premise(Template.parse(template))) == asking


def test_classes_are_scored_by_what_the_row_adds(
    speaker: Backbone, log_p: Callable[[str, str], float], tmp_path: Path
) -> None:
    kept = pg.tune(
        toy_task(), speaker, method="zero-shot", shots=0, template=TEMPLATE, verbalizer=WORDS, max_length=80,
        options=COMPLETED,
    ).artefact  # fmt: skip
    artefacts.save(kept, tmp_path / "kept")
    wanted = [
        [log_p(f"Film: {text}\nMood:", answer) - log_p("Mood:", answer) for answer in (" bad thing", " good")]
        for text in TEXTS
    ]
    shares = Predictor(artefacts.load(tmp_path / "kept"), speaker).predict_proba(TEXTS)
    np.testing.assert_allclose(shares, softmax(wanted), atol=1e-4)


def test_demonstrations_stand_before_the_question_too(speaker: Backbone, log_p: Callable[[str, str], float]) -> None:
    task = toy_task(train=4)
    kept = pg.tune(
        task, speaker, method="zero-shot", template="{demos:1}\n{text} is {mask}", verbalizer=WORDS, max_length=90,
        options=COMPLETED,
    ).artefact  # fmt: skip
    assert kept.card.template is not None
    shown = kept.card.template.removesuffix("\n{text} is {mask}")
    assert shown.count("\n") == 0
    wanted = [
        log_p(f"{shown}\na film is", answer) - log_p(f"{shown}\nis", answer) for answer in (" bad thing", " good")
    ]
    np.testing.assert_allclose(Predictor(kept, speaker).predict_proba(["a film"]), softmax([wanted]), atol=1e-4)


def test_options_are_scored_by_what_the_row_adds(
    speaker: Backbone, log_p: Callable[[str, str], float], tmp_path: Path
) -> None:
    """The prior is a member of its own, which the artefact keeps; options of any length and number."""
    kept = pg.tune(
        toy_task("choice"), speaker, method="zero-shot", shots=0, template="{text} so it is {mask}", max_length=80,
        options=DOMAIN,
    ).artefact  # fmt: skip
    artefacts.save(kept, tmp_path / "kept")
    again = Predictor(artefacts.load(tmp_path / "kept"), speaker)
    assert again.tuned.others
    for options in (("good", "a very bad thing", "fine"), ("b", "good")):
        wanted = [log_p("the film was so it is", f" {text}") - log_p("so it is", f" {text}") for text in options]
        row = Example("the film was", choices=options)
        assert again.predict([row]) == [options[int(np.argmax(wanted))]]
        scores = again._scores(again.questions([row]))[0]
        np.testing.assert_allclose(scores[0].numpy(), wanted, atol=1e-3)


def test_a_verbalizer_takes_off_the_domains_logits(splade_tiny: Path) -> None:
    """A masked model's logits at the mask of the template less those at the mask of its question alone."""
    from transformers import AutoModelForMaskedLM

    backbone = load_backbone(splade_tiny)
    kept = pg.tune(
        toy_task(), backbone, method="zero-shot", shots=0, template="{text} It was {mask}.", max_length=48,
        verbalizer="negative=bad,positive=great", options=DOMAIN,
    ).artefact  # fmt: skip
    tokenizer, model = AutoTokenizer.from_pretrained(splade_tiny), AutoModelForMaskedLM.from_pretrained(splade_tiny)
    words = tokenizer.convert_tokens_to_ids(["bad", "great"])

    def logits(text: str) -> torch.Tensor:
        ids = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            found: torch.Tensor = model(**ids).logits[ids["input_ids"] == tokenizer.mask_token_id][0, words]
        return found

    wanted = torch.stack([logits(f"{text} It was [MASK].") - logits("It was [MASK].") for text in TEXTS[:2]])
    np.testing.assert_allclose(Predictor(kept, backbone).predict_proba(TEXTS[:2]), wanted.softmax(-1), atol=1e-4)


def test_a_template_without_words_has_no_domain(speaker: Backbone) -> None:
    with pytest.raises(PromptgraftError, match="no words of its own") as caught:
        pg.tune(toy_task(), speaker, method="zero-shot", shots=0, template="{text}{mask}", options=COMPLETED)
    assert "\n" not in str(caught.value)
