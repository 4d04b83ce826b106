"""How sure an answer must be to be given, so that few of the answers that are given are wrong.

The threshold is chosen on labelled rows that the model has not seen. A few dozen rows bound an error rate poorly: to be
95 % sure that it is below 5 %, 59 rows in a row must be right. So the calibrated probabilities are heard too, and count
for PRIOR rows: what they leave, together with the errors that were seen, gives a distribution of the error among the
answers, and nine tenths of it must lie within the risk. Where no threshold does that, nothing is answered. The bound of
the rows alone is computed and shown, and does not decide.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict

from promptgraft.errors import UsageError
from promptgraft.task.draws import Array
from promptgraft.train.run import HeldOut

RISK = 0.05
"""The risk that results are reported at."""
PRIOR = 10.0
"""Rows that the probabilities count for beside the errors that were seen."""
MORE, AT_MOST = 0.5, 0.02
"""What the probabilities leave is counted by half more, and by two points at most: the surest answers are wrong more
often than their probabilities say."""
LIKELY = 0.9
"""Share of the error's distribution that must lie within the risk. With its mean alone more answers are given than the
rows bear out."""
FEWEST = 5
"""Labelled rows that must reach a threshold: what fewer say is an accident."""
ROUNDING = 1e-5
"""Of a probability: the same text in other company differs in the last bits."""
SURE = 0.95
"""Confidence of the bound."""


class Selective(BaseModel):
    """What answering only where it is sure enough gives on rows with labels.

    Attributes:
        coverage: share of the rows that are answered.
        error: share of wrong ones among the answers; None where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    risk: float
    coverage: float
    error: float | None


@dataclass(frozen=True)
class Threshold:
    """The least probability of an answer that is given.

    Attributes:
        value: infinite where no answer can be given.
        rows, wrong: labelled rows, not seen in fitting, that reach it, and how many of these are wrong.
        known: labelled rows that it was chosen on.
        lowest: the lowest risk at which an answer could be given.
    """

    risk: float
    value: float
    rows: int
    wrong: int
    known: int
    lowest: float = 1.0

    def answers(self, confidence: Float[Array, "*N"]) -> Bool[Array, "*N"]:
        """Which answers are given."""
        return np.asarray(confidence >= self.value - ROUNDING)

    @property
    def bound(self) -> float:
        """Upper bound of the error among the answers, at SURE confidence (Clopper and Pearson 1934).

        It takes the threshold as given; that it was chosen on the same rows makes the bound a little too good.
        """
        if self.wrong >= self.rows:
            return 1.0
        from scipy.special import betaincinv

        return float(betaincinv(self.wrong + 1, self.rows - self.wrong, SURE))

    @property
    def needed(self) -> int:
        """Right answers without a wrong one that would bound the error by the risk."""
        return math.ceil(math.log(1 - SURE) / math.log(1 - self.risk)) if 0 < self.risk < 1 else 0


def check_risk(risk: object) -> float:
    """The risk itself.

    Raises:
        UsageError: it is no number from 0 to 1.
    """
    if not isinstance(risk, int | float | np.floating) or not 0 <= risk <= 1:
        shown = f"{risk:g}" if isinstance(risk, int | float | np.floating) else repr(risk)
        raise UsageError(f"risk {shown} is no share of wrong answers", do="give a number from 0 to 1, such as 0.05")
    return float(risk)


def check_abstention(abstain_as: object, risk: float | None, classes: Collection[object]) -> None:
    """Check what stands in the place of an answer that is held back.

    Raises:
        UsageError: no risk is given, by which answers would be held back; or it is a class, and looks like an answer.
    """
    if abstain_as is None:
        return
    if risk is None:
        what = "--abstain-as says what an answer that is held back becomes"
        raise UsageError(what, do="add --risk, such as 0.05")
    if abstain_as in classes:
        what = f"--abstain-as {abstain_as} is one of the classes, so that no one could tell it from an answer"
        raise UsageError(what, do="take another word")


