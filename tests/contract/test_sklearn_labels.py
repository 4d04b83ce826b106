"""The estimators with several labels a row, and with tables in memory."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_predict, cross_val_score

from promptgraft import PromptClassifier, PromptRegressor
from promptgraft.errors import TaskError
from promptgraft.task.labelsets import label_sets
from toys import tiny_model, toy_task

TASK = toy_task("multilabel", train=40)
X = [row.text for row in TASK.train]
SETS = [list(row.label) for row in TASK.train if isinstance(row.label, tuple)]
MATRIX = np.array([[name in labels for name in TASK.classes] for labels in SETS], dtype=int)
FRAME = pd.DataFrame({"id": range(40), "review": X, "label": ["ab"[n % 2] for n in range(40)], "mood": SETS})
Kwargs = dict[str, Any]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Kwargs:
    model = str(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))
    return {"model": model, "method": "linear-probe", "random_state": 0}


@pytest.fixture(scope="module")
def of_sets(quick: Kwargs) -> PromptClassifier:
    return PromptClassifier(**quick).fit(X, SETS)


@pytest.fixture(scope="module")
def of_matrix(quick: Kwargs) -> PromptClassifier:
    return PromptClassifier(**quick).fit(X, MATRIX)


def test_sets_give_sets(of_sets: PromptClassifier) -> None:
    assert of_sets.classes_.tolist() == ["negative", "positive"]
    found = of_sets.predict(X)
    assert all(isinstance(labels, tuple) and set(labels) <= {"negative", "positive"} for labels in found)
    shares = of_sets.predict_proba(X)
    assert shares.shape == (40, 2)
    assert not np.allclose(shares.sum(1), 1)
    right = np.mean([set(labels) == set(row) for labels, row in zip(found, SETS, strict=True)])
    assert of_sets.score(X, SETS) == pytest.approx(right)
    assert pickle.loads(pickle.dumps(of_sets)).predict(X[:3]).tolist() == found[:3].tolist()


def test_a_matrix_gives_a_matrix(of_matrix: PromptClassifier, of_sets: PromptClassifier) -> None:
    found = of_matrix.predict(X)
    assert (found.shape, found.dtype.kind, of_matrix.classes_.tolist()) == (MATRIX.shape, "i", [0, 1])
    names = np.array(TASK.classes)
    assert [tuple(names[row > 0]) for row in found] == of_sets.predict(X).tolist(), "the same model"
    assert of_matrix.score(X, MATRIX) == accuracy_score(MATRIX, found)


@pytest.mark.parametrize(
    "form",
    [
        lambda: [set(labels) for labels in SETS],
        lambda: [tuple(labels) for labels in SETS],
        lambda: [np.array(labels, dtype=object) for labels in SETS],
        lambda: FRAME["mood"],
        lambda: pl.Series(SETS, dtype=pl.List(pl.String)),
    ],
)
def test_sets_come_in_many_shapes(form: Callable[[], Any], quick: Kwargs, of_sets: PromptClassifier) -> None:
    fitted = PromptClassifier(**quick).fit(X, form())
    assert fitted.predict(X).tolist() == of_sets.predict(X).tolist()
    assert fitted.score(X, form()) == of_sets.score(X, SETS)


@pytest.mark.parametrize("form", [lambda: MATRIX.tolist(), lambda: MATRIX > 0, lambda: csr_matrix(MATRIX)])
def test_a_matrix_comes_in_many_shapes(form: Callable[[], Any], quick: Kwargs, of_matrix: PromptClassifier) -> None:
    assert (PromptClassifier(**quick).fit(X, form()).predict(X) == of_matrix.predict(X)).all()


def test_columns_of_a_frame_of_labels_are_its_classes(quick: Kwargs) -> None:
    fitted = PromptClassifier(**quick, labels={"negative": "a bad film"}).fit(
        X, pd.DataFrame(MATRIX, columns=list(TASK.classes))
    )
    assert fitted.classes_.tolist() == ["negative", "positive"]
    assert fitted.artefact_.card.task.labels == {"negative": "a bad film", "positive": "positive"}
    assert fitted.artefact_.card.task.kind == "multilabel"


def test_works_in_the_tools(quick: Kwargs) -> None:
    assert cross_val_score(PromptClassifier(**quick), X, MATRIX, cv=2).shape == (2,)
    assert cross_val_predict(PromptClassifier(**quick), X, MATRIX, cv=2).shape == MATRIX.shape


@pytest.mark.parametrize(
    ("y", "more", "message"),
    [
        ([["a"], "b"] * 20, {}, r"y\[1\] is 'b', and other rows are lists of labels"),
        ([["a", 1]] * 40, {}, "the labels in y do not sort"),
        (np.full((40, 2), 3), {}, "must hold 0 and 1"),
        ([["a"]] * 40, {}, "y has no two labels to tell apart"),
        ([[]] * 40, {}, "y has no two labels to tell apart"),
        (MATRIX[:5], {}, "inconsistent numbers of samples"),
        (MATRIX, {"class_weight": "balanced"}, "class_weight is for one class a row"),
        (SETS, {"labels": {"neutral": "x"}}, "which y does not have"),
    ],
)
def test_mistakes_are_value_errors(y: Any, more: Kwargs, message: str, quick: Kwargs) -> None:
    with pytest.raises(ValueError, match=message):
        PromptClassifier(**quick, **more).fit(X, y)


@pytest.mark.parametrize("y", [["good", "Good"] * 20, [["good"], ["bad", "Good"]] * 20])
def test_labels_that_differ_in_case_only_are_said(y: Any, quick: Kwargs) -> None:
    assert "labels that differ in case only: 'Good', 'good'" in PromptClassifier(**quick).fit(X, y).notes_


def test_one_class_a_row_is_no_set() -> None:
    for y in (["a", "b"], np.array([[1], [0]]), [1.5, 2.0], np.array(["x", "y"]), None, "text", FRAME["label"]):
        assert label_sets(y) is None


TABLES: list[Callable[[pd.DataFrame], Any]] = [
    lambda frame: frame,
    lambda frame: frame.set_index(np.arange(len(frame)) * 7 + 3),
    pl.DataFrame,
    lambda frame: frame.to_dict("records"),
]


@pytest.mark.parametrize("form", TABLES)
def test_a_column_of_a_table_is_named(form: Callable[[pd.DataFrame], Any], quick: Kwargs) -> None:
    frame = FRAME[["id", "review", "label"]]
    fitted = PromptClassifier(**quick).fit(form(frame), "label")
    expected = PromptClassifier(**quick).fit(X, frame["label"])
    assert (fitted.text_columns_, fitted.n_features_in_) == (("review",), 1)
    for rows in (X, form(frame), form(frame[["review"]]), frame["review"]):
        assert (fitted.predict(rows) == expected.predict(X)).all()
    assert fitted.score(form(frame), "label") == expected.score(X, frame["label"])


def test_a_column_of_several_labels_is_named(quick: Kwargs, of_sets: PromptClassifier) -> None:
    fitted = PromptClassifier(**quick).fit(FRAME[["review", "mood"]], "mood")
    assert fitted.predict(FRAME).tolist() == of_sets.predict(X).tolist()
    assert fitted.score(FRAME, "mood") == of_sets.score(X, SETS)


def test_columns_of_frames_are_texts_and_labels(quick: Kwargs) -> None:
    for frame in (FRAME, pl.DataFrame(FRAME[["review", "label"]])):
        fitted = PromptClassifier(**quick).fit(frame["review"], frame["label"])
        assert fitted.classes_.tolist() == ["a", "b"]
    ordered = FRAME["label"].astype("category")
    assert (PromptClassifier(**quick).fit(X, ordered).predict(X) == fitted.predict(X)).all()


def test_rows_of_datasets_are_texts_and_labels(quick: Kwargs) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    data = datasets.Dataset.from_pandas(FRAME[["review", "label"]])
    fitted = PromptClassifier(**quick).fit(data["review"], data["label"])
    named = PromptClassifier(**quick).fit(data, "label")
    assert (fitted.predict(data["review"]) == named.predict(data)).all()


def test_a_column_that_is_not_there_is_named_with_the_nearest(quick: Kwargs) -> None:
    with pytest.raises(TaskError, match=r"X: no column 'lable'; did you mean 'label'\?"):
        PromptClassifier(**quick).fit(FRAME, "lable")
    fitted = PromptClassifier(**quick).fit(FRAME[["review", "label"]], "label")
    renamed = FRAME.rename(columns={"review": "reviews"})
    line = r"X: no column 'review', which fit read; did you mean 'reviews'\? Call the right one 'review'$"
    for ask in (fitted.predict, fitted.predict_proba):
        with pytest.raises(TaskError, match=line):
            ask(renamed)
    assert (fitted.predict(renamed[["reviews"]]) == fitted.predict(X)).all()


def test_numbers_of_a_column(quick: Kwargs) -> None:
    frame = FRAME.assign(stars=[n / 3 for n in range(40)])[["review", "stars"]]
    fitted = PromptRegressor(**quick).fit(frame, "stars")
    assert np.allclose(fitted.predict(frame), PromptRegressor(**quick).fit(X, frame["stars"]).predict(X))


def test_it_is_kept_and_loaded(of_sets: PromptClassifier, tmp_path: Path) -> None:
    from promptgraft.engine.predictor import Predictor
    from promptgraft.prompt.artefact import load, save
    from promptgraft.sklearn import backbone_of

    save(of_sets.artefact_, tmp_path / "kept")
    predictor = Predictor(load(tmp_path / "kept"), backbone_of(of_sets.model))
    assert predictor.predict(X) == of_sets.predict(X).tolist()
