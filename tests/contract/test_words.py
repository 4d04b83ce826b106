"""Templates at work in methods: words read by heads, prompts in a template's slots, words as members of a graft."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

import promptgraft as pg
from promptgraft.api.opening import as_bank
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.suggest import suggest
from promptgraft.errors import PromptgraftError, RunError
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.readout.evidence import log_softmax
from promptgraft.readout.platt import fitted_scale, scaled_evidence
from promptgraft.task.task import Example, Kind
from promptgraft.train.recipe import Recipe
from toys import masked_model, tiny_model, toy_task

TEMPLATE = "{text} it was {mask}."
WORDS = "negative=terrible|bad,positive=great"
SHORT: dict[str, object] = {"max_length": 48, "template": TEMPLATE, "verbalizer": WORDS}
STARTED = '{text}{soft:"It was"}{mask}'
FEW: dict[str, object] = {"steps": 2, "batch": 4, "evaluations": 1, "length": 2}


@pytest.fixture(scope="module")
def masked(splade_tiny: Path) -> Backbone:
    return load_backbone(splade_tiny)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A model without a head over words."""
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


def test_a_verbalizer_gives_the_models_own_logits(masked: Backbone, splade_tiny: Path) -> None:
    """The softmax over the mean logits of the labels' words at the mask, as transformers has them."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    task = toy_task()
    kept = pg.tune(task, masked, method="zero-shot", shots=0, **SHORT).artefact
    texts = [example.text for example in task.test]
    tokenizer, model = AutoTokenizer.from_pretrained(splade_tiny), AutoModelForMaskedLM.from_pretrained(splade_tiny)
    ids = tokenizer([f"{text} it was [MASK]." for text in texts], return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model(**ids).logits[ids["input_ids"] == tokenizer.mask_token_id]
    terrible, bad, great = tokenizer.convert_tokens_to_ids(["terrible", "bad", "great"])
    wanted = torch.stack([logits[:, [terrible, bad]].mean(1), logits[:, great]], 1).softmax(-1)
    np.testing.assert_allclose(Predictor(kept, masked).predict_proba(texts), wanted.numpy(), atol=1e-4)


@pytest.mark.parametrize("method", ["prompt-tuning", "zero-shot"])
@pytest.mark.parametrize("template", [TEMPLATE, '{text}{soft:" It was"}{soft:3}{mask}.'])
def test_what_is_tuned_in_a_template_is_kept_and_answers_the_same(
    masked: Backbone, tmp_path: Path, method: str, template: str
) -> None:
    if method == "zero-shot" and "soft" in template:
        with pytest.raises(PromptgraftError, match="room for vectors"):
            pg.tune(toy_task(), masked, method=method, shots=0, **{**SHORT, "template": template})
        return
    shots = 0 if method == "zero-shot" else 4
    kept = pg.tune(toy_task(), masked, method=method, shots=shots, **{**SHORT, **FEW, "template": template}).artefact
    assert kept.card.readout == "verbalizer"
    assert kept.card.template is not None
    artefacts.save(kept, tmp_path / "kept")
    again = artefacts.load(tmp_path / "kept")
    assert again.hash == kept.hash
    texts = ["a good film", "", "[MASK] [SEP] bad", "好" * 2000]
    before, after = (Predictor(artefact, masked).predict_proba(texts) for artefact in (kept, again))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("readout", ["soft-verbalizer", "prototype"])
@pytest.mark.parametrize("template", [TEMPLATE, '{text}{soft:" It was"}{soft:3}{mask}.'])
def test_other_readouts_of_the_answers_place_are_trained_kept_and_carried(
    masked: Backbone, tmp_path: Path, readout: str, template: str
) -> None:
    settings = {**SHORT, **FEW, "template": template}
    kept = pg.tune(toy_task(seed=1), masked, shots=4, options={"readout": readout}, **settings).artefact
    assert kept.card.readout == readout
    artefacts.save(kept, tmp_path / "kept")
    texts = ["a good film", "", "[MASK] [SEP] bad", "好" * 2000]
    shares = Predictor(artefacts.load(tmp_path / "kept"), masked).predict_proba(texts)
    np.testing.assert_array_equal(Predictor(kept, masked).predict_proba(texts), shares)
    bank = as_bank(tmp_path / "bank", create=True)
    bank.add(kept.replace(card=kept.card.replace(task=kept.card.task.model_copy(update={"name": "donor"}))), "donor")
    carried = pg.transfer(
        toy_task(), masked, bank, source="donor", method="pot", shots=4, verbalizer=WORDS, max_length=48, **FEW
    )
    assert carried.artefact.card.readout == readout


def test_untrained_prototypes_read_what_labelled_rows_are_near(masked: Backbone) -> None:
    """Of a task that its words decide, the nearest mean of states tells most apart; without rows words start it."""
    outcome = pg.tune(toy_task(), masked, method="zero-shot", options={"readout": "prototype"}, **SHORT)
    assert outcome.best.result.scores["test"]["score"] > 60
    bare = pg.tune(toy_task(), masked, method="zero-shot", shots=0, options={"readout": "prototype"}, **SHORT).artefact
    assert np.isfinite(Predictor(bare, masked).predict_proba(["a film"])).all()


def test_vectors_of_a_template_start_as_its_words(masked: Backbone) -> None:
    kept = pg.tune(
        toy_task(),
        masked,
        shots=4,
        **{**SHORT, **FEW, "steps": 1, "rate": 0.0, "template": '{text}{soft:"It was"}{mask}'},
    ).artefact
    assert kept.prompt is not None
    ids = [token for token in masked.slots(STARTED) if token is not None]
    assert kept.prompt.placement == "template"
    torch.testing.assert_close(kept.prompt.values, masked.embed(torch.tensor(ids)))


def test_words_join_a_graft_and_are_kept_with_it(masked: Backbone, tmp_path: Path) -> None:
    task = toy_task()
    outcome = pg.transfer(task, masked, bank=as_bank(tmp_path / "bank", create=True), shots=4, method="graft", **SHORT)
    kept = outcome.artefact
    [words] = kept.others
    assert words.kind == "verbalizer"
    artefacts.save(kept, tmp_path / "kept")
    again = artefacts.load(tmp_path / "kept")
    texts = [example.text for example in task.test]
    before, after = (Predictor(artefact, masked).predict_proba(texts) for artefact in (kept, again))
    np.testing.assert_array_equal(before, after)


def test_another_model_reads_the_words_for_an_encoder_without_a_head(
    encoder: Backbone, splade_tiny: Path, tmp_path: Path
) -> None:
    options = {"words-model": str(splade_tiny)}
    task = toy_task()
    empty = as_bank(tmp_path / "bank", create=True)
    kept = pg.transfer(task, encoder, empty, shots=4, method="graft", options=options, **SHORT).artefact
    [words] = kept.others
    assert words.backbone is not None
    assert words.backbone.fingerprint != kept.card.backbone.fingerprint
    artefacts.save(kept, tmp_path / "kept")
    texts = [example.text for example in task.test]
    before = Predictor(kept, encoder).predict_proba(texts)
    np.testing.assert_array_equal(before, Predictor(artefacts.load(tmp_path / "kept"), encoder).predict_proba(texts))
    assert not np.allclose(before, Predictor(kept.replace(others=()), encoder).predict_proba(texts))


def test_a_classifier_of_scikit_learn_reads_in_words(
    masked: Backbone, encoder: Backbone, splade_tiny: Path, tmp_path: Path
) -> None:
    rows = toy_task().train[:12]
    texts, labels = [row.text for row in rows], [row.label for row in rows]
    words = {"template": TEMPLATE, "verbalizer": WORDS, "random_state": 0}
    asked = clone(pg.PromptClassifier(masked, method="zero-shot", **words)).fit(texts, labels)
    plain = pg.tune(toy_task(), masked, method="zero-shot", shots=0, **SHORT).artefact
    np.testing.assert_allclose(asked.predict_proba(texts), Predictor(plain, masked).predict_proba(texts), atol=1e-6)
    tuned = pg.PromptClassifier(masked, steps=2, length=2, **words).fit(texts, labels)
    assert tuned.artefact_.card.readout == "verbalizer"
    bank = as_bank(tmp_path / "bank", create=True).folder
    grafted = pg.PromptClassifier(encoder, bank=bank, words_model=str(splade_tiny), **words).fit(texts, labels)
    assert [member.kind for member in grafted.artefact_.others] == ["verbalizer"]
    with pytest.raises(PromptgraftError, match="did you mean"):
        pg.PromptClassifier(masked, template="sentiment-clozeen").fit(texts, labels)


@pytest.mark.parametrize("unlabelled", [0, 1, 40])
def test_without_labels_words_join_descriptions_without_their_preference_and_no_louder(
    encoder: Backbone, splade_tiny: Path, tmp_path: Path, unlabelled: int
) -> None:
    texts = [f"{example.text} once more" for example in toy_task(seed=5).train[:unlabelled]]
    outcome = pg.transfer(
        toy_task(), encoder, as_bank(tmp_path / "bank", create=True), shots=0, method="graft",
        unlabelled=texts or None, options={"words-model": str(splade_tiny)}, **SHORT,
    )  # fmt: skip
    kept = outcome.artefact
    assert any("preference for some classes" in note for note in outcome.best.result.notes)
    with_words, descriptions = (Predictor(artefact, encoder) for artefact in (kept, kept.replace(others=())))
    shown = texts or [Example()]
    apart = [np.diff(np.log(predictor.predict_proba(shown)), axis=1)[:, 0] for predictor in (with_words, descriptions)]
    of_words = apart[0] - apart[1]
    np.testing.assert_allclose(of_words.mean(), 0, atol=1e-4)
    if texts:
        np.testing.assert_allclose(of_words.std(), apart[1].std(), rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "sentiment-clozeen"}, "did you mean 'sentiment-cloze-en'"),
        ({"template": "{text} was"}, "mask"),
        ({"template": "{txt} {mask}"}, "did you mean"),
        ({"template": "{text_a} and {text_b}: {mask}"}, "text_a"),
        ({"verbalizer": "negative=,positive=great"}, "no word"),
        ({"verbalizer": "negativ=terrible,positive=great"}, "did you mean 'negative'"),
        ({"verbalizer": "negative=terrible"}, "no words for .positive"),
        ({"verbalizer": "negative=terrible,positive=great,negative=bad"}, "gives 'negative' words twice"),
        ({"verbalizer": "negative=great,positive=great"}, "begin alike"),
        ({"template": "{text} {mask} " + "word " * 80}, "template alone"),
    ],
)
def test_a_wrong_template_or_verbalizer_is_one_line(masked: Backbone, changes: dict[str, str], message: str) -> None:
    with pytest.raises(PromptgraftError, match=message) as caught:
        pg.tune(toy_task(), masked, method="zero-shot", shots=0, **{**SHORT, **changes})
    assert "\n" not in str(caught.value)


def test_label_words_that_the_model_does_not_know_are_said(
    masked: Backbone, encoder: Backbone, splade_tiny: Path, tmp_path: Path
) -> None:
    words = {**SHORT, "verbalizer": "negative=terrible|坏,positive=great|妙极"}
    note = "does not know the label words '坏', '妙极', and reads any unknown word instead"
    alone = pg.tune(toy_task(), masked, method="zero-shot", shots=0, **words)
    bank = as_bank(tmp_path / "bank", create=True)
    masked_words = {"words-model": str(splade_tiny)}
    beside = pg.transfer(toy_task(), encoder, bank=bank, shots=4, method="graft", options=masked_words, **words)
    for outcome in (alone, beside):
        assert [found for found in outcome.best.result.notes if "does not know" in found] == [f"{masked.name} {note}"]
    known = pg.tune(toy_task(), masked, method="zero-shot", shots=0, **SHORT)
    assert not any("does not know" in found for found in known.best.result.notes)


def test_a_model_without_a_head_over_words_says_so(encoder: Backbone, tmp_path: Path) -> None:
    for arguments in ({"method": "zero-shot", "shots": 0}, {"shots": 4}):
        with pytest.raises(PromptgraftError, match="no head over words"):
            pg.tune(toy_task(), encoder, **arguments, **{**SHORT, **FEW})
    with pytest.raises(PromptgraftError, match="no head over words"):
        pg.transfer(toy_task(), encoder, bank=as_bank(tmp_path / "bank", create=True), shots=4, method="graft", **SHORT)


def test_calibration_takes_off_what_an_empty_row_gets(masked: Backbone) -> None:
    options = {"calibration": "empty"}
    kept = pg.tune(toy_task(), masked, method="zero-shot", shots=0, options=options, **SHORT).artefact
    np.testing.assert_allclose(Predictor(kept, masked).predict_proba([Example()]), [[0.5, 0.5]], atol=1e-5)


def test_a_sources_prompt_is_read_as_it_was_tuned_or_as_was_asked(masked: Backbone) -> None:
    """What is asked for and cannot be had is refused, not passed over."""
    donor = pg.tune(toy_task(seed=1).replace(name="donor"), masked, shots=4, **SHORT, **FEW).artefact
    reused = Job(toy_task(), masked.fingerprint, "zero-shot", 0, Recipe(max_length=48), 0, Source("donor", donor))

    def kept(**options: str) -> Predictor:
        engine = LocalEngine(masked)
        [finished] = engine.run([reused.replace(options={"prompt": "source", **options})])
        return Predictor(make_artefact(finished, engine.view(finished.job)), masked)

    plain, same = kept(), kept(readout="verbalizer")
    assert plain.artefact.card.readout == "verbalizer"
    texts = [row.text for row in toy_task().test]
    np.testing.assert_array_equal(plain.predict_proba(texts), same.predict_proba(texts))
    even = kept(calibration="empty").predict_proba([Example()])
    np.testing.assert_allclose(even, [[0.5, 0.5]], atol=1e-5)
    with pytest.raises(RunError, match="its readout is 'verbalizer', not 'prototype'"):
        kept(readout="prototype")
    with pytest.raises(RunError, match="only words of classes are calibrated"):
        kept(readout="label-text", calibration="empty")
    with pytest.raises(RunError, match="keeps a source's readout with its prompt alone"):
        kept(prompt="none", readout="keep")


def test_a_scale_is_fitted_to_the_rows_and_stays_near_one_without_any() -> None:
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 200)
    scores = 0.2 * (np.eye(3)[y] + 0.3 * generator.standard_normal((200, 3)))
    every, none = np.ones(200, dtype=bool), np.zeros(200, dtype=bool)
    scale = fitted_scale(scores, y, every, np.ones(200))
    assert scale[0] > 3
    np.testing.assert_allclose(fitted_scale(scores, y, none, np.ones(200)), [1, 0, 0, 0], atol=1e-6)
    judged, scales = scaled_evidence(scores, y, np.arange(200) % 5, np.ones(200))
    plain, fitted = judged.likelihood(y).sum(1)
    assert fitted > plain
    np.testing.assert_allclose(judged.unseen[0], log_softmax(scores))
    np.testing.assert_allclose(scales[1], scale, rtol=1e-3)


@pytest.mark.parametrize("template", [TEMPLATE, STARTED])
def test_prompts_tuned_in_a_template_serve_as_sources(masked: Backbone, tmp_path: Path, template: str) -> None:
    """They are ranked, carried over with their words, and are candidates of a graft, each in its own template."""
    bank = as_bank(tmp_path / "bank", create=True)
    settings = {**SHORT, **FEW, "template": template}
    for seed in (0, 1):
        donor = toy_task(seed=seed + 1).replace(name=f"donor-{seed}")
        bank.add(pg.tune(donor, masked, shots=4, seeds=(seed,), **settings).artefact, f"donor-{seed}")
    plain = toy_task(seed=7).replace(name="plain")
    bank.add(pg.tune(plain, masked, shots=4, max_length=48, **FEW).artefact, "plain")
    ranking = pg.rank(toy_task(), masked, bank, shots=4, max_length=48)
    assert {row.source.name for row in ranking.rows} == {"donor-0", "donor-1", "plain"}
    assert all(row.scores["probe"] is not None for row in ranking.rows)
    carried = pg.transfer(
        toy_task(), masked, bank, source="donor-0", method="pot", shots=4, max_length=48, verbalizer=WORDS, **FEW
    ).artefact
    assert (carried.card.readout, carried.card.template) == ("verbalizer", bank.load("donor-0").card.template)
    grafted = pg.transfer(toy_task(), masked, bank, method="graft", shots=4, max_length=48, options={"members": 4})
    assert grafted.artefact.card.readout == "direction"
    texts = [example.text for example in toy_task().test]
    assert np.isfinite(Predictor(grafted.artefact, masked).predict_proba(texts)).all()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("zero-shot", {}),
        ("prompt-tuning", {}),
        ("prompt-tuning", {"readout": "prototype"}),
        ("prompt-tuning", {"readout": "soft-verbalizer"}),
    ],
)
def test_no_note_tells_of_a_pooling_that_nothing_reads(method: str, options: dict[str, str], tmp_path: Path) -> None:
    """Words are read at the answer's place, so that which state of a text is read else has not to be chosen."""
    folder = tmp_path / "masked"
    folder.mkdir()
    masked_model(folder)
    backbone, few = load_backbone(folder), {"steps": 2, "length": 2}
    plain = pg.tune(toy_task(), backbone, shots=4, **few)
    assert any(note.startswith("pooling: ") for note in plain.notes)
    outcome = pg.tune(
        toy_task(), backbone, shots=4, method=method, options=options, template="{text} was {mask}", **few
    )
    assert not any("pooling" in note for note in outcome.notes)


