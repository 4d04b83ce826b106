"""A predictor is an artefact with its backbone, ready to predict."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.arguments import checked
from promptgraft.engine.familiar import Familiar
from promptgraft.engine.given import examples_of
from promptgraft.engine.risk import Threshold, check_abstention, check_risk, threshold
from promptgraft.engine.store import tuned_of
from promptgraft.engine.unread import first_place, texts_as_places, unread_note
from promptgraft.engine.windows import windows as cut_into_windows
from promptgraft.engine.writer import MOST, decoding_of, longest_read, write
from promptgraft.errors import TO_READ, RunError, UsageError, within_memory
from promptgraft.model import forked
from promptgraft.model.backbone import Backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.artefact import Artefact, other_backbone
from promptgraft.prompt.reading import ANSWERED, Reading
from promptgraft.readout.by_class import ByLabel
from promptgraft.readout.classes import labels_given
from promptgraft.readout.features import features, width_of
from promptgraft.sheet import LONG, short
from promptgraft.task.kinds import KINDS
from promptgraft.task.labels import in_classes
from promptgraft.task.metrics import score as metric_score
from promptgraft.task.task import Example, Kind, Label, Task
from promptgraft.train.predict import Question, add_scores, answer, pooled, score
from promptgraft.train.run import Tuned

LOG = logging.getLogger("promptgraft")


@dataclass(frozen=True)
class Predictions:
    """The predictions for a list of rows.

    Attributes:
        predictions: one for each row.
        probabilities: of the classes, `[rows, classes]`; they sum to 1 unless a row has several labels. None if the
            task has no classes.
        cut: how many inputs were longer than the model reads and were cut.
        blank: the numbers of the rows that contain no text, so that their answers mean nothing.
        unread: name of a model -> the numbers of the rows with few or no words that it knows, whose answers mean
            little; several models may answer together.
        windows: how many parts were read; 0 if texts were read as they are.
        unlike: which texts are unlike the labelled rows; None if the artefact has no features of these.
        given: which answers are sure enough for the given risk, `[rows]`; with several labels a row, which labels are,
            `[rows, labels]`. None without a risk.
    """

    predictions: list[Label | str]
    probabilities: np.ndarray | None
    cut: int = 0
    blank: tuple[int, ...] = ()
    unread: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    windows: int = 0
    unlike: np.ndarray | None = None
    given: np.ndarray | None = None

    def held_to(self, classes: Sequence[str], abstain_as: str | None = None) -> list[Label | str | None]:
        """The predictions without what is not sure enough.

        A row keeps those of several labels that are sure enough; where it would have some and none is, it is held back.

        Args:
            abstain_as: what stands in the place of a row that is held back.
        """
        if self.given is None:
            return [*self.predictions]
        if self.given.ndim == 1:
            return [answer if sure else abstain_as for answer, sure in zip(self.predictions, self.given, strict=True)]
        rows = zip(_names(self.predictions), self.given, strict=True)
        kept = [tuple(name for name in names if row[classes.index(name)]) for names, row in rows]
        pairs = zip(_names(self.predictions), kept, strict=True)
        return [sure if sure or not names else abstain_as for names, sure in pairs]

    def sureness(self, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The probability of each answer and whether it is given; of several labels of each label that a row gets."""
        assert self.probabilities is not None, "only classes have probabilities"
        assert self.given is not None, "a risk was asked for"
        if self.given.ndim == 1:
            return self.probabilities.max(1, initial=0.0), self.given
        places = labels_given(self.predictions, classes)
        return self.probabilities[places], self.given[places]


@dataclass(frozen=True)
class Look:
    """What a member of a model makes of rows.

    Attributes:
        features: that its readout reads.
        scores: of the classes, before the members' are added.
    """

    features: Float[Tensor, "N F"]
    scores: Float[Tensor, "N *C"]


