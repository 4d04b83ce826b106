"""A predictor is an artefact with its backbone, ready to predict."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.engine.given import examples_of
from promptgraft.engine.store import tuned_of
from promptgraft.engine.windows import windows as cut_into_windows
from promptgraft.errors import RunError, UsageError
from promptgraft.model import forked
from promptgraft.model.backbone import Backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.artefact import Artefact, other_backbone
from promptgraft.readout.by_class import ByLabel
from promptgraft.readout.features import features
from promptgraft.task.metrics import score as metric_score
from promptgraft.task.task import Example, Kind, Label, Task
from promptgraft.train.predict import answer_one, pooled, score
from promptgraft.train.run import Tuned

LOG = logging.getLogger("promptgraft")
WITH_CLASSES: tuple[Kind, ...] = ("classification", "multilabel", "pair")
OF_ONE_CLASS: tuple[Kind, ...] = ("classification", "pair")
"""Kinds whose rows have one class each, to which classes can be added and whose rows can be chosen by."""
IN_WINDOWS: tuple[Kind, ...] = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class Predictions:
    """The predictions for a list of rows.

    Attributes:
        predictions: one a row.
        probabilities: of the classes, `[rows, classes]`, which sum to 1 but where a row has several labels; None where
            the task has none.
        cut: how many inputs were longer than the model reads and were cut.
        windows: how many parts were read; 0 where texts were read as they are.
    """

    predictions: list[Label | str]
    probabilities: np.ndarray | None
    cut: int = 0
    windows: int = 0


@dataclass(frozen=True)
class Look:
    """What a member of a model makes of rows.

    Attributes:
        features: that its readout reads.
        scores: of the classes, before the members' are added.
    """

    features: Float[Tensor, "N F"]
    scores: Float[Tensor, "N C"]


class Predictor:
    """Predicts with a tuned artefact on its backbone.

    Raises:
        ArtefactError: the artefact was tuned on another backbone.
    """

    def __init__(self, artefact: Artefact, backbone: Backbone) -> None:
        if artefact.card.backbone.fingerprint != backbone.fingerprint:
            raise other_backbone(artefact.card, backbone.fingerprint, backbone.name, where="predict")
        self.artefact = artefact
        self.backbone = backbone
        self._cut_was_logged = False

    @cached_property
    def task(self) -> Task:
        """The task the artefact was tuned on, without examples."""
        card = self.artefact.card.task
        return Task(
            card.name,
            card.kind,
            card.metric,
            card.labels,
            {},
            card.positive,
            card.language,
            columns=card.columns,
            separator=card.separator,
        )

    @cached_property
    def tuned(self) -> Tuned:
        return tuned_of(self.artefact, self.backbone)

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names in the order of `predict_proba`'s columns."""
        return self.task.classes

    def predict(self, rows: object, *, windows: bool = False) -> list[Label | str]:
        """Labels (a tuple where a row has several), numbers, choices, tags or answers, one a row.

        Args:
            rows: a list (or another iterable) of texts; of pairs of texts; for tagging of lists of words; for choices
                of (text, choices); of `Example`s or dictionaries. Or a table with named columns (pandas, polars,
                pyarrow), which is read by the columns that the prompt was tuned from.
            windows: read long texts whole, in parts: probabilities, or numbers, are the means over the parts.
                Otherwise what is longer than the model reads is cut, which is logged once.
        Raises:
            UsageError: something else; with the number of the first row that is wrong.
        """
        return self._logged(self.answers(rows, windows=windows)).predictions

    def predict_proba(self, rows: object, *, windows: bool = False) -> np.ndarray:
        """Probabilities of the classes, `[rows, classes]`; the arguments are those of `predict`.

        Of several labels a row each has a probability of its own.


        Raises:
            RunError: the task has no classes.
        """
        if self.task.kind not in WITH_CLASSES:
            raise RunError(f"a {self.task.kind} task has no class probabilities", where=self.task.name)
        answers = self._logged(self.answers(rows, windows=windows))
        assert answers.probabilities is not None, "there are classes"
        return answers.probabilities

    def answers(self, rows: object, *, windows: bool = False) -> Predictions:
        """Predictions, their probabilities and how many inputs were cut, in one pass; the arguments of `predict`."""
        examples = examples_of(rows, self.task)
        if windows and (self.task.kind not in IN_WINDOWS or any(example.pair is not None for example in examples)):
            raise UsageError("windows are for single texts that get a class or a number", where=self.task.name)
        if windows and examples:
            return self._pooled(*cut_into_windows(examples, self._tokens), len(examples))
        return self._answers(examples)

    def looks(self, examples: Sequence[Example]) -> list[Look]:
        """How each member of the model sees the rows: features and scores; for readouts of pooled states."""
        tokens = self._tokens(examples)
        weights = self.tuned.weights
        model = self.backbone if weights is None else self.backbone.with_weights(weights)
        forked.check(self.backbone.device)
        looks = []
        for member in self.tuned.members:
            states = pooled(model, member.prompt, tokens, member.read)
            seen = features(states, tokens, member.encoding)
            with torch.no_grad():
                looks.append(Look(seen, score(member, states, tokens)))
        return looks

    def evaluate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Metrics on labelled examples, in percent."""
        return metric_score(self.task, self.predict(examples), examples)

    def _answers(self, examples: Sequence[Example]) -> Predictions:
        """Predict each example as it is; texts that are too long are cut."""
        classes = self.task.kind in WITH_CLASSES
        if not examples:
            return Predictions([], np.zeros((0, len(self.classes))) if classes else None)
        tokens = self._tokens(examples)
        scores = self._scores(tokens)
        predictions = list(self.tuned.readout.predict(scores, tokens, examples, self.task))
        return Predictions(predictions, self._shares(scores) if classes else None, tokens.cut)

    def _shares(self, scores: Tensor) -> np.ndarray:
        """Probabilities of the classes, from their scores."""
        shares: np.ndarray = scores.softmax(-1).numpy()
        return shares[..., 1] if self.task.kind == "multilabel" else shares

    def _pooled(self, parts: Sequence[Example], owners: Sequence[int], rows: int) -> Predictions:
        """Predict all parts of the rows and take the mean over the parts of each row."""
        answers = self._answers(parts)
        shares = answers.probabilities
        if shares is None:
            numbers = _means(np.array(answers.predictions, dtype=float)[:, None], owners, rows)
            return Predictions(numbers[:, 0].tolist(), None, windows=len(parts))
        shares = _means(shares, owners, rows)
        if self.task.kind == "multilabel":
            readout = self.tuned.readout
            assert isinstance(readout, ByLabel), "labels are read one by one"
            labels = readout.chosen(torch.from_numpy(np.log(shares) - np.log1p(-shares)))
            return Predictions(labels, shares, windows=len(parts))
        return Predictions([self.classes[best] for best in shares.argmax(1)], shares, windows=len(parts))

    def _logged(self, answers: Predictions) -> Predictions:
        """Log once that texts were cut, and return the answers."""
        if answers.cut and not self._cut_was_logged:
            LOG.warning("%s: %s", self.task.name, cut_note(answers.cut, self.task.kind))
            self._cut_was_logged = True
        return answers

    def _tokens(self, examples: Sequence[Example]) -> Tokens:
        length = self.artefact.card.recipe.get("max_length")
        limit = length if isinstance(length, int) else None
        return self.backbone.tokenize(examples, self.task.kind, self.tuned.encoding, max_length=limit)

    def _scores(self, tokens: Tokens) -> Tensor:
        forked.check(self.backbone.device)
        with torch.no_grad():
            return answer_one(self.backbone, self.tuned, tokens)


def _means(values: np.ndarray, owners: Sequence[int], rows: int) -> np.ndarray:
    """The mean of the values of each row's parts."""
    total = np.zeros((rows, values.shape[1]))
    np.add.at(total, list(owners), values)
    return total / np.bincount(list(owners), minlength=rows)[:, None]


def cut_note(count: int, kind: Kind, remedy: str = "windows=True") -> str:
    """A note that texts were cut, and how to read them whole.

    Args:
        remedy: what to ask for, as whoever reads the note would.
    """
    inputs = "1 input was" if count == 1 else f"{count} inputs were"
    return f"{inputs} longer than allowed and cut" + (
        f"; {remedy} reads long texts whole" if kind in IN_WINDOWS else ""
    )
