"""Words of labels that are found from labelled rows: readable, whole, and those that set the label's rows apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import promptgraft as pg
from causal_models import causal_folder
from promptgraft.api.opening import as_bank
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import PromptgraftError, RunError
from promptgraft.model.backbone import Backbone, Speaks
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.readout.found import found_words, mean_likelihoods
from promptgraft.task.task import Example, Task
from seq2seq import write_small
from toys import tiny_model, toy_task

TEMPLATE = "{text} it was {mask}."
AUTO: dict[str, object] = {"max_length": 48, "template": TEMPLATE, "verbalizer": "auto"}
FEW: dict[str, object] = {"steps": 2, "batch": 4, "evaluations": 1, "length": 2}


@pytest.fixture(scope="module")
def masked(splade_tiny: Path) -> Backbone:
    return load_backbone(splade_tiny)


class Head:
    """A head whose logits of the four words are the states themselves."""

    mask = None

    def lone_words(self) -> Mapping[str, int]:
        return {"red": 0, "blue": 1, "green": 2}

    def word_ids(self, words: list[str]) -> list[list[int]]:
        return [[self.lone_words()[word]] for word in words]

    def columns(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.eye(4)[ids], torch.zeros(len(ids))


def test_scores_are_the_mean_log_likelihood_less_that_of_others() -> None:
    """By hand: of two rows a class, p over red, blue, green and a token that is no word."""
    shares = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.5, 0.1, 0.3, 0.1], [0.4, 0.2, 0.3, 0.1]])
    gold = torch.tensor([0, 0, 1, 1])
    head: Speaks = Head()  # type: ignore[assignment]
    likely = mean_likelihoods(head, shares.log(), gold, ("first", "second"), 4)
    torch.testing.assert_close(likely[0, 1], (torch.tensor(0.2).log() + torch.tensor(0.3).log()) / 2)
    assert found_words(head, shares.log(), gold, ("first", "second"), 4) == {"first": ("blue",), "second": ("green",)}
    with pytest.raises(RunError, match="no labelled row of 'second'"):
        found_words(head, shares.log(), gold * 0, ("first", "second"), 4)
    with pytest.raises(RunError, match="3 whole words for 4 labels"):
        found_words(head, shares.log(), gold, ("a", "b", "c", "d"), 4)


def test_what_is_found_is_what_transformers_says(masked: Backbone, splade_tiny: Path) -> None:
    """The best word of each label, from the logits of the reference at the masks."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    task = toy_task()
    kept = pg.tune(task, masked, method="zero-shot", **AUTO).artefact
    tokenizer, model = AutoTokenizer.from_pretrained(splade_tiny), AutoModelForMaskedLM.from_pretrained(splade_tiny)
    ids = tokenizer([f"{row.text} it was [MASK]." for row in task.train], return_tensors="pt", padding=True)
    with torch.no_grad():
        likely = model(**ids).logits[ids["input_ids"] == tokenizer.mask_token_id].log_softmax(-1)
    labels = [row.label for row in task.train]
    means = {name: likely[[label == name for label in labels]].mean(0) for name in task.classes}
    assert isinstance(masked, Speaks)
    words = masked.lone_words()
    for name, other in (("negative", "positive"), ("positive", "negative")):
        usual = sorted(words.values(), key=lambda token: -float(means[name][token]))[:1000]
        best = max(usual, key=lambda token: float((means[name] - means[other])[token]))
        assert words[kept.card.words[name][0]] == best


@pytest.fixture(scope="module", params=["llama", "gpt2", "t5", "bart", "bert"])
def speaker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, splade_tiny: Path) -> Backbone:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "bert":
        return load_backbone(splade_tiny)
    write_small(request.param, folder) if request.param in ("t5", "bart") else causal_folder(folder, request.param)
    return load_backbone(folder)


def test_words_are_whole_and_made_of_letters(speaker: Backbone) -> None:
    assert isinstance(speaker, Speaks)
    words = speaker.lone_words()
    assert all(word.isalpha() for word in words)
    assert speaker.word_ids(list(words)) == [[token] for token in words.values()]
    assert not {"CLS", "MASK", "##s", "s"} & words.keys()


@pytest.mark.parametrize("kind", ["classification", "pair"])
def test_every_kind_of_model_finds_words(speaker: Backbone, kind: str) -> None:
    template = {"classification": "{text} is {mask}", "pair": "{text_a} and {text_b} are {mask}"}[kind]
    task = toy_task(kind)  # type: ignore[arg-type]
    if len(speaker.lone_words()) < 2:  # type: ignore[attr-defined]
        with pytest.raises(PromptgraftError, match="whole words for 2 labels"):
            pg.tune(task, speaker, method="zero-shot", shots=4, template=template, verbalizer="auto", max_length=60)
        return
    kept = pg.tune(task, speaker, method="zero-shot", shots=4, template=template, verbalizer="auto", max_length=60)
    words = kept.artefact.card.words
    assert words.keys() == task.labels.keys()
    assert not set(words[task.classes[0]]) & set(words[task.classes[1]])