class Predictor:
    """Predicts with a tuned artefact on its backbone.

    Raises:
        ArtefactError: the artefact was tuned on another backbone.
    """

    def __init__(self, artefact: Artefact, backbone: Backbone) -> None:
        if artefact.card.backbone.fingerprint != backbone.fingerprint:
            where = f"artefact of {artefact.card.task.name}"
            raise other_backbone(artefact.card, backbone.fingerprint, backbone.name, where)
        self.artefact = artefact
        self.backbone = backbone
        self._cut_was_logged = self._blank_was_logged = False
        self._unread_logged: set[str] = set()

    def __repr__(self) -> str:
        task, members = self.task, len(self.tuned.members)
        classes = f", {len(task.classes)} classes" if task.classes else ""
        more = f", {members} members" if members > 1 else ""
        return (
            f"Predictor of {short(task.name, LONG)} ({task.kind}{classes}) with {short(self.backbone.name, LONG)}{more}"
        )

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

    @checked
    def threshold(self, risk: float) -> Threshold:
        """The lowest probability at which an answer is given at a risk.

        Args:
            risk: the share of the answers given that may be wrong, 0 to 1; with several labels a row, of the labels
                given.
        Raises:
            UsageError: the risk is not a number from 0 to 1.
            RunError: the task has no class probabilities.
        """
        if not self.task.facts.has_classes:
            what = f"a {self.task.kind} task has no class probabilities, by which an answer could be held back"
            raise RunError(what, where=self.task.name, do="leave the risk out")
        return threshold(self.tuned.held_out, check_risk(risk))

    @overload
    def predict(self, rows: object, *, windows: bool = False) -> list[Label | str]: ...

    @overload
    def predict(
        self, rows: object, *, windows: bool = False, risk: float | None, abstain_as: str | None = None
    ) -> list[Label | str | None]: ...

    @checked
    def predict(
        self, rows: object, *, windows: bool = False, risk: float | None = None, abstain_as: str | None = None
    ) -> Sequence[Label | str | None]:
        """Labels (a tuple if a row has several), numbers, choices, tags, answers or written texts, one for each row.

        Args:
            rows: a list (or another iterable) of texts; of pairs of texts; for tagging, of lists of words; for choices,
                of (text, choices); of `Example`s or dictionaries. Or a table with named columns (pandas, polars,
                pyarrow), which is read by the columns that the prompt was tuned from.
            windows: read long texts whole, in parts: probabilities, or numbers, are the means over the parts.
                Otherwise a text that is longer than the model reads is cut, which is logged once.
            risk: withhold answers so that at most this share of the answers given is wrong (see `threshold`), and
                answers to texts unlike the labelled rows; None gives all. With several labels a row each label is given
                or withheld by itself.
            abstain_as: the value in place of a withheld answer; with several labels a row, of a row none of whose
                labels is sure enough.
        Raises:
            UsageError: rows of another form, with the number of the first one; or `abstain_as` without a risk, or equal
                to a class.
            RunError: a risk for a task without class probabilities.
        """
        check_abstention(abstain_as, risk, self.classes)
        return self._logged(self.answers(rows, windows=windows, risk=risk)).held_to(self.classes, abstain_as)

    @checked
    def predict_proba(self, rows: object, *, windows: bool = False) -> np.ndarray:
        """Probabilities of the classes, `[rows, classes]`; the arguments are those of `predict`.

        With several labels a row, each label has its own probability.

        Raises:
            RunError: the task has no classes.
        """
        if not self.task.facts.has_classes:
            raise RunError(f"a {self.task.kind} task has no class probabilities", where=self.task.name)
        answers = self._logged(self.answers(rows, windows=windows))
        assert answers.probabilities is not None, "there are classes"
        return answers.probabilities

    @checked
    @within_memory(TO_READ)
    def answers(self, rows: object, *, windows: bool = False, risk: float | None = None) -> Predictions:
        """Predictions, their probabilities, which are given and how many inputs were cut; arguments as in `predict`."""
        limit = None if risk is None else self.threshold(risk)
        examples = examples_of(rows, self.task)
        answers = self._all_answers(examples, windows=windows)
        answers = replace(answers, blank=blank_rows(examples))
        if limit is None or answers.probabilities is None:
            return answers
        if self.task.facts.several:
            return replace(answers, given=limit.answers(answers.probabilities))
        given = limit.answers(answers.probabilities.max(1, initial=0.0))
        if answers.unlike is not None and limit.risk < 1:
            given &= ~answers.unlike
        return replace(answers, given=given)

    def _all_answers(self, examples: Sequence[Example], *, windows: bool) -> Predictions:
        """Predict every row, however sure the answer is."""
        if windows and (not self.task.facts.windows or any(example.pair is not None for example in examples)):
            raise UsageError("windows are for single texts that get a class or a number", where=self.task.name)
        if windows and examples:
            return self._pooled(*cut_into_windows(examples, self._tokens), len(examples))
        return self._answers(examples)

    @within_memory(TO_READ)
    def looks(self, examples: Sequence[Example]) -> list[Look]:
        """How each member of the model sees the rows: features and scores; for readouts of pooled states."""
        tokens = self._tokens(examples)
        if tokens.cut:
            LOG.warning("%s: %s", self.task.name, cut_note(tokens.cut, self.task.kind, None))
        weights = self.tuned.weights
        model = self.backbone if weights is None else self.backbone.with_weights(weights)
        forked.check(self.backbone.device)
        looks = []
        questions = self._questions(examples, tokens)
        self._log_unread(self.unread(examples, questions), len(examples), texts_as_places(examples))
        for question in questions:
            member, shown = question.tuned, question.tokens
            states = pooled(member.model or model, member.prompt, shown, member.read)
            with torch.no_grad():
                scores = score(member, states, shown)
            seen = scores if member.read in ANSWERED else features(states, shown, member.reading.encoding)
            looks.append(Look(seen, scores))
        return looks

    def evaluate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Metrics on labelled examples, in percent."""
        examples = in_classes(self.task.kind, examples, self.classes)
        answers = self._logged(self.answers(examples))
        return metric_score(self.task, answers.predictions, examples, answers.probabilities)

    def _answers(self, examples: Sequence[Example]) -> Predictions:
        """Predict each example as it is; texts that are too long are cut."""
        classes = self.task.facts.has_classes
        if not examples:
            return Predictions([], np.zeros((0, len(self.classes))) if classes else None)
        if self.tuned.readout.writes:
            return self._texts(examples)
        questions = self.questions(examples)
        tokens = questions[0].tokens
        scores, unlike = self._scores(questions)
        predictions = list(self.tuned.readout.predict(scores, tokens, examples, self.task))
        shares, unread = self._shares(scores) if classes else None, self.unread(examples, questions)
        return Predictions(predictions, shares, tokens.cut, unread=unread, unlike=unlike)

    def _texts(self, examples: Sequence[Example]) -> Predictions:
        """Write a text for each example."""
        question = self.to_write(examples)
        unread = self.unread(examples, [question])
        return Predictions([*self.written(question)], None, question.tokens.cut, unread=unread)

    def to_write(self, examples: Sequence[Example]) -> Question:
        """The model with the rows that it is to write texts for."""
        recipe = self.artefact.card.recipe
        most, limit = recipe.get("most", MOST), recipe.get("max_length", self.backbone.max_length)
        assert isinstance(most, int), "an artefact is checked when it is loaded"
        assert isinstance(limit, int), "an artefact is checked when it is loaded"
        limit = longest_read(self.backbone, self.tuned.prompt, limit, most)
        tokens = self.backbone.tokenize(examples, self.task.kind, self.tuned.reading.unanswered, max_length=limit)
        return Question(self.tuned, tokens)

    def written(self, question: Question) -> list[str]:
        """Write the texts that a model is asked for."""
        forked.check(self.backbone.device)
        most = self.artefact.card.recipe.get("most", MOST)
        assert isinstance(most, int), "an artefact is checked when it is loaded"
        return write(self.backbone, question.tuned, question.tokens, decoding_of(question.tuned, most))

    def _shares(self, scores: Tensor) -> np.ndarray:
        """Probabilities of the classes, from their scores."""
        shares: np.ndarray = scores.softmax(-1).numpy()
        return shares[..., 1] if self.task.facts.several else shares

    def _pooled(self, parts: Sequence[Example], owners: Sequence[int], rows: int) -> Predictions:
        """Predict all parts of the rows and take the mean over the parts of each row."""
        answers = self._answers(parts)
        unread = {model: _whole(numbers, owners, rows) for model, numbers in answers.unread.items()}
        shares = answers.probabilities
        if shares is None:
            numbers = _means(np.array(answers.predictions, dtype=float)[:, None], owners, rows)
            return Predictions(numbers[:, 0].tolist(), None, unread=unread, windows=len(parts))
        shares = _means(shares, owners, rows)
        unlike = None
        if answers.unlike is not None:  # a text is unlike the rows where most of its parts are
            unlike = _means(answers.unlike[:, None], owners, rows)[:, 0] > 0.5
        if self.task.facts.several:
            readout = self.tuned.readout
            assert isinstance(readout, ByLabel), "labels are read one by one"
            with np.errstate(divide="ignore"):  # a label may be certain
                odds = np.log(shares) - np.log1p(-shares)
            labels: Sequence[Label | str] = readout.chosen(torch.from_numpy(odds))
        else:
            labels = [self.classes[best] for best in shares.argmax(1)]
        return Predictions(list(labels), shares, unread=unread, windows=len(parts), unlike=unlike)

    def _logged(self, answers: Predictions) -> Predictions:
        """Log once each that texts were cut, that rows are blank and that words are unknown; return the answers."""
        if answers.cut and not self._cut_was_logged:
            LOG.warning("%s: %s", self.task.name, cut_note(answers.cut, self.task.kind))
            self._cut_was_logged = True
        if answers.blank and not self._blank_was_logged:
            LOG.warning("%s: %s", self.task.name, blank_note(answers.blank, len(answers.predictions)))
            self._blank_was_logged = True
        self._log_unread(answers.unread, len(answers.predictions))
        return answers

    def _log_unread(self, unread: Mapping[str, Sequence[int]], rows: int, places: Sequence[str] | None = None) -> None:
        """Log once for each model that rows hold few or no words that it knows."""
        for model, numbers in unread.items():
            if numbers and model not in self._unread_logged:
                LOG.warning("%s: %s", self.task.name, unread_note(numbers, rows, model, places))
                self._unread_logged.add(model)

    def unread(self, examples: Sequence[Example], questions: Sequence[Question]) -> dict[str, tuple[int, ...]]:
        """Name of a model -> the numbers of the rows with few or no words that it knows, where there are any.

        Args:
            questions: of the members, whose tokens are these rows'.
        """
        unread: dict[str, tuple[int, ...]] = {}
        for question in questions:
            model = question.tuned.model or self.backbone
            if model.name not in unread:
                unread[model.name] = tuple(model.unread(examples, question.tokens))
        return {name: numbers for name, numbers in unread.items() if numbers}

    def _tokens(self, examples: Sequence[Example], member: Tuned | None = None) -> Tokens:
        """The rows as a member of the model is shown them; by default the first."""
        member = member or self.tuned
        length = self.artefact.card.recipe.get("max_length")
        limit = length if isinstance(length, int) else None
        return (member.model or self.backbone).tokenize(examples, self.task.kind, member.reading, max_length=limit)

    def questions(self, examples: Sequence[Example]) -> list[Question]:
        """Each member of the model with the rows as it is shown them."""
        return self._questions(examples, self._tokens(examples))

    def _questions(self, examples: Sequence[Example], first: Tokens) -> list[Question]:
        """Each member of the model with the rows as it is shown them; those that are shown them alike share tokens."""
        shown: dict[tuple[Reading, str | None], Tokens] = {(self.tuned.reading.shown, None): first}
        questions = []
        for member in self.tuned.members:
            key = member.reading.shown, None if member.model is None else member.model.fingerprint
            if key not in shown:
                shown[key] = self._tokens(examples, member)
            questions.append(Question(member, shown[key]))
        return questions

    @cached_property
    def familiar(self) -> Familiar | None:
        """The rows that the artefact knows, by which texts unlike them are told; None where it has none."""
        memory = self.artefact.memory
        rows = self.artefact.labelled.get("features") if memory is None else memory.sample
        if rows is None or self.artefact.weights is not None or not self.task.facts.one_class:
            return None
        reads = "mark" if self.tuned.read == "mark" else "pooled"
        width = width_of(self.backbone, reads, self.artefact.card.encoding)  # the first member's part of a memory
        return Familiar.of(rows[:, :width])

    def _scores(self, questions: Sequence[Question]) -> tuple[Tensor, np.ndarray | None]:
        """Scores of all rows, and which of them are unlike the rows that the artefact knows."""
        forked.check(self.backbone.device)
        tokens = questions[0].tokens
        if self.familiar is None:
            return add_scores(answer(self.backbone, questions)), None
        first, others = self.tuned.members[0], questions[1:]
        states = pooled(self.backbone, first.prompt, tokens, first.read)
        with torch.no_grad():
            scores = [score(first, states, tokens).cpu()]
            distance = self.familiar.distance(features(states, tokens, first.reading.encoding))
        scores += answer(self.backbone, others)
        return add_scores(scores), self.familiar.unlike(distance).numpy()


def _means(values: np.ndarray, owners: Sequence[int], rows: int) -> np.ndarray:
    """The mean of the values of each row's parts."""
    total = np.zeros((rows, values.shape[1]))
    np.add.at(total, list(owners), values)
    return total / np.bincount(list(owners), minlength=rows)[:, None]


