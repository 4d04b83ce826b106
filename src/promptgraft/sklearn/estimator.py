"""Scikit-learn estimators that tune prompts: for pipelines, cross-validation and grid searches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_consistent_length, check_is_fitted, column_or_1d

from promptgraft.api import Outcome, open_model, transfer, tune
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.progress import Event
from promptgraft.engine.risk import check_abstention
from promptgraft.method.all import find
from promptgraft.model.backbone import Backbone
from promptgraft.model.catalog import entries
from promptgraft.model.device import DeviceName
from promptgraft.model.load import DType
from promptgraft.model.places import place_of
from promptgraft.task.frames import is_frame, rows_of
from promptgraft.task.infer import infer_columns
from promptgraft.task.labelsets import LabelSets, label_sets
from promptgraft.task.sampling import WITHIN, cut
from promptgraft.task.table import Columns
from promptgraft.task.task import Example, Kind, Label, Task

Texts = tuple[tuple[str, ...], ...]
"""Rows of one or two texts."""


MOST_COPIES = 50
"""The most times a row is repeated for a row of the lightest class; larger weights are cut."""


def backbone_of(model: Backbone | str | Path, device: DeviceName = "auto", arithmetic: DType = "auto") -> Backbone:
    """The backbone of an estimator: a loaded one as it is, a named one loaded once for all estimators of the process.

    Raises:
        UsageError: a loaded one is on another device, or in another arithmetic, than asked.
    """
    if isinstance(model, str | Path):
        return _loaded(model, device, arithmetic)
    return open_model(model, arithmetic, device)


@lru_cache(maxsize=4)
def _loaded(model: str | Path, device: DeviceName, arithmetic: DType) -> Backbone:
    return open_model(model, arithmetic, device)


class PromptEstimator(BaseEstimator):
    """What classifier and regressor share.

    Args:
        model: backbone by catalog name, folder or hub name, or one that is loaded (`promptgraft.load_backbone`);
            clones share it, and a pickled estimator keeps its name or folder.
        bank: folder of tuned prompts to start from; None starts from scratch.
        source: name of a prompt in the bank; `auto` takes all for `graft`, else the best by a cross-validated probe;
            None starts from scratch.
        method: `auto` is `graft` where there is a bank, `pot` where a source or a readout is named, and
            `prompt-tuning` where there is no bank.
        readout: of the method; `auto` is its default, but `linear` for class names that say nothing.
        steps, rate, length: of the recipe; None leaves the default for the size of the backbone and the data.
        validation: share of the training rows, class by class, by which a step is chosen; between 0 and 1. Methods that
            choose none (`graft`, `linear-probe`) train on every row.
        random_state: seed of the split, the start and the order of rows.
        device: `cpu`, `cuda`, or `auto`: the GPU where there is one.
        arithmetic: `fp32`, `bf16`, or `auto`: the faster of both here.
    """

    def __init__(
        self,
        model: Backbone | str | Path = "minilm",
        *,
        bank: str | Path | None = None,
        source: str | None = "auto",
        method: str = "auto",
        readout: str = "auto",
        steps: int | None = None,
        rate: float | None = None,
        length: int | None = None,
        validation: float = WITHIN,
        random_state: int | np.random.RandomState | None = None,
        device: DeviceName = "auto",
        arithmetic: DType = "auto",
    ) -> None:
        self.model = model
        self.bank = bank
        self.source = source
        self.method = method
        self.readout = readout
        self.steps = steps
        self.rate = rate
        self.length = length
        self.validation = validation
        self.random_state = random_state
        self.device = device
        self.arithmetic = arithmetic

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle, in which a loaded backbone is its catalog name, or its folder if it has none."""
        state = dict(super().__getstate__())
        if not isinstance(self.model, str | Path):
            folder = None if self.model.name in entries() else place_of(self.model.fingerprint)
            state |= {"model": str(folder or self.model.name), "arithmetic": self.model.arithmetic}
        return state

    def __sklearn_clone__(self) -> Self:
        """A clone that shares the loaded backbone, which nothing changes, and copies all else as scikit-learn does."""
        stand_in = object.__new__(type(self))  # copy() would ask for what is pickled
        stand_in.__dict__.update(self.__dict__ | {"model": "shared"})
        clone: Self = BaseEstimator.__sklearn_clone__(stand_in)
        clone.model = self.model
        return clone

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def _fit(self, rows: Texts, labels: Sequence[Label], task: Task, silent_names: bool = False) -> None:
        """Tune on rows whose number and labels have been checked."""
        state = self.random_state
        seed = int(state) if isinstance(state, int | np.integer) else int(check_random_state(state).randint(2**31 - 1))
        examples = [_example(row, label) for row, label in zip(rows, labels, strict=True)]
        method = self._method(task)
        share = self._validation_share()
        validated = "validation" in find(method).needs
        train, validation = cut(examples, share, seed, least=2) if validated else (examples, ())
        splits = {"train": self._weighted(train, task), "validation": validation}
        outcome = self._tuned(task.replace(splits=splits), method, seed, silent_names)
        self.n_features_in_ = len(rows[0])
        self.artefact_ = outcome.artefact
        self.source_ = outcome.best.result.source
        self.notes_ = outcome.notes

    def _validation_share(self) -> float:
        """The share of rows held out for validation.

        Raises:
            ValueError: it is no number between 0 and 1.
        """
        share: object = self.validation  # estimators check their parameters in fit, whatever was given
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 < float(share) < 1:
            raise ValueError(f"validation must be a number between 0 and 1, both excluded, not {share!r}")
        return float(share)

    def _weighted(self, train: Sequence[Example], task: Task) -> tuple[Example, ...]:
        """The training rows, each repeated as often as it counts."""
        return tuple(train)

    def _method(self, task: Task) -> str:
        """The method's name, that of `auto` found out."""
        if self.method != "auto":
            return self.method
        if self.bank is None or self.source is None:
            return "prompt-tuning"
        return "graft" if self._grafts(task) else "pot"

    def _tuned(self, task: Task, method: str, seed: int, silent_names: bool) -> Outcome:
        backbone = backbone_of(self.model, self.device, self.arithmetic)
        source = None if self.bank is None else self.source
        readout = self.readout
        if readout == "auto" and method == "prompt-tuning" and silent_names:
            readout = "linear"
        options = {} if readout == "auto" else {"readout": readout}
        recipe: dict[str, Any] = {
            "steps": self.steps,
            "rate": self.rate,
            "readout_rate": self.rate,
            "length": self.length,
        }
        if self.bank is None or source is None or not {"source", "bank"} & find(method).needs:
            return tune(
                task, backbone, method=method, options=options, seeds=(seed,), progress=_silent,
                validation_from="within", **recipe,
            )  # fmt: skip
        return transfer(
            task,
            backbone,
            self.bank,
            source=source,
            method=method,
            options=options,
            seeds=(seed,),
            baselines=False,
            progress=_silent,
            **recipe,
        )

    def _grafts(self, task: Task) -> bool:
        """Whether `auto` weighs the whole bank: where no source and no readout is named."""
        return self.source == "auto" and self.readout == "auto" and task.facts.probe

    def _split(self, X: object, y: object) -> tuple[object, object]:
        """Texts and labels: as given, or, where y names a column of a table X, by the columns of X.

        Raises:
            TaskError: the table has no such column, or no text is found in it; with the nearest name.
        """
        self.text_columns_: tuple[str, ...] = ()
        if not isinstance(y, str) or not is_frame(X):
            return X, y
        rows = [(row, number) for number, row in enumerate(rows_of(X, "X"))]
        if not rows:
            return X, []
        roles, _ = infer_columns(Columns(label=y), None, rows, "X")
        self.text_columns_ = tuple(name for name in (roles.text, roles.pair) if name is not None)
        return self._texts_of(X), [row[y] for row, _ in rows]

    def _texts_of(self, X: object) -> object:
        """The texts of a table that has the columns of fit; anything else as it is."""
        if not self.text_columns_ or not is_frame(X):
            return X
        records = rows_of(X, "X")
        if not all(name in row for row in records for name in self.text_columns_):
            return X
        return [tuple(row[name] for name in self.text_columns_) for row in records]

    def _checked_rows(self, X: object) -> tuple[Predictor, list[Example]]:
        """The predictor, and the rows to predict, which must have as many columns as those of fit."""
        check_is_fitted(self)
        rows = texts(self._texts_of(X))
        if len(rows[0]) != self.n_features_in_:
            what = f"X has {len(rows[0])} features, but {type(self).__name__} is expecting {self.n_features_in_}"
            raise ValueError(f"{what} features as input")
        backbone = backbone_of(self.model, self.device, self.arithmetic)
        return Predictor(self.artefact_, backbone), [_example(row, None) for row in rows]


