"""Texts are classified: a class a row, or several labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from promptgraft.bank.bank import Bank
from promptgraft.engine.risk import check_abstention
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.model.load import DType
from promptgraft.sklearn.estimator import PromptEstimator
from promptgraft.sklearn.inputs import sorted_classes, targets, texts
from promptgraft.task.frames import is_frame, rows_of
from promptgraft.task.labels import case_notes
from promptgraft.task.labelsets import LabelSets, label_sets
from promptgraft.task.sampling import WITHIN
from promptgraft.task.task import Example, Kind, Task
from promptgraft.task.values import as_class

MOST_COPIES = 50
"""The most times a row is repeated for a row of the lightest class; larger weights are cut."""


class PromptClassifier(ClassifierMixin, PromptEstimator):
    """Classifies texts or pairs of texts with a tuned prompt on a frozen backbone: one class or several labels a row.

    Args:
        labels: class -> its description, for the label-text readout; the default is the class's name.
        class_weight: class -> its weight, or `balanced`: weights inverse to the classes' frequencies, with the step
            chosen by the mean recall of the classes. A row is repeated by its weight, rounded to whole times.
        template: a text template for rows, by name or as text (`"Review: {text} Sentiment: {mask}"`). It is read by
            `model`, which then needs a head over words, or, beside a graft, by `words_model`.
        verbalizer: the words of each class (`"1=great|fine,0=bad"`), or `auto`: found from the rows; empty: those of
            the template, else the classes' names.
        words_model: the model that reads the template beside a graft; empty: `model` itself.
        (others): see `PromptEstimator`.

    Attributes:
        classes_: the classes, sorted; for a matrix of labels, its columns.
        n_features_in_: number of texts in a row, 1 or 2.
        artefact_: the tuned artefact: `promptgraft.prompt.artefact.save(artefact_, folder)` saves it, and
            `promptgraft.load(folder)` gives a predictor.
        source_: name of the source prompt; None from scratch.
        notes_: what was cut, sampled or chosen.
    """

    def __init__(
        self,
        model: Backbone | str | Path = "minilm",
        *,
        bank: Bank | str | Path | None = None,
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
        template: str = "",
        verbalizer: str = "",
        words_model: str = "",
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
        self.template = template
        self.verbalizer = verbalizer
        self.words_model = words_model

    def fit(self, X: object, y: object) -> Self:
        """Tune a prompt and a readout.

        Args:
            X: texts (list, array, Series), or two texts a row (two columns, or a list of pairs); or a table with
                more columns, where y names the column of labels and the texts are found by their columns' names.
            y: classes, of any type that sorts. For several labels a row: lists (or sets) of them, or scikit-learn's
                matrix of 0 and 1 with a column for each label; `predict` answers in the same form.
        Raises:
            ValueError: there are no rows, X has no texts, lengths differ, or there is only one class.
        """
        self._check_types()
        X, y = self._split(X, y)
        sets = label_sets(y)
        if sets is not None:
            return self._fit_sets(X, sets)
        self.label_form_ = "class"
        rows, y = texts(X), targets(self, X, y)
        self.classes_, index = sorted_classes(y)
        check_classification_targets(y)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}")
        names = [str(label) for label in self.classes_.tolist()]
        kind: Kind = "pair" if len(rows[0]) == 2 else "classification"
        metric = "macro_recall" if self.class_weight == "balanced" else "accuracy"
        task = Task("data", kind, metric, self._descriptions(names), {}, notes=(*case_notes(names),))
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
        notes = (*case_notes(sets.names),)
        task = Task("data", "multilabel", "micro_f1", self._descriptions(sets.names), {}, notes=notes)
        silent = self.labels is None and not any(letter.isalpha() for name in sets.names for letter in name)
        self._fit(rows, sets.rows, task, silent)
        return self

    def predict(self, X: object, *, risk: float | None = None, abstain_as: object = None) -> npt.NDArray[Any]:
        """The class of each row; with several labels a tuple for each row, or a matrix of 0 and 1, as given to `fit`.

        Args:
            risk: withhold answers so that at most this share of the answers given is wrong; None gives all.
                With several labels a row each label is given or withheld by itself; in a matrix a withheld one is 0.
            abstain_as: the value in place of a withheld answer, in an array of objects.
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
        """Probabilities, `[rows, classes]`, in the order of `classes_`; with several labels, one for each label."""
        predictor, rows = self._checked_rows(X)
        return np.asarray(predictor.predict_proba(rows))

    def score(self, X: object, y: object, sample_weight: Any = None) -> float:
        """Accuracy; with several labels the share of rows whose labels are all right, as in scikit-learn."""
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

    def _in_words(self) -> tuple[dict[str, Any], dict[str, str]]:
        recipe = {"template": self.template, "verbalizer": self.verbalizer}
        options = {"words-model": self.words_model} if self.words_model else {}
        return {name: words for name, words in recipe.items() if words}, options

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
        descriptions = {as_class(str(name), names): text for name, text in (self.labels or {}).items()}
        if unknown := descriptions.keys() - set(names):
            raise ValueError(f"labels describes {sorted(unknown)}, which y does not have; y has {list(names)}")
        return {name: descriptions.get(name, name) for name in names}
