"""An artefact with its backbone, ready to predict."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from promptgraft.engine.store import tuned_of
from promptgraft.errors import RunError
from promptgraft.model.backbone import Backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.artefact import Artefact, other_backbone
from promptgraft.task.metrics import score as metric_score
from promptgraft.task.task import Example, Label, Task
from promptgraft.train.predict import answer_one
from promptgraft.train.run import Tuned

Row = str | tuple[str, str] | Example


class Predictor:
    """Predicts with a tuned artefact.

    Raises:
        ArtefactError: the artefact was tuned on another backbone.
    """

    def __init__(self, artefact: Artefact, backbone: Backbone) -> None:
        if artefact.card.backbone.fingerprint != backbone.fingerprint:
            raise other_backbone(artefact.card, backbone.fingerprint, backbone.name, where="predict")
        self.artefact = artefact
        self.backbone = backbone

    @cached_property
    def task(self) -> Task:
        """The task the artefact was tuned on, without examples."""
        card = self.artefact.card.task
        return Task(
            card.name, card.kind, card.metric, card.labels, {}, card.positive, card.language, columns=card.columns
        )

    @cached_property
    def tuned(self) -> Tuned:
        return tuned_of(self.artefact)

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names in the order of `predict_proba`'s columns."""
        return self.task.classes

    def predict(self, rows: Sequence[Row]) -> list[Label | str]:
        """Labels, numbers, choices, tags or answers, one a row.

        Args:
            rows: texts, pairs of texts, or `Example`s (needed for choices, tagging and span).
        """
        examples, tokens = self._read(rows)
        if not examples:
            return []
        return list(self.tuned.readout.predict(self._scores(tokens), tokens, examples, self.task))

    def predict_proba(self, rows: Sequence[Row]) -> np.ndarray:
        """Probabilities of the classes, `[rows, classes]`.

        Raises:
            RunError: the task has no classes.
        """
        if self.task.kind not in ("classification", "pair"):
            raise RunError(f"a {self.task.kind} task has no class probabilities", where=self.task.name)
        _, tokens = self._read(rows)
        if not tokens.count:
            return np.zeros((0, len(self.classes)))
        return self._scores(tokens).softmax(-1).numpy()

    def evaluate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Metrics on labelled examples, in percent."""
        return metric_score(self.task, self.predict(examples), examples)

    def _read(self, rows: Sequence[Row]) -> tuple[tuple[Example, ...], Tokens]:
        examples = tuple(as_example(row) for row in rows)
        length = self.artefact.card.recipe.get("max_length")
        encoding = self.tuned.encoding
        limit = length if isinstance(length, int) else None
        return examples, self.backbone.tokenize(examples, self.task.kind, encoding, max_length=limit)

    def _scores(self, tokens: Tokens) -> Tensor:
        with torch.no_grad():
            return answer_one(self.backbone, self.tuned, tokens)


def as_example(row: Row) -> Example:
    """A text, a pair of texts, or an example as it is."""
    if isinstance(row, Example):
        return row
    return Example(text=row) if isinstance(row, str) else Example(text=row[0], pair=row[1])