def test_rows_to_label_are_chosen_by_a_graft_whose_member_reads_words(
    encoder: Backbone, splade_tiny: Path, tmp_path: Path
) -> None:
    task, empty = toy_task(), as_bank(tmp_path / "bank", create=True)
    options = {"words-model": str(splade_tiny)}
    kept = pg.transfer(task, encoder, empty, shots=4, method="graft", options=options, **SHORT).artefact
    predictor = Predictor(kept, encoder)
    fresh = [Example(text="something that no row of the task says")]
    known = [replace(example, label=None) for example in task.train]
    chosen = suggest(predictor, [*known, *fresh], count=len(known))
    assert len(known) in chosen.places
    assert any("that it was tuned on" in note for note in chosen.notes)
    with pytest.raises(RunError, match="which transfer makes without template"):
        pg.extend(predictor, {"delivery": "late parcels"})


def test_a_model_for_words_without_a_template_is_refused(encoder: Backbone, splade_tiny: Path, tmp_path: Path) -> None:
    empty = as_bank(tmp_path / "bank", create=True)
    with pytest.raises(RunError, match="add template"):
        pg.transfer(
            toy_task(),
            encoder,
            empty,
            shots=4,
            method="graft",
            options={"words-model": str(splade_tiny)},
            max_length=48,
        )