def threshold(held_out: HeldOut | None, risk: float) -> Threshold:
    """The lowest probability at which the error among the answers of unseen rows is within the risk, most likely.

    The probabilities alone must say so too. At least FEWEST rows must reach it; where there are none such, no answer is
    given, unless every error is allowed.
    """
    everything = 0.0 if risk >= 1 else math.inf
    if held_out is None or not len(held_out.confidence):
        return Threshold(risk, everything, 0, 0, 0)
    confidence = held_out.confidence.double().numpy()
    wrong = ~held_out.correct.bool().numpy()
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    estimate = _likely_error(sure, np.cumsum(wrong[order]))
    can_end = np.append(sure[1:] < sure[:-1], True) & (np.arange(1, len(sure) + 1) >= FEWEST)  # equals are not parted
    within = np.flatnonzero((estimate <= risk) & can_end)
    value = everything
    if len(within):
        value = 0.0 if within[-1] == len(sure) - 1 else float(sure[within[-1]])
    reached = confidence >= value
    lowest = float(estimate[can_end].min(initial=1.0))
    return Threshold(risk, value, int(reached.sum()), int(wrong[reached].sum()), len(sure), lowest)


def _likely_error(sure: Float[Array, "N"], errors: Int[Array, "N"]) -> Float[Array, "N"]:
    """What the error among the first rows is most likely not above, for every number of first rows.

    Args:
        sure: probabilities of the rows' answers, the surest first.
        errors: how many of the first rows are wrong.
    """
    from scipy.special import betaincinv

    count = np.arange(1, len(sure) + 1)
    expected = np.cumsum(1 - sure) / count
    expected = np.clip(expected + np.minimum(MORE * expected, AT_MOST), 1e-9, 1 - 1e-9)
    likely = betaincinv(PRIOR * expected + errors, PRIOR * (1 - expected) + count - errors, LIKELY)
    return np.asarray(np.maximum(expected, likely))


def selective(confidence: Float[Array, "N"], correct: Bool[Array, "N"], limit: Threshold) -> Selective:
    """Coverage and error of the answers that a threshold lets through."""
    given = limit.answers(confidence)
    error = float(1 - correct[given].mean()) if given.any() else None
    return Selective(risk=limit.risk, coverage=float(given.mean()), error=error)


@dataclass(frozen=True)
class AnswerWords:
    """What an answer and a labelled row that one is held against are called.

    Attributes:
        answer, answered: a single answer, and what becomes of those that are given.
        rows: what the threshold was chosen on.
        missing: what there is none of, where there is nothing to choose it on.
        unit: what a promise takes so many of.
    """

    answer: str
    answered: str
    rows: str
    missing: str
    unit: str


ROWS = AnswerWords("answer", "answered", "labelled rows left out", "no labelled row", "rows")
LABELS = AnswerWords("label", "labels given", "labels of rows left out", "no label of a row", "labels")
"""The words for one class a row, and for several labels a row."""


def answered(
    limit: Threshold, confidence: Float[Array, "N"], given: Bool[Array, "N"], words: AnswerWords = ROWS
) -> str:
    """One sentence: how many texts are answered, what error is expected among them, and how sure that is.

    Args:
        confidence, given: of each text; of several labels a row of each label that a text would get.
    """
    texts, count = len(given), int(given.sum())
    share = f"{count:,} of {texts:,} {words.answered} ({100 * count / max(texts, 1):.1f} %)"
    expected = f", {100 * (1 - confidence[given].mean()):.1f} % of them wrong by their probabilities" if count else ""
    return f"{share}{expected}; {_basis(limit, words)}"


def _basis(limit: Threshold, words: AnswerWords) -> str:
    """What labelled rows say of a threshold."""
    if not limit.known:
        return f"{words.missing} was left out to learn a threshold from"
    if math.isinf(limit.value):
        found = f"the {limit.known:,} {words.rows} bear out no {words.answer} at a risk of {100 * limit.risk:g} %"
        return f"{found} ({_way_out(limit)})"
    wrong = "none" if not limit.wrong else f"{limit.wrong:,}"
    would = "answered" if words is ROWS else "given"
    seen = f"of {limit.known:,} {words.rows} {limit.rows:,} would be {would}, {wrong} of them wrong"
    bound = f"the error is below {100 * limit.bound:.1f} % with {100 * SURE:.0f} % confidence"
    if limit.bound <= limit.risk or limit.risk in (0, 1):
        return f"{seen}: {bound}"
    would_do = f"{limit.needed:,} {words.unit} without an error would do"
    return f"{seen}: too few to promise {100 * limit.risk:g} % ({bound}; {would_do})"


def _way_out(limit: Threshold) -> str:
    """What would give answers: a higher risk where there is one, else more rows."""
    if limit.lowest >= 1 or limit.known < FEWEST:
        return "label more rows"
    return f"they do at {math.ceil(100 * limit.lowest)} %; or label more rows"
