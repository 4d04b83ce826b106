"""A predictor from Python: right answers or one clear error, whatever it is given; what is cut is said."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch

import promptgraft as pg
from promptgraft import api
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import PromptgraftError, RunError, TaskError, UsageError
from promptgraft.model.load import load_backbone
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Example, Kind
from toys import LABELS, masked_model, tiny_model, toy_task

METHOD = {"tagging": "prompt-tuning", "choice": "prompt-tuning", "span": "prompt-tuning"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"), "bert")


@pytest.fixture(scope="module")
def predictors(model: Path) -> dict[str, Predictor]:
    """One of every kind, tuned from columns where the kind has texts."""
    found = {}
    columns = {"classification": {"text": "said", "label": "mood"}, "pair": {"text": "left", "pair": "right"}}
    for kind in (kind for kind, facts in KINDS.items() if not facts.written):
        task = toy_task(kind).replace(columns=columns.get(kind, {}))
        method = METHOD.get(kind, "linear-probe")
        found[kind] = api.tune(task, model, method=method, steps=1, length=2, arithmetic="fp32").predictor
    return found


TEXTS = ["the film was good", "a bad plot", "fine music"]
PAIRS = [("the film was good", "a bad plot"), ("the film", "the film")]
WORDS = [["the", "film"], ["good"]]
CHOICES = [("the film was", ["good", "bad"]), ("a", ["fine", "poor", "bad"])]
SPANS = [("was a film", "the film was good")]
ROWS: dict[str, list[Any]] = {
    "classification": TEXTS, "multilabel": TEXTS, "regression": TEXTS, "pair": PAIRS, "tagging": WORDS,
    "choice": CHOICES, "span": SPANS,
}  # fmt: skip


def examples(kind: str) -> list[Example]:
    match kind:
        case "tagging":
            return [Example(tokens=tuple(words)) for words in WORDS]
        case "choice":
            return [Example(text=text, choices=tuple(choices)) for text, choices in CHOICES]
        case "pair" | "span":
            return [Example(text=first, pair=second) for first, second in ROWS[kind]]
    return [Example(text=text) for text in TEXTS]


@pytest.mark.parametrize("kind", ROWS)
def test_plain_values_are_examples(kind: str, predictors: dict[str, Predictor]) -> None:
    predictor = predictors[kind]
    expected = predictor.predict(examples(kind))
    assert len(expected) == len(ROWS[kind])
    for rows in (
        ROWS[kind],
        tuple(ROWS[kind]),
        iter(ROWS[kind]),
        [list(row) if isinstance(row, tuple) else row for row in ROWS[kind]],
    ):
        assert predictor.predict(rows) == expected
    assert predictor.predict([]) == []


def test_a_table_is_read_by_the_columns_that_were_tuned_from(predictors: dict[str, Predictor]) -> None:
    predictor = predictors["classification"]
    expected = predictor.predict(TEXTS)
    frame = pd.DataFrame({"id": [1, 2, 3], "note": ["x"] * 3, "said": TEXTS, "mood": [None, "nonsense", 3]})
    tables = (frame, pyarrow.Table.from_pandas(frame[["id", "said"]]), frame[["id", "said"]].to_dict("records"))
    for table in tables:
        assert predictor.predict(table) == expected
    assert predictor.predict(frame["said"]) == expected
    assert predictor.predict(frame[["note"]].assign(note=TEXTS)) == expected, "a single column is the text"
    assert predictor.predict(np.array(TEXTS)) == expected
    assert predictor.predict(np.array(TEXTS, dtype=object)[:, None]) == expected
    assert np.allclose(predictor.predict_proba(frame), predictor.predict_proba(TEXTS))
    pairs = pd.DataFrame(PAIRS, columns=["right", "left"])
    swapped = [(second, first) for first, second in PAIRS]
    assert np.allclose(predictors["pair"].predict_proba(pairs), predictors["pair"].predict_proba(swapped))
    assert np.allclose(predictors["pair"].predict_proba(np.array(PAIRS)), predictors["pair"].predict_proba(PAIRS))


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ("classification", "fine lamp", "rows must be a list, not str; put it in one: [...]"),
        ("classification", None, "rows must be a list, not NoneType; with a text a row"),
        ("classification", {"said": "fine"}, "rows must be a list, not dict; put it in one"),
        ("classification", Example(text="fine"), "rows must be a list, not Example"),
        ("classification", 3.5, "rows must be a list, not float"),
        ("classification", b"fine", "rows must be a list, not bytes"),
        ("classification", ["fine", 3.5], "row 1: this is float, not a text"),
        ("classification", ["fine", None], "row 1: this is NoneType, not a text"),
        ("classification", ["fine", float("nan")], "row 1: this is float, not a text"),
        ("classification", [["a", "b"]], "row 0: this is 2 values (str, str), not a text"),
        ("classification", [["a", "b", "c"]], "row 0: this is 3 values (str, str, str), not a text"),
        ("classification", [[]], "row 0: this is empty, not a text"),
        ("classification", [Example(tokens=("a",))], "row 0: this is Example, not a text"),
        ("classification", pd.DataFrame({"a": ["x"], "said": [None]}), "row 0: column 'said' is empty; give a text"),
        ("classification", ["fine", {"said": "fine"}], "row 1: this is dict, not a text"),
        ("pair", ["fine"], "row 0: this is str, not a pair of texts"),
        ("pair", [("a", "b", "c")], "row 0: this is 3 values (str, str, str), not a pair of texts"),
        ("pair", [("a", None)], "row 0: this is 2 values (str, NoneType), not a pair of texts"),
        ("pair", [Example(text="a")], "row 0: this is Example, not a pair of texts"),
        ("regression", [3.5], "row 0: this is float, not a text, or a pair of texts"),
        ("tagging", ["the film"], "row 0: this is str, not a list of words; split the text"),
        ("tagging", [["the", 3]], "row 0: this is 2 values (str, int), not a list of words"),
        ("tagging", [Example(text="the film")], "row 0: this is Example, not a list of words; split the text"),
        ("choice", [("the film", ["good"])], "row 0: this is 2 values (str, list), not a text and its choices"),
        ("choice", ["the film"], "row 0: this is str, not a text and its choices"),
        ("span", ["the film"], "row 0: this is str, not a question and its context"),
    ],
)  # fmt: skip
def test_anything_else_is_one_clear_error(
    kind: Kind, rows: object, message: str, predictors: dict[str, Predictor]
) -> None:
    ask = [predictors[kind].predict] + (
        [predictors[kind].predict_proba] if kind in LABELS and kind != "tagging" else []
    )
    for predict in ask:
        with pytest.raises(UsageError) as caught:
            predict(rows)
        assert str(caught.value).startswith(message)


def test_a_table_without_the_column_is_refused(predictors: dict[str, Predictor]) -> None:
    line = r"no column 'said', from which toy-classification is read; did you mean 'sald'\? Call the right one 'said'$"
    with pytest.raises(TaskError, match=f"the rows: {line}"):
        predictors["classification"].predict(pd.DataFrame({"sald": ["a"], "note": ["b"]}))
    with pytest.raises(TaskError, match="no column 'right'"):
        predictors["pair"].predict([{"left": "a"}])


def test_probabilities_are_of_the_classes(predictors: dict[str, Predictor]) -> None:
    shares = predictors["classification"].predict_proba(TEXTS)
    assert shares.shape == (3, 2)
    assert np.allclose(shares.sum(1), 1)
    assert predictors["classification"].predict_proba([]).shape == (0, 2)
    each = predictors["multilabel"].predict_proba(TEXTS)
    assert each.shape == (3, 2)
    assert ((each > 0) & (each < 1)).all()
    assert not np.allclose(each.sum(1), 1), "each label has a probability of its own"
    with pytest.raises(RunError, match="has no class probabilities"):
        predictors["regression"].predict_proba(TEXTS)


LONG = " ".join(["the film was a plot"] * 40 + ["good"] * 20)


def test_what_is_cut_is_logged_once(predictors: dict[str, Predictor], caplog: pytest.LogCaptureFixture) -> None:
    like = predictors["classification"]
    predictor = Predictor(like.artefact, like.backbone)
    with caplog.at_level(logging.INFO, "promptgraft"):
        predictor.predict(TEXTS)
        assert caplog.messages == []
        predictor.predict([*TEXTS, LONG])
        predictor.predict_proba([LONG])
    assert caplog.messages == [
        "toy-classification: 1 input was longer than allowed and cut; windows=True reads long texts whole"
    ]


@pytest.mark.parametrize("windows", [False, True])
def test_rows_with_nothing_to_read_are_counted_and_said_once(
    windows: bool, predictors: dict[str, Predictor], caplog: pytest.LogCaptureFixture
) -> None:
    like = predictors["classification"]
    predictor = Predictor(like.artefact, like.backbone)
    assert predictor.answers([*TEXTS, "", " \t"], windows=windows).blank == (len(TEXTS), len(TEXTS) + 1)
    with caplog.at_level(logging.INFO, "promptgraft"):
        predictor.predict(TEXTS, windows=windows)
        assert caplog.messages == []
        predictor.predict(["", "a good film"], windows=windows)
        predictor.predict_proba([""], windows=windows)
    assert caplog.messages == ["toy-classification: 1 of 2 rows hold no text (first: row 0): their answers say nothing"]


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    "text",
    ["w" * 5000, "кино хорошее", "a кино, хорошее!", "☃"],
    ids=["one long word", "another language", "most", "sign"],
)
def test_rows_of_unknown_words_are_counted_and_said_once(
    text: str, windows: bool, predictors: dict[str, Predictor], caplog: pytest.LogCaptureFixture
) -> None:
    like = predictors["classification"]
    predictor = Predictor(like.artefact, like.backbone)
    answers = predictor.answers(["a good w ☃", text, ""], windows=windows)
    assert answers.unread == {like.backbone.name: (1,)}
    predictor.predict([text, "a good film"], windows=windows)
    predictor.predict_proba([text], windows=windows)
    known = f"hold few or no words that {like.backbone.name} knows (first: row 0): what it says of them means little"
    assert caplog.messages == [f"toy-classification: 1 of 2 rows {known}"]


def test_rows_of_unknown_words_are_said_where_it_is_tuned(tmp_path: Path) -> None:
    backbone, task = load_backbone(masked_model(tmp_path)), toy_task()
    rows = (Example(text="кино", label="positive"), *task.train)
    task = task.replace(splits={**task.splits, "train": rows})
    for template in ("", "{text} was {mask} ."):
        outcome = pg.tune(task, backbone, method="zero-shot" if template else "linear-probe", template=template)
        [note] = [note for note in outcome.notes if "words that" in note]
        assert note == f"toy-classification: 1 row holds few or no words that {backbone.name} knows"


def test_every_model_of_a_graft_says_which_rows_it_does_not_know(
    splade_tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The artefact's own model knows the words of the toys alone, the one that reads words those of English."""
    own = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    task, empty = toy_task(), api.as_bank(tmp_path / "bank", create=True)
    rows = (Example(text="кино", label="positive"), Example(text="电影剧情", label="negative"), *task.train)
    task = task.replace(splits={**task.splits, "train": rows})
    options = {"words-model": str(splade_tiny)}
    words: dict[str, object] = {"template": "{text} was {mask} .", "verbalizer": "negative=bad,positive=good"}
    outcome = pg.transfer(task, own, empty, method="graft", options=options, baselines=False, **words)
    notes = [note for note in outcome.notes if "words that" in note]
    assert notes == [
        f"toy-classification: 2 rows hold few or no words that {own.name} knows",
        "toy-classification: 1 row holds few or no words that splade-tiny knows",
    ]
    texts = ["a good film", "电影剧情", "кино"]
    assert outcome.predictor.answers(texts).unread == {own.name: (1, 2), "splade-tiny": (1,)}
    caplog.clear()
    outcome.predictor.predict(texts)
    outcome.predictor.predict(texts)
    assert [message for message in caplog.messages if "words that" in message] == [
        f"toy-classification: {len(numbers)} of 3 rows hold few or no words that {name} knows (first: row 1): "
        "what it says of them means little"
        for name, numbers in ((own.name, (1, 2)), ("splade-tiny", (1,)))
    ]


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_windows_read_long_texts_to_their_end(kind: str, predictors: dict[str, Predictor]) -> None:
    predictor = predictors[kind]
    other = LONG.replace("good", "bad")

    def values(rows: list[str], windows: bool) -> np.ndarray:
        if kind != "regression":
            return predictor.predict_proba(rows, windows=windows)
        return np.array(predictor.predict(rows, windows=windows), dtype=float)[:, None]

    assert np.allclose(*values([LONG, other], False)), "the end is cut off"
    assert not np.allclose(*values([LONG, other], True))
    short = values(TEXTS, False)
    assert np.allclose(values([TEXTS[0], LONG, *TEXTS[1:]], True)[[0, 2, 3]], short), "short texts are as they were"
    answers = predictor.answers([LONG], windows=True)
    assert answers.windows > 1
    assert answers.cut == 0