@pytest.mark.parametrize("method", ["zero-shot", "prompt-tuning"])
def test_found_words_are_said_kept_and_used(masked: Backbone, method: str, tmp_path: Path) -> None:
    task = toy_task()
    few = FEW if method == "prompt-tuning" else {}
    outcome = pg.tune(task, masked, method=method, shots=4, **AUTO, **few)
    kept = outcome.artefact
    assert any(note.startswith("words of labels, found from 8 labelled rows: negative = ") for note in outcome.notes)
    artefacts.save(kept, tmp_path / "kept")
    again = artefacts.load(tmp_path / "kept")
    assert (again.hash, again.card.words) == (kept.hash, kept.card.words)
    assert f"(read as {kept.card.words['negative'][0]}" in (tmp_path / "kept" / "README.md").read_text("utf-8")
    texts = [example.text for example in task.test]
    shares = Predictor(again, masked).predict_proba(texts)
    np.testing.assert_array_equal(Predictor(kept, masked).predict_proba(texts), shares)
    if method == "zero-shot":
        given = ",".join(f"{label}={'|'.join(own)}" for label, own in kept.card.words.items())
        same = pg.tune(task, masked, method=method, shots=4, **{**AUTO, "verbalizer": given}).artefact
        np.testing.assert_allclose(Predictor(same, masked).predict_proba(texts), shares, atol=1e-6)


def test_found_words_are_carried_to_equal_labels_and_found_anew_for_others(masked: Backbone, tmp_path: Path) -> None:
    bank = as_bank(tmp_path / "bank", create=True)
    donor = pg.tune(toy_task(seed=1).replace(name="donor"), masked, shots=4, **AUTO, **FEW).artefact
    bank.add(donor, "donor")
    carried = pg.transfer(toy_task(), masked, bank, source="donor", method="pot", shots=4, max_length=48, **FEW)
    assert carried.artefact.card.words == donor.card.words
    assert "words of the source's labels" in carried.notes
    other = toy_task("pair")
    rows = {split: tuple(single(row) for row in examples) for split, examples in other.splits.items()}
    other = Task("other", "classification", "accuracy", other.labels, rows)
    anew = pg.transfer(
        other, masked, bank, source="donor", method="pot", shots=4, max_length=48, verbalizer="auto", **FEW
    ).artefact
    assert anew.card.words.keys() == {"no", "yes"}
    assert anew.card.words["no"] != donor.card.words["negative"]


def single(row: Example) -> Example:
    return Example(f"{row.text}, {row.pair}", label=row.label)


def test_words_are_found_beside_vectors_and_near_demonstrations(masked: Backbone) -> None:
    for template in ('{text}{soft:" It was"}{soft:3}{mask}.', "{demos:2 near}\n{text} It was {mask}."):
        kept = pg.tune(toy_task(), masked, shots=4, **{**AUTO, "max_length": 64, "template": template}, **FEW)
        assert kept.artefact.card.words.keys() == toy_task().labels.keys()


def test_what_no_words_can_be_found_for_is_one_line(masked: Backbone, tmp_path: Path) -> None:
    encoder = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    cases = (
        (toy_task(), masked, 0, "words are found from labelled rows, and there are none"),
        (toy_task(), encoder, 4, "has no head over words"),
        (toy_task("choice"), masked, 4, "a task without classes has no words"),
    )
    for task, backbone, shots, message in cases:
        template = TEMPLATE if task.kind == "classification" else "{text} so {mask}"
        with pytest.raises(PromptgraftError, match=message) as caught:
            pg.tune(task, backbone, method="zero-shot", shots=shots, **{**AUTO, "template": template})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["{demos:2}", "{demos:2 near}"])
def test_beside_demonstrations_one_note_says_which_words_are_which(place: str, masked: Backbone) -> None:
    recipe: dict[str, object] = {**AUTO, "template": f"{place}\n{TEMPLATE}", "max_length": 128}
    outcome = pg.tune(toy_task(), masked, method="zero-shot", shots=4, **recipe)
    [note] = [note for note in outcome.notes if "labels" in note and "words" in note]
    assert note.startswith("words of labels, found from 8 labelled rows: negative = ")
    assert note.endswith("; demonstrations show negative, positive")
    assert not any("stand for themselves" in note for note in outcome.notes)
