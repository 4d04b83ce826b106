"""Demonstrations that are chosen for each row: the labelled rows nearest to it, by the model's own frozen states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import promptgraft as pg
from causal_models import causal_folder
from promptgraft.api.opening import as_bank
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import ArtefactError, PromptgraftError
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.model.nearby import key_of, row_features
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.pool import LabelledPool
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Example
from promptgraft.template.template import Template
from seq2seq import write_small
from toys import tiny_model, toy_task

TEMPLATE = "{demos:2 near}\n{text} is {mask}"
SHORT: dict[str, object] = {"max_length": 60, "template": TEMPLATE}
WORDS = "negative=w1,positive=w2"
TEXTS = ["a good film", "", "[MASK] [SEP] bad", "好的电影", "the music was awful " * 40]


@pytest.fixture(scope="module")
def masked(splade_tiny: Path) -> Backbone:
    return load_backbone(splade_tiny)


@pytest.fixture(scope="module", params=["llama", "gpt2", "t5"])
def speaker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder: Path = tmp_path_factory.mktemp(request.param)
    write_small(request.param, folder) if request.param == "t5" else causal_folder(folder, request.param)
    return load_backbone(folder)


def pool(features: list[list[float]], groups: list[int]) -> LabelledPool:
    count = len(groups)
    lines, keys = (tuple(f"{what} {place}" for place in range(count)) for what in ("line", "key"))
    return LabelledPool(lines, keys, torch.tensor(groups), torch.tensor(features), "mean")


def test_the_nearest_of_every_class_come_first() -> None:
    """Similarities to (1, 0) are the first numbers: of class 0 1.0, .9 and .8, of class 1 .6 and .0."""
    rows = [[0.8, 0.6], [0.6, 0.8], [1.0, 0.0], [0.0, 1.0], [0.9, 0.4359]]
    chosen = pool(rows, [0, 1, 0, 1, 0])
    text = torch.tensor([[1.0, 0.0]])
    assert chosen.nearest(text, ["other"], 1) == [[2]]
    assert chosen.nearest(text, ["other"], 2) == [[2, 1]]
    assert chosen.nearest(text, ["other"], 3) == [[2, 4, 1]]
    assert chosen.nearest(text, ["key 2"], 4) == [[4, 0, 1, 3]]
    assert chosen.nearest(text, ["other"], 9) == [[2, 4, 0, 1, 3]]
    assert pool(rows, [0] * 5).nearest(text, ["other"], 3) == [[2, 4, 0]]


def test_a_pool_is_what_its_tensors_say() -> None:
    first = pool([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    again = LabelledPool.load(first.state(), "here")
    assert (again, hash(again)) == (first, hash(first))
    assert again != pool([[1.0, 0.0], [0.0, 1.0]], [0, 0])
    for damage in (
        {"texts": torch.tensor([1], dtype=torch.uint8)},
        {"groups": torch.zeros(3, dtype=torch.long)},
        {"groups": torch.zeros(2)},
        {"features": torch.ones(2)},
        {"more": torch.ones(2)},
    ):
        with pytest.raises(ArtefactError, match="pool") as caught:
            LabelledPool.load({**first.state(), **damage}, "here")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{demos:2}Review: {text} {mask}", "a\nbReview: {text} {mask}".replace("b", "b\n")),
        ("{demos:2}{text} {mask}", "a\nb\n{text} {mask}"),
        ("{demos:2}\n{text} {mask}", "a\nb\n{text} {mask}"),
        ('{demos:2:" | "} | {text} {mask}', "a | b | {text} {mask}"),
        ('{demos:2:"###"}{text} {mask}', "a###b###{text} {mask}"),
        ('{demos:2 near:"###"}### {text} {mask}', "a###b### {text} {mask}"),
    ],
)
def test_the_last_demonstration_stands_apart_from_the_row(template: str, shown: str) -> None:
    assert str(Template.parse(template).showing(["a", "b"])) == shown


def test_rows_are_shown_the_nearest_and_never_themselves(masked: Backbone) -> None:
    """A training row's own line is not among what it is shown; what is nearest by the states stands last."""
    task = toy_task(train=8)
    kept = pg.tune(task, masked, method="zero-shot", **SHORT).artefact
    chosen = kept.pool
    assert chosen is not None
    assert sorted(chosen.keys) == sorted(map(key_of, task.train))
    row = task.train[0]
    tokens = masked.tokenize([row, Example(row.text + " and more")], task.kind, kept.reading, max_length=60)
    ids = tokens.ids.tolist()
    bounds = tokens.starts.tolist()
    own = next(line for line, key in zip(chosen.lines, chosen.keys, strict=True) if key == key_of(row))
    [line] = [part.tolist() for part in [masked.tokenize_texts([own]).ids[1:-1]]]
    assert not contains(ids[: bounds[1]], line)
    assert contains(ids[bounds[1] :], line)
    features = row_features(masked, [row], task.kind, chosen.pooling, 60)
    [near] = chosen.nearest(features, [key_of(row)], 2)
    last = masked.tokenize_texts([chosen.lines[near[0]] + " " + row.text]).ids[1:-1].tolist()
    assert contains(ids[: bounds[1]], last)


def contains(ids: list[int], part: list[int]) -> bool:
    return any(ids[start : start + len(part)] == part for start in range(len(ids)))