def _whole(parts: Sequence[int], owners: Sequence[int], rows: int) -> tuple[int, ...]:
    """The rows all of whose parts are among some."""
    chosen = set(parts)
    others = {owner for part, owner in enumerate(owners) if part not in chosen}
    return tuple(row for row in range(rows) if row not in others)


def _names(predictions: Sequence[Label | str]) -> list[tuple[str, ...]]:
    """The labels of each row of several."""
    return [names for names in predictions if isinstance(names, tuple)]


def blank_rows(examples: Sequence[Example]) -> tuple[int, ...]:
    """The numbers of the rows that hold nothing to read."""
    return tuple(number for number, example in enumerate(examples) if example.blank)


def blank_note(numbers: Sequence[int], rows: int, places: Sequence[str] | None = None) -> str:
    """A note that rows hold nothing to read.

    Args:
        numbers: of these rows, out of so many.
        places: what each of all rows is called; default: by its number.
    """
    first = first_place(numbers, places)
    return f"{len(numbers):,} of {rows:,} rows hold no text (first: {first}): their answers say nothing"


def cut_note(count: int, kind: Kind, remedy: str | None = "windows=True") -> str:
    """A note that texts were cut, and how to read them whole.

    Args:
        remedy: what to ask for, as whoever reads the note would; None where there is nothing to ask for.
    """
    inputs = "1 input was" if count == 1 else f"{count} inputs were"
    return f"{inputs} longer than allowed and cut" + (
        f"; {remedy} reads long texts whole" if remedy is not None and KINDS[kind].windows else ""
    )
