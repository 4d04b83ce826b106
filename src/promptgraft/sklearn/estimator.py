"""What the estimators share: their parameters, the model of each, and how they tune."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from promptgraft.api import Outcome, open_model, transfer, tune
from promptgraft.api.checking import check_given
from promptgraft.arguments import check_arguments
from promptgraft.bank.bank import Bank
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.progress import Event
from promptgraft.method.all import find
from promptgraft.model.backbone import Backbone
from promptgraft.model.catalog import entries
from promptgraft.model.device import DeviceName
from promptgraft.model.load import DType
from promptgraft.model.places import place_of
from promptgraft.sklearn.inputs import Texts, example_of, texts
from promptgraft.task.frames import is_frame, rows_of
from promptgraft.task.infer import infer_columns, no_column
from promptgraft.task.sampling import WITHIN, cut
from promptgraft.task.table import Columns
from promptgraft.task.task import Example, Label, Task

JUDGED = ("validation", "class_weight")
"""Parameters of which fit says with a ValueError what they must be."""


def backbone_of(model: Backbone | str | Path, device: DeviceName = "auto", arithmetic: DType = "auto") -> Backbone:
    """The backbone of an estimator: a loaded one as it is, a named one loaded once for all estimators of the process.

    Raises:
        UsageError: a loaded one is on another device, or in another arithmetic, than asked for.
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
        model: backbone by catalog name, folder or hub name, or a loaded one (`promptgraft.load_backbone`), which clones
            share; a pickled estimator keeps its name or folder.
        bank: tuned prompts to start from: a bank's folder or name; None starts from scratch.
        source: name of a prompt in the bank; `auto` takes all for `graft`, else the best by a cross-validated probe;
            None starts from scratch.
        method: `auto` is `prompt-tuning` without a bank, else `graft`, or `pot` if a source or a readout is named.
        readout: the method's readout; `auto` is its default, but `linear` if class names contain no letters.
        steps, rate, length: values of the recipe; None takes the default for the size of backbone and data.
        validation: share of the training rows, class by class, on which a step is chosen; between 0 and 1. Methods that
            choose no step (`graft`, `linear-probe`) train on every row.
        random_state: seed of the split, the start and the order of rows.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.
        arithmetic: `fp32`, `bf16`, or `auto`: the faster of both on this machine.
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
        examples = [example_of(row, label) for row, label in zip(rows, labels, strict=True)]
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

    def _check_types(self) -> None:
        """Check the types of the parameters whose values are not judged in fit.

        Raises:
            UsageError: one is of another type than it should be.
        """
        given = {name: value for name, value in self.get_params(deep=False).items() if name not in JUDGED}
        check_arguments(type(self).__init__, given)

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
        source = None if self.bank is None else self.source
        readout = self.readout
        worded, options = self._in_words()
        if readout == "auto" and method == "prompt-tuning" and silent_names and not worded:
            readout = "linear"
        options |= {} if readout == "auto" else {"readout": readout}
        recipe: dict[str, Any] = worded | {
            "steps": self.steps,
            "rate": self.rate,
            "readout_rate": self.rate,
            "length": self.length,
        }
        check_given(
            self.model, recipe=recipe | {"arithmetic": self.arithmetic}, methods=[(method, options)],
            bank=None if source is None else self.bank, seeds=(seed,), device=self.device,
        )  # fmt: skip
        backbone = backbone_of(self.model, self.device, self.arithmetic)
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

    def _in_words(self) -> tuple[dict[str, Any], dict[str, str]]:
        """What a recipe and a method's options say of a template; nothing where there is none."""
        return {}, {}

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
        if y not in rows[0][0]:
            raise no_column(y, rows[0][0], "X")
        roles, _ = infer_columns(Columns(label=y), None, rows, "X")
        self.text_columns_ = tuple(name for name in (roles.text, roles.pair) if name is not None)
        return self._texts_of(X), [row[y] for row, _ in rows]

    def _texts_of(self, X: object) -> object:
        """The texts of a table that has the columns of fit; anything else, and as many columns as fit had, as it is.

        Raises:
            TaskError: the table has more or fewer columns, and those of fit are not among them.
        """
        if not self.text_columns_ or not is_frame(X):
            return X
        records = rows_of(X, "X")
        names = list(records[0]) if records else []
        missing = [name for name in self.text_columns_ if name not in names]
        if not records or (missing and len(names) == len(self.text_columns_)):
            return X
        if missing:
            raise no_column(missing[0], names, "X", why=", which fit read", do=f"Call the right one {missing[0]!r}")
        return [tuple(row[name] for name in self.text_columns_) for row in records]

    def _checked_rows(self, X: object) -> tuple[Predictor, list[Example]]:
        """The predictor, and the rows to predict, which must have as many columns as those of fit."""
        check_is_fitted(self)
        rows = texts(self._texts_of(X))
        if len(rows[0]) != self.n_features_in_:
            what = f"X has {len(rows[0])} features, but {type(self).__name__} is expecting {self.n_features_in_}"
            raise ValueError(f"{what} features as input")
        backbone = backbone_of(self.model, self.device, self.arithmetic)
        return Predictor(self.artefact_, backbone), [example_of(row, None) for row in rows]


def _silent(_: Event) -> None:
    """A progress callback that shows nothing, since searches fit many estimators."""