def test_what_leaves_no_room_is_left_out_and_said(masked: Backbone) -> None:
    """Eight demonstrations of about seven tokens in a sequence of 32: at most 24 tokens of them are shown."""
    template = TEMPLATE.replace("2", "8")
    outcome = pg.tune(toy_task(), masked, method="zero-shot", shots=4, max_length=32, template=template)
    assert any("of more than 24 tokens the farthest are left out" in note for note in outcome.best.result.notes)
    tokens = masked.tokenize([Example("a good film")], "classification", outcome.artefact.reading, max_length=32)
    assert int(tokens.lengths.max()) <= 32
    assert tokens.cut == 0


@pytest.mark.parametrize("method", ["zero-shot", "prompt-tuning"])
def test_what_chooses_is_kept_and_answers_the_same(masked: Backbone, method: str, tmp_path: Path) -> None:
    few = {} if method == "zero-shot" else {"steps": 2, "batch": 4, "evaluations": 1, "length": 2}
    outcome = pg.tune(toy_task(), masked, method=method, shots=4, **SHORT, **few)
    kept = outcome.artefact
    assert kept.card.template == TEMPLATE
    assert any("tokens more a row" in note for note in outcome.best.result.notes)
    artefacts.save(kept, tmp_path / "kept")
    again = artefacts.load(tmp_path / "kept")
    assert (again.hash, again.pool) == (kept.hash, kept.pool)
    predictor = Predictor(again, masked)
    shares = predictor.predict_proba(TEXTS)
    np.testing.assert_array_equal(Predictor(kept, masked).predict_proba(TEXTS), shares)
    alone = np.concatenate([predictor.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(shares, alone, atol=2e-5)
    test = outcome.best.result.scores["test"]["score"]
    assert predictor.evaluate(toy_task().test)["score"] == pytest.approx(test)
    half = artefacts.halved(kept)
    artefacts.save(half, tmp_path / "half")
    assert artefacts.load(tmp_path / "half").hash == half.hash


def test_every_kind_of_model_chooses_by_itself(speaker: Backbone, tmp_path: Path) -> None:
    kept = pg.tune(
        toy_task(), speaker, method="zero-shot", shots=4, options={"readout": "completion"}, **SHORT
    ).artefact
    artefacts.save(kept, tmp_path / "kept")
    predictor = Predictor(artefacts.load(tmp_path / "kept"), speaker)
    alone = np.concatenate([predictor.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(predictor.predict_proba(TEXTS), alone, atol=2e-5)


def test_a_graft_has_words_whose_rows_are_chosen_by_the_model_that_reads_them(
    splade_tiny: Path, tmp_path: Path
) -> None:
    """The artefact's own backbone and the one that reads words differ in width: each needs features of its own."""
    encoder = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    task, empty = toy_task(), as_bank(tmp_path / "bank", create=True)
    options = {"words-model": str(splade_tiny)}
    kept = pg.transfer(task, encoder, empty, shots=4, method="graft", options=options, **SHORT).artefact
    [words] = kept.others
    assert words.reading.pool is not None
    assert words.reading.pool.features.shape[1] != encoder.hidden
    artefacts.save(kept, tmp_path / "kept")
    before = Predictor(kept, encoder).predict_proba(TEXTS)
    np.testing.assert_array_equal(before, Predictor(artefacts.load(tmp_path / "kept"), encoder).predict_proba(TEXTS))


def test_prompts_of_such_a_template_serve_as_sources(masked: Backbone, tmp_path: Path) -> None:
    bank = as_bank(tmp_path / "bank", create=True)
    few: dict[str, object] = {"steps": 2, "batch": 4, "evaluations": 1, "length": 2}
    bank.add(pg.tune(toy_task(seed=1).replace(name="donor"), masked, shots=4, **SHORT, **few).artefact, "donor")
    assert pg.rank(toy_task(), masked, bank, shots=4, max_length=60).rows[0].scores["probe"] is not None
    for method in ("pot", "graft"):
        kept = pg.transfer(
            toy_task(), masked, bank, method=method, shots=4, max_length=60, **(few if method == "pot" else {})
        ).artefact
        assert np.isfinite(Predictor(kept, masked).predict_proba(TEXTS)).all()


def test_demonstrations_need_labelled_rows_and_room(masked: Backbone) -> None:
    task = toy_task()
    for changes, shots, message in (
        ({}, 0, "no training rows for demonstrations"),
        ({"max_length": 8}, 4, "a demonstration of .* tokens leaves no room for a row in 8; pass max_length"),
        ({"template": "{demos:2 next}\n{text} {mask}"}, 4, "write {demos:4}, {demos:4 near} or"),
    ):
        with pytest.raises(PromptgraftError, match=message) as caught:
            pg.tune(task, masked, method="zero-shot", shots=shots, **{**SHORT, **changes})
        assert "\n" not in str(caught.value)


def test_a_pool_of_another_width_is_refused(masked: Backbone) -> None:
    kept = pg.tune(toy_task(), masked, method="zero-shot", shots=4, **SHORT).artefact
    with pytest.raises(ArtefactError, match="not as wide"):
        _ = Predictor(kept.replace(pool=pool([[1.0, 0.0]], [0])), masked).tuned
    with pytest.raises(ArtefactError, match=r"holds no labelled rows for {demos:2 near}"):
        _ = Predictor(kept.replace(pool=None), masked).tuned
    assert kept.reading != Reading("mark", template=TEMPLATE)