@pytest.fixture(scope="module")
def worded_bank(masked: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of one prompt that was tuned in a template, and one that was not."""
    folder = tmp_path_factory.mktemp("banks") / "bank"
    pg.tune(toy_task(seed=9).replace(name="donor"), masked, bank=folder, name="worded", shots=4, **{**SHORT, **FEW})
    pg.tune(toy_task(seed=8).replace(name="other"), masked, bank=folder, name="plain", shots=4, max_length=48, **FEW)
    return folder


@pytest.mark.parametrize("kind", ["classification", "multilabel", "pair", "regression", "choice", "tagging"])
def test_a_prompt_that_was_tuned_in_a_template_joins_grafts_of_all_kinds(
    kind: Kind, masked: Backbone, worded_bank: Path
) -> None:
    task = toy_task(kind)
    short: dict[str, object] = {"baselines": False, "max_length": 48}
    outcome = pg.transfer(task, masked, worded_bank, method="graft", **short)
    assert len(outcome.predictor.predict(task.test)) == len(task.test)
    ranked = pg.rank(task, masked, worded_bank, max_length=48)
    assert {row.source.name for row in ranked.rows} == {"plain", "worded"}
    if kind in ("regression", "choice"):
        outcome = pg.transfer(task, masked, worded_bank, source="worded", method="frozen-source", **FEW, **short)
        assert len(outcome.predictor.predict(task.test)) == len(task.test)


def test_a_graft_of_prompts_that_were_tuned_in_templates_is_extended_and_recorded(
    masked: Backbone, worded_bank: Path
) -> None:
    task = toy_task()
    grafted = pg.transfer(task, masked, worded_bank, method="graft", baselines=False, max_length=48).predictor
    assert any(member.reading.template for member in grafted.tuned.members)
    assert any(member.reading.template is None for member in grafted.tuned.members)
    named = pg.extend(grafted, {"music": "a scene with music"})
    assert named.predictor.classes[-1] == "music"
    taught = pg.extend(grafted, {"music": "music"}, [("music and music", "music"), ("loud music", "music")])
    assert taught.predictor.predict(["music and loud music"]) == ["music"]
    pg.record(worded_bank, masked, [task], max_length=48)
    known = as_bank(worded_bank).record().prompts
    assert {entry.name for entry in as_bank(worded_bank).list() if entry.hash in known} == {"plain"}
