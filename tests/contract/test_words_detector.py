"""ELECTRA's discriminator reads filled templates: the label whose words look original where the answer stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

import promptgraft as pg
from promptgraft.api.opening import as_bank
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import ArtefactError, PromptgraftError
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Example
from toys import SIZE, WORDS, masked_model, toy_task

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = {word: number for number, word in enumerate((*SPECIAL, *WORDS, "it", "."))}
TEMPLATE = "{text} it was {mask} ."
SHORT: dict[str, object] = {"max_length": 40, "template": TEMPLATE, "verbalizer": "negative=bad|poors,positive=goods"}
FEW: dict[str, object] = {"steps": 2, "batch": 4, "evaluations": 1, "length": 2}
TEXTS = ["a good film", "", "[MASK] bad", "the music was awful " * 20]


def write_electra(folder: Path) -> Path:
    """A discriminator with random weights, whose words may be several tokens (`goods` is `good`, `##s`)."""
    config = transformers.ElectraConfig(vocab_size=len(VOCABULARY), embedding_size=16, **SIZE)
    torch.manual_seed(3)
    transformers.ElectraForPreTraining(config).save_pretrained(folder)
    engine = Tokenizer(WordPiece(VOCABULARY, unk_token="[UNK]"))
    engine.add_special_tokens(list(SPECIAL))
    engine.pre_tokenizer = Whitespace()
    ends = [(name, VOCABULARY[name]) for name in ("[CLS]", "[SEP]")]
    engine.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    engine.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_electra(tmp_path_factory.mktemp("electra"))


@pytest.fixture(scope="module")
def electra(folder: Path) -> Backbone:
    return load_backbone(folder)


def test_scores_are_transformers_own(electra: Backbone, folder: Path, tmp_path: Path) -> None:
    """The log-probability of "original" at each token of a word, its mean over tokens, then over words."""
    kept = pg.tune(toy_task(), electra, method="zero-shot", shots=0, **SHORT).artefact
    assert (kept.card.readout, kept.card.pooling) == ("detector", "original")
    assert kept.card.answers == ("bad", "poors", "goods")
    model = transformers.ElectraForPreTraining.from_pretrained(folder).eval()

    def fit(text: str, word: list[str]) -> float:
        tokens = ["[CLS]", *text.split(), "it", "was", *word, ".", "[SEP]"]
        first = len(tokens) - 2 - len(word)
        with torch.no_grad():
            logits = model(torch.tensor([[VOCABULARY[token] for token in tokens]])).logits[0]
        return float(torch.nn.functional.logsigmoid(-logits[first : first + len(word)]).mean())

    texts = ["a good film", "the plot was poor", "fine"]
    wanted = [[(fit(text, ["bad"]) + fit(text, ["poor", "##s"])) / 2, fit(text, ["good", "##s"])] for text in texts]
    artefacts.save(kept, tmp_path / "kept")
    shares = Predictor(artefacts.load(tmp_path / "kept"), electra).predict_proba(texts)
    np.testing.assert_allclose(shares, torch.tensor(wanted).softmax(-1).numpy(), atol=1e-5)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_a_prompt_is_tuned_under_it_kept_and_carried(electra: Backbone, depth: str, tmp_path: Path) -> None:
    kept = pg.tune(toy_task(seed=1), electra, shots=4, depth=depth, **SHORT, **FEW).artefact
    artefacts.save(kept, tmp_path / "kept")
    predictor = Predictor(artefacts.load(tmp_path / "kept"), electra)
    shares = predictor.predict_proba(TEXTS)
    np.testing.assert_array_equal(Predictor(kept, electra).predict_proba(TEXTS), shares)
    alone = np.concatenate([predictor.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(shares, alone, atol=2e-5)
    bank = as_bank(tmp_path / "bank", create=True)
    bank.add(kept.replace(card=kept.card.replace(task=kept.card.task.model_copy(update={"name": "donor"}))), "donor")
    carried = pg.transfer(
        toy_task(), electra, bank, source="donor", method="pot", shots=4, max_length=40,
        verbalizer="negative=bad,positive=good|fine", **FEW,
    ).artefact  # fmt: skip
    assert (carried.card.readout, carried.card.answers) == ("detector", ("bad", "good", "fine"))


def test_the_gradient_of_a_prompt_is_that_of_its_values(electra: Backbone) -> None:
    """Along a drawn direction, against a central difference."""
    reading = Reading("original", template=TEMPLATE, answers=("bad", "goods"))
    batch = Batch(electra.tokenize([Example("a good film"), Example("poor")], "classification", reading), None)
    batch = Batch(batch.tokens, torch.zeros(batch.tokens.sequences, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    shape = (electra.prompt_layers, 2, 3, electra.key_width)
    values, way = (torch.randn(shape, generator=generator) for _ in range(2))
    weight = torch.randn(6, 1, generator=generator)

    def total(prompt: torch.Tensor) -> torch.Tensor:
        return (weight * electra.forward(batch, stack([Prompt(prompt, "after_cls")]), "original")).sum()

    leaf = values.clone().requires_grad_()
    total(leaf).backward()
    assert leaf.grad is not None
    difference = (total(values + 0.01 * way) - total(values - 0.01 * way)) / 0.02
    torch.testing.assert_close((leaf.grad * way).sum(), difference, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("calibration", ["empty", "domain"])
def test_it_is_calibrated_like_other_words(electra: Backbone, calibration: str) -> None:
    options = {"calibration": calibration}
    kept = pg.tune(toy_task(), electra, method="zero-shot", shots=0, options=options, **SHORT).artefact
    if calibration == "empty":
        np.testing.assert_allclose(Predictor(kept, electra).predict_proba([""]), [[0.5, 0.5]], atol=1e-5)
    assert np.isfinite(Predictor(kept, electra).predict_proba(TEXTS)).all()


def test_it_joins_a_graft(electra: Backbone, tmp_path: Path) -> None:
    bank = as_bank(tmp_path / "bank", create=True)
    kept = pg.transfer(toy_task(), electra, bank, shots=4, method="graft", **SHORT).artefact
    assert [member.kind for member in kept.others] == ["detector"]
    artefacts.save(kept, tmp_path / "kept")
    before, after = (
        Predictor(artefact, electra).predict_proba(TEXTS) for artefact in (kept, artefacts.load(tmp_path / "kept"))
    )
    np.testing.assert_array_equal(before, after)


def test_what_it_cannot_do_is_one_line(electra: Backbone, splade_tiny: Path) -> None:
    cases = (
        (electra, {"verbalizer": "auto"}, "auto", "says none itself, so that words of labels cannot be found with it"),
        *((electra, {}, name, "says none itself.*readout detector") for name in ("verbalizer", "prototype")),
        (electra, {"verbalizer": "negative= |,positive=good"}, "auto", "no word"),
        (load_backbone(splade_tiny), {}, "detector", "does not tell original words from others"),
    )
    for backbone, changes, readout, message in cases:
        with pytest.raises(PromptgraftError, match=message) as caught:
            pg.tune(
                toy_task(), backbone, method="zero-shot", shots=2, options={"readout": readout}, **{**SHORT, **changes}
            )
        assert "\n" not in str(caught.value)


def test_words_that_are_not_those_of_the_readout_are_refused(electra: Backbone) -> None:
    kept = pg.tune(toy_task(), electra, method="zero-shot", shots=0, **SHORT).artefact
    wrong = kept.replace(readout={**kept.readout, "counts": torch.tensor([1e9, 1.0])})
    with pytest.raises((ArtefactError, PromptgraftError), match="words of labels"):
        Predictor(wrong, electra).predict(["a film"])


def test_what_needs_words_says_that_it_has_none(electra: Backbone) -> None:
    template = "{text} was {mask} ."
    calls = {
        "no words can be searched": lambda: pg.search(toy_task(), electra, passes=60, shots=3, template=template),
        "no template's answer can be read so": lambda: pg.distil(f"say {template}", electra, toy_task(), to=template),
    }
    for message, call in calls.items():
        with pytest.raises(PromptgraftError, match=f"says none itself, so that {message}.*readout detector"):
            call()


def test_it_cannot_propose_words(electra: Backbone, tmp_path: Path) -> None:
    masked = load_backbone(masked_model(tmp_path))
    words: dict[str, str] = {"template": "{text} was {mask} .", "verbalizer": "negative=bad,positive=good"}
    outcome = pg.search(toy_task(), masked, ["grips"], passes=40, shots=3, proposer=electra, **words)
    assert "it needs a model that says likely words" in outcome.problems["grips"]
