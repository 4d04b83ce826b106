"""Algorithms reach models through an oracle alone, which counts what they ask, answers it once and keeps the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from promptgraft.searches.answers import cost_of, margin_of
from promptgraft.searches.budget import Budget, SpentError
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.journal import Journal, KeptAnswer
from promptgraft.searches.scorer import AskedRows, Scorer, unusable
from promptgraft.task.task import Example, content_hash

AT_ONCE = 1024
"""Rows that are scored before their answers are kept: a second of work for a small model."""


@dataclass(frozen=True)
class RowScore:
    """What a candidate answered to a row.

    Attributes:
        cost: between 0 and 1, the smaller the better (`cost_of`).
        answer: the place of what it said among the row's possible answers.
        margin: the probability of the right answer less that of the likeliest other one.
    """

    cost: float
    answer: int
    margin: float

    def merit(self, *, written: bool) -> float:
        """1 for a right answer, 0 for a wrong one; of a text to be written its tokens' mean probability.

        A cost of more than a half is that of a wrong answer, and of a text it is half of what its probability lacks.
        """
        return 1 - 2 * self.cost if written else float(self.cost <= 0.5)


@dataclass(frozen=True)
class Priced:
    """A question that is ready to be asked.

    Attributes:
        passes: what it costs at most.
        ask: gives the answer, as JSON has it, and the passes and tokens that it did cost.
    """

    passes: int
    ask: Callable[[], tuple[Any, int, int]]


class Oracle:
    """Answers about one part of a search's rows.

    Attributes:
        examples: the rows of the part.
        own: whether these are the search rows, which candidates may show.
    """

    def __init__(
        self, scorer: Scorer, examples: Sequence[Example], budget: Budget, journal: Journal, *, own: bool = True
    ) -> None:
        self.scorer, self.examples, self.own = scorer, tuple(examples), own
        self.budget, self.journal = budget, journal
        self._gold = scorer.gold(self.examples)
        self._known: dict[str, dict[int, RowScore]] = {}
        self._unusable: dict[str, str] = {}

    def scores(self, candidates: Sequence[Candidate], rows: Sequence[int]) -> list[list[RowScore] | None]:
        """What each candidate answers to some rows; None where it cannot be used. What is known costs nothing.

        Raises:
            SpentError: the budget does not suffice; what could be paid is known then.
        """
        wanted: dict[str, tuple[Candidate, tuple[int, ...]]] = {}
        for candidate in candidates:
            known = self._known.setdefault(candidate.key, {})
            missing = tuple(row for row in rows if row not in known)
            if missing and candidate.key not in self._unusable:
                wanted[candidate.key] = candidate, missing
        for part in _parts(list(wanted.values())):
            self._learn(part)
        return [
            None if candidate.key in self._unusable else [self._known[candidate.key][row] for row in rows]
            for candidate in candidates
        ]

    def problem(self, candidate: Candidate) -> str:
        """Why a candidate cannot be used; empty where it can, or was not asked about yet."""
        return self._unusable.get(candidate.key, "")

    def _learn(self, wanted: Sequence[tuple[Candidate, tuple[int, ...]]]) -> None:
        question = content_hash(["scores", *(text for own, rows in wanted for text in (own.key, repr(rows)))])
        answers = self.ask(question, lambda: self._plan(wanted))
        for (candidate, _), answer in zip(wanted, answers, strict=True):
            if isinstance(answer, str):
                self._unusable[candidate.key] = answer
                continue
            scores = {row: RowScore(*values) for row, *values in zip(*answer, strict=True)}
            self._known[candidate.key] |= scores

    def _plan(self, wanted: Sequence[tuple[Candidate, tuple[int, ...]]]) -> Priced:
        results = self.scorer.sheets(wanted, self.examples, own=self.own)
        sheets = [sheet if isinstance(sheet, AskedRows) else unusable(sheet) for sheet in results]
        usable = [sheet for sheet in sheets if isinstance(sheet, AskedRows)]
        passes = sum(sheet.tokens.sequences for sheet in usable)
        tokens = sum(len(sheet.tokens.ids) for sheet in usable)

        def ask() -> tuple[list[Any], int, int]:
            shares = iter(self.scorer.shares(usable) if usable else ())
            return (
                [sheet if isinstance(sheet, str) else self._told(sheet, next(shares)) for sheet in sheets],
                passes,
                tokens,
            )

        return Priced(passes, ask)

    def _told(self, sheet: AskedRows, share: Any) -> list[Any]:
        """A sheet's rows with their costs, answers and margins."""
        gold = [self._gold[row] for row in sheet.rows]
        margins = margin_of(share, gold).tolist()
        return [list(sheet.rows), cost_of(share, gold).tolist(), share.argmax(1).tolist(), margins]

    def ask(self, question: str, plan: Callable[[], Priced]) -> Any:
        """The answer to a question: that of before, or a new one, paid for and kept.

        Raises:
            SpentError: it costs more than is left; that is kept as well.
        """
        entry = self.journal.recall(question)
        if entry is None:
            entry = self._asked(question, plan())
            self.journal.keep(entry)
        if entry.answer is None:
            raise SpentError
        self.budget.spend(entry.passes, entry.tokens)
        return entry.answer

    def _asked(self, question: str, plan: Priced) -> KeptAnswer:
        if plan.passes > self.budget.left:
            return KeptAnswer(question, 0, 0, 0.0, None)
        start = time.monotonic()
        answer, passes, tokens = plan.ask()
        return KeptAnswer(question, passes, tokens, time.monotonic() - start, answer)


def _parts(
    wanted: list[tuple[Candidate, tuple[int, ...]]],
) -> list[list[tuple[Candidate, tuple[int, ...]]]]:
    """Candidates in groups of not many rows."""
    parts: list[list[tuple[Candidate, tuple[int, ...]]]] = []
    room = 0
    for candidate, rows in wanted:
        if not parts or len(rows) > room:
            parts.append([])
            room = AT_ONCE
        parts[-1].append((candidate, rows))
        room -= len(rows)
    return parts
