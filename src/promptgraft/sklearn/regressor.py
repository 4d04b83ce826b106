"""Numbers are predicted from texts."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.utils.validation import assert_all_finite

from promptgraft.sklearn.estimator import PromptEstimator
from promptgraft.sklearn.inputs import targets, texts
from promptgraft.task.task import Task


class PromptRegressor(RegressorMixin, PromptEstimator):
    """Predicts a number from a text or a pair of texts; see `PromptEstimator` and `PromptClassifier`."""

    def fit(self, X: object, y: object) -> Self:
        """Tune a prompt and a readout.

        Raises:
            ValueError: no rows, not texts, lengths that differ, or targets that are not finite numbers.
        """
        self._check_types()
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