class PromptClassifier(ClassifierMixin, PromptEstimator):
    """Classifies texts, or pairs of texts, with a tuned prompt on a frozen backbone: a class a row, or several labels.

    Args:
        labels: class -> what it means, in words, for the label-text readout; a class that is not there means its name.
        class_weight: class -> its weight, or `balanced`: the rarer, the heavier, and the step is chosen by the mean
            recall of the classes. A row is shown as many times as its weight says, rounded to whole times.
        (others): see `PromptEstimator`.

    Attributes:
        classes_: the classes, sorted; of a matrix of labels its columns.
        n_features_in_: texts a row, 1 or 2.
        artefact_: what was tuned: `promptgraft.prompt.artefact.save(artefact_, folder)` keeps it, and
            `promptgraft.load(folder)` gives a predictor.
        source_: name of the source prompt, None from scratch.
        notes_: what was cut, sampled or chosen.
    """

    def __init__(
        self,
        model: Backbone | str | Path = "minilm",
        *,
        bank: str | Path | None = None,
        source: str | None = "auto",
        method: str = "auto",
        readout: str = "auto",
        steps: int | None = None,
        rate: float | None = None,
        length: int | None = None,
        validation: float = WITHIN,
        random_state: int | np.random.RandomState | None = None,
        device: DeviceName = "auto",
        arithmetic: DType = "auto",
        labels: Mapping[Any, str] | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
    ) -> None:
        super().__init__(
            model,
            bank=bank,
            source=source,
            method=method,
            readout=readout,
            steps=steps,
            rate=rate,
            length=length,
            validation=validation,
            random_state=random_state,
            device=device,
            arithmetic=arithmetic,
        )
        self.labels = labels
        self.class_weight = class_weight

    def fit(self, X: object, y: object) -> Self:
        """Tune a prompt and a readout.

        Args:
            X: texts (list, array, Series), or two of them a row (two columns, or a list of pairs); or a table with
                more columns, where y names that of the labels and the texts are found by their columns' names.
            y: classes, of any type that sorts. Of several labels a row: lists (or sets) of them, or scikit-learn's
                matrix of 0 and 1 with a column a label; `predict` answers in the same form.
        Raises:
            ValueError: no rows, not texts, lengths that differ, or one class only.
        """
        X, y = self._split(X, y)
        sets = label_sets(y)
        if sets is not None:
            return self._fit_sets(X, sets)
        self.label_form_ = "class"
        rows, y = texts(X), targets(self, X, y)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}")
        names = [str(label) for label in self.classes_.tolist()]
        kind: Kind = "pair" if len(rows[0]) == 2 else "classification"
        metric = "macro_recall" if self.class_weight == "balanced" else "accuracy"
        task = Task("data", kind, metric, self._descriptions(names), {})
        silent = self.labels is None and not any(letter.isalpha() for name in names for letter in name)
        self._fit(rows, [names[n] for n in index], task, silent)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _fit_sets(self, X: object, sets: LabelSets) -> Self:
        """Tune for several labels a row."""
        rows = texts(X)
        check_consistent_length(rows, sets.table)
        if len(sets.classes) < 2 or not sets.table.any():
            raise ValueError("y has no two labels to tell apart")
        if self.class_weight is not None:
            raise ValueError("class_weight is for one class a row: several labels have thresholds instead")
        self.classes_, self.label_form_ = sets.classes, "matrix" if sets.is_matrix else "sets"
        task = Task("data", "multilabel", "micro_f1", self._descriptions(sets.names), {})
        silent = self.labels is None and not any(letter.isalpha() for name in sets.names for letter in name)
        self._fit(rows, sets.rows, task, silent)
        return self

    def predict(self, X: object, *, risk: float | None = None, abstain_as: object = None) -> npt.NDArray[Any]:
        """The class of each row; of several labels a tuple each, or the matrix of 0 and 1, as fit was given them.

        Args:
            risk: hold an answer back where more than this share of the answers given would be wrong; None answers all.
                Of several labels a row each label is given or held back by itself: a matrix has 0 where it is not.
            abstain_as: what stands in the place of an answer that is held back, in an array of objects.
        """
        predictor, rows = self._checked_rows(X)
        check_abstention(abstain_as, risk, self.classes_.tolist())
        answers = predictor.answers(rows, risk=risk)
        if self.label_form_ != "class":
            return self._several(answers.held_to(predictor.classes), abstain_as)
        index = {name: n for n, name in enumerate(predictor.classes)}
        classes = np.asarray(self.classes_[[index[str(name)] for name in answers.predictions]])
        if answers.given is None:
            return classes
        held = classes.astype(object)
        for number in np.flatnonzero(~answers.given):
            held[number] = abstain_as
        return held

    def predict_proba(self, X: object) -> npt.NDArray[np.floating[Any]]:
        """Probabilities, `[rows, classes]`, classes in the order of `classes_`; of several labels each by itself."""
        predictor, rows = self._checked_rows(X)
        return np.asarray(predictor.predict_proba(rows))

    def score(self, X: object, y: object, sample_weight: Any = None) -> float:
        """Accuracy; of several labels the share of rows whose labels are all right, as scikit-learn's classifiers."""
        X, y = self._split_again(X, y)
        if self.label_form_ == "class":
            return float(super().score(X, y, sample_weight))
        sets = label_sets(y)
        if sets is None:
            raise ValueError("y must be sets of labels, or a matrix of 0 and 1, as in fit")
        truth = self._table([{str(label) for label in row} for row in sets.rows])
        predicted = self.predict(X)
        if self.label_form_ == "sets":
            predicted = self._table([{str(label) for label in row} for row in predicted])
        return float(accuracy_score(truth, predicted, sample_weight=sample_weight))

    def _split_again(self, X: object, y: object) -> tuple[object, object]:
        """Texts and labels of a table whose label column y names, as in fit."""
        if not isinstance(y, str) or not is_frame(X):
            return X, y
        return X, [row[y] for row in rows_of(X, "X")]

    def _table(self, rows: Sequence[set[str]]) -> npt.NDArray[Any]:
        """The matrix of 0 and 1 of rows of names; names that fit did not see have no column."""
        names = [str(label) for label in self.classes_.tolist()]
        return np.array([[int(name in row) for name in names] for row in rows], dtype=np.int64).reshape(-1, len(names))

    def _several(self, answers: Sequence[object], abstain_as: object) -> npt.NDArray[Any]:
        """Answers to rows of several labels, in the form that fit was given; None is a row that is held back."""
        table = self._table([set(labels) if isinstance(labels, tuple) else set() for labels in answers])
        if self.label_form_ == "matrix":
            if abstain_as is not None:
                raise ValueError("a matrix of 0 and 1 has no place for abstain_as: leave it out, or fit with lists")
            return table
        rows = self._tuples(table)
        for number, labels in enumerate(answers):
            if labels is None:
                rows[number] = abstain_as
        return rows

    def _tuples(self, table: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The labels of each row of a matrix."""
        rows = np.empty(len(table), dtype=object)
        for number, row in enumerate(table):
            rows[number] = tuple(self.classes_[row > 0].tolist())
        return rows

    def _weighted(self, train: Sequence[Example], task: Task) -> tuple[Example, ...]:
        """The training rows, each repeated as many times as its class weighs relative to the lightest class.

        Raises:
            ValueError: weights of classes that are not there, or that are no positive numbers.
        """
        if self.class_weight is None:
            return tuple(train)
        weights = self._class_weights(Counter(str(example.label) for example in train))
        lightest = min(weights.values())
        copies = {name: min(round(weight / lightest), MOST_COPIES) for name, weight in weights.items()}
        return tuple(example for example in train for _ in range(copies[str(example.label)]))

    def _class_weights(self, rows: Mapping[str, int]) -> dict[str, float]:
        """The weight of a row of each class, by the class's name.

        Args:
            rows: of each class.
        """
        class_weight: object = self.class_weight
        if class_weight == "balanced":
            return {name: 1 / count for name, count in rows.items()}
        if not isinstance(class_weight, Mapping):
            raise ValueError(f"class_weight must be None, 'balanced' or a mapping, not {class_weight!r}")
        if unknown := class_weight.keys() - set(self.classes_.tolist()):
            raise ValueError(f"class_weight weighs {sorted(unknown)}, which y does not have")
        weights = {str(name): float(class_weight.get(name, 1.0)) for name in self.classes_.tolist()}
        if not all(0 < weight < math.inf for weight in weights.values()):
            raise ValueError(f"class_weight must hold positive numbers, not {class_weight!r}")
        return weights

    def _descriptions(self, names: Sequence[str]) -> dict[str, str]:
        """The description of each class by its name; the name where there is none.

        Raises:
            ValueError: a description of a class that y does not have.
        """
        descriptions = {str(name): text for name, text in (self.labels or {}).items()}
        if unknown := descriptions.keys() - set(names):
            raise ValueError(f"labels describes {sorted(unknown)}, which y does not have; y has {list(names)}")
        return {name: descriptions.get(name, name) for name in names}


class PromptRegressor(RegressorMixin, PromptEstimator):
    """Predicts a number from a text, or from a pair of texts; see `PromptEstimator` and `PromptClassifier`."""

    def fit(self, X: object, y: object) -> Self:
        """Tune a prompt and a readout.

        Raises:
            ValueError: no rows, not texts, lengths that differ, or targets that are not finite numbers.
        """
        X, y = self._split(X, y)
        rows, y = texts(X), targets(self, X, y)
        values = np.asarray(y, dtype=float)
        assert_all_finite(values, input_name="y")
        self._fit(rows, [float(value) for value in values], Task("data", "regression", "pearson_spearman", {}, {}))
        return self

    def predict(self, X: object) -> npt.NDArray[np.floating[Any]]:
        """A number a row."""
        predictor, rows = self._checked_rows(X)
        return np.array(predictor.predict(rows), dtype=float)


def _silent(_: Event) -> None:
    """A progress callback that shows nothing, since searches fit many estimators."""


def texts(X: object) -> Texts:
    """X as rows of one or two texts.

    Raises:
        ValueError: no rows, or rows that are not one or two texts.
    """
    if isinstance(X, str) or not hasattr(X, "__len__") or not hasattr(X, "__getitem__"):
        raise ValueError(f"X must be a sequence of texts, not {type(X).__name__}")
    table: Any = X.to_numpy() if hasattr(X, "to_numpy") else X
    rows = tuple((row,) if isinstance(row, str) else _cells(row) for row in table)
    if not rows:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    widths = {len(row) for row in rows}
    if len(widths) > 1 or not widths <= {1, 2}:
        raise ValueError(f"X must have one text or two a row, not {sorted(widths)} columns")
    return rows


def _cells(row: object) -> tuple[str, ...]:
    """The texts of a row that is not a single text."""
    cells = tuple(row) if isinstance(row, Sequence | np.ndarray) else (row,)
    for cell in cells:
        if not isinstance(cell, str):
            raise ValueError(f"X must hold texts, not {type(cell).__name__} ({cell!r})")
    return tuple(str(cell) for cell in cells)


def targets(estimator: BaseEstimator, X: object, y: object) -> npt.NDArray[Any]:
    """y as one column, checked to be as long as X and without gaps."""
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
    column = column_or_1d(y, warn=True)
    assert_all_finite(column, input_name="y")
    check_consistent_length(X, column)
    return np.asarray(column)


def _example(row: tuple[str, ...], label: Label | None) -> Example:
    return Example(text=row[0], pair=row[1] if len(row) == 2 else None, label=label)