def test_a_window_is_a_mean_over_parts_that_are_the_text(predictors: dict[str, Predictor]) -> None:
    from promptgraft.engine.windows import windows

    predictor = predictors["classification"]
    parts, owners = windows([Example(text=LONG), Example(text="a plot")], predictor._tokens)
    assert "".join(part.text for part, owner in zip(parts, owners, strict=True) if owner == 0) == LONG
    assert owners[-1] == 1
    assert predictor._tokens(parts).cut == 0
    mean = predictor.predict_proba([part.text for part in parts[:-1]]).mean(0)
    assert np.allclose(predictor.predict_proba([LONG], windows=True)[0], mean)
    nospace = Example(text="好" * 500)
    parts, _ = windows([nospace], predictor._tokens)
    assert "".join(part.text for part in parts) == nospace.text


def test_windows_of_texts_of_which_a_label_is_certain(predictors: dict[str, Predictor]) -> None:
    """Odds of which a probability in fp32 is 0 or 1; warnings are errors here."""
    artefact = predictors["multilabel"].artefact
    certain = {"weight": torch.zeros_like(artefact.readout["weight"]), "bias": torch.tensor([-200.0, 200.0])}
    predictor = Predictor(artefact.replace(readout=artefact.readout | certain), predictors["multilabel"].backbone)
    assert predictor.predict([LONG], windows=True) == [(predictor.classes[1],)]


def test_windows_are_for_single_texts(predictors: dict[str, Predictor]) -> None:
    for kind in ("pair", "tagging", "choice", "span"):
        with pytest.raises(UsageError, match="windows are for single texts"):
            predictors[kind].predict(ROWS[kind], windows=True)
    with pytest.raises(UsageError, match="windows are for single texts"):
        predictors["regression"].predict(PAIRS, windows=True)


def test_labels_of_examples_change_nothing(predictors: dict[str, Predictor]) -> None:
    rows = [replace(row, label="positive") for row in examples("classification")]
    assert predictors["classification"].predict(rows) == predictors["classification"].predict(TEXTS)
    assert isinstance(predictors["classification"].evaluate(rows)["score"], float)


def test_every_error_is_ours(predictors: dict[str, Predictor]) -> None:
    odd = [
        object(),
        1,
        [object()],
        [1, 2],
        {1, 2},
        [{}],
        [{"said": 3}, 4],
        np.array(3.0),
        np.zeros((2, 2)),
        [["a", None]],
    ]
    for kind, predictor in predictors.items():
        for rows in odd:
            with pytest.raises(PromptgraftError):
                raise AssertionError(f"{kind} takes {rows!r}: {predictor.predict(rows)}")
