"""Runs an algorithm within its budget, chooses the best of what it found, and reports it on rows that nobody saw."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import save

from promptgraft.engine.interval import interval
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.store import ARTEFACT
from promptgraft.errors import RunError
from promptgraft.model.backbone import Backbone
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.artefact import save as save_artefact
from promptgraft.prompt.atomic import write_bytes, write_text
from promptgraft.prompt.card import SearchCard, SplitScore
from promptgraft.searches.algorithm import Algorithm
from promptgraft.searches.answers import mean_with_ends, most_answers, prediction_of
from promptgraft.searches.asker import Asker
from promptgraft.searches.board import Board, Point
from promptgraft.searches.budget import Budget, SpentError
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.journal import Journal
from promptgraft.searches.kept import artefact_of
from promptgraft.searches.oracle import Oracle, Priced, RowScore
from promptgraft.searches.race import race, score_all
from promptgraft.searches.scorer import Scorer, forget
from promptgraft.searches.space import Space
from promptgraft.searches.split import SearchSplit
from promptgraft.task.metrics import score
from promptgraft.task.task import Example, Task

FINALISTS = 5
"""Candidates among which the choosing rows choose, where a quarter of the budget suffices for them."""
UNPAID = 1 << 60
WRITTEN = 50
"""Report rows for which texts are written; to write takes far longer than to score."""
IDLE_ROUNDS = 25
"""Rounds in a row without a new question after which nothing new is expected."""

Tell = Callable[[int, str], None]
"""Is told how many passes were made, and of what."""


@dataclass(frozen=True)
class Standing:
    """How good a candidate is on some rows.

    Attributes:
        score: the task's metric, in percent; where texts are to be written, the mean probability of their tokens.
        low, high: its 95 % interval.
        answers: the place of what it said to each row among the row's possible answers.
        merits: of each row whether the answer is right (1 or 0), or the mean probability of its text's tokens.
    """

    score: float
    low: float
    high: float
    rows: int
    answers: tuple[int, ...]
    merits: tuple[float, ...]


@dataclass(frozen=True)
class FoundPrompt:
    """What an algorithm found.

    Attributes:
        algorithm: its name.
        choosing, report: how good it is on the rows that chose it, and on those that nobody saw.
        passes, tokens: that it took to find and choose it.
        seconds: of all of that, answers that were kept from before included.
        stopped: why the search ended.
        curve: the best candidates along the way.
        artefact: the same, to predict with and to be banked.
        texts: the task's metric of what the model writes for report rows; None where it chooses among answers.
    """

    algorithm: str
    candidate: Candidate
    choosing: Standing
    report: Standing
    passes: int
    tokens: int
    seconds: float
    stopped: str
    curve: tuple[Point, ...]
    artefact: Artefact
    texts: SplitScore | None = None

    @property
    def text(self) -> str:
        """Its template with what it shows written out, as `--template` takes it."""
        return self.artefact.card.template or self.candidate.template

    @property
    def lost(self) -> float:
        """How much of the score on the choosing rows the report rows do not show, in points."""
        return self.choosing.score - self.report.score


@dataclass(frozen=True)
class Setting:
    """What all algorithms of a search share.

    Attributes:
        proposer: the model that words and texts are asked of.
        passes: the budget of each algorithm.
        shots: labelled rows a class; None: all.
    """

    space: Space
    split: SearchSplit
    scorer: Scorer
    proposer: Backbone
    passes: int
    seed: int
    shots: int | None = None

    @property
    def passes_a_row(self) -> int:
        """Sequences that a row is, at most."""
        rows = (*self.split.search, *self.split.choosing, *self.split.report)
        return most_answers(rows, self.space.task) if self.scorer.answers else 1

    @property
    def reserve(self) -> int:
        """Passes that are kept for choosing."""
        each = len(self.split.choosing) * self.passes_a_row
        return each * min(FINALISTS, max(1, self.passes // 4 // each))

    @property
    def least(self) -> int:
        """The smallest budget: one candidate on all search rows, and the choosing of it."""
        return (len(self.split.search) + len(self.split.choosing)) * self.passes_a_row


def run_algorithm(kind: type[Algorithm], setting: Setting, folder: Path | None, tell: Tell) -> FoundPrompt:
    """Let an algorithm search, then choose and report.

    Args:
        folder: where its journal and the best so far are kept; None: nowhere.
    Raises:
        RunError: nothing that it proposed could be scored.
    """
    start = time.monotonic()
    journal = Journal(None if folder is None else folder / "journal.jsonl")
    budget = Budget(setting.passes - setting.reserve)
    oracle = Oracle(setting.scorer, setting.split.search, budget, journal)
    generator = random.Random(f"{kind.name}/{setting.seed}")
    algorithm = kind(setting.space, Asker(oracle, setting.proposer), generator)
    board = Board(setting.passes, written=setting.space.task.facts.written)
    stopped = _search(algorithm, oracle, board, folder, tell)
    budget.passes = setting.passes
    tell(budget.spent, f"{kind.name} (report)")
    candidate, choosing, report = _reported(setting, _judged(setting, board, budget, journal), journal)
    artefact = _artefact(setting, candidate, _card(kind, setting, (choosing, report), budget.spent))
    texts = _texts(setting, artefact, journal) if setting.space.task.facts.written else None
    seconds = journal.seconds + time.monotonic() - start
    found = FoundPrompt(
        kind.name,
        candidate,
        choosing,
        report,
        budget.spent,
        budget.tokens,
        seconds,
        stopped,
        tuple(board.curve),
        _finished(artefact, seconds, texts),
        texts,
    )
    if folder is not None:
        _keep_vectors(folder / "found.safetensors", candidate)
        save_artefact(found.artefact, folder / ARTEFACT)
        write_text(folder / "found.json", json.dumps(plain(found), ensure_ascii=False, indent=1))
    return found


def _card(kind: type[Algorithm], setting: Setting, scores: tuple[Standing, Standing], passes: int) -> SearchCard:
    """What is kept of a search: its cost, and the scores on the choosing and the report rows."""
    choosing, report = (SplitScore(value=own.score, low=own.low, high=own.high, rows=own.rows) for own in scores)
    model = setting.scorer.backbone.name
    return SearchCard(algorithm=kind.name, model=model, passes=passes, choosing=choosing, report=report)


def _artefact(setting: Setting, candidate: Candidate, card: SearchCard) -> Artefact:
    """What was found, as an artefact; its seconds are still to be said."""
    artefact = artefact_of(setting.space, setting.scorer, candidate, card)
    return artefact.replace(card=artefact.card.replace(seed=setting.seed, shots=setting.shots))


def _finished(artefact: Artefact, seconds: float, texts: SplitScore | None) -> Artefact:
    """The artefact of a search that is over."""
    scores = artefact.card.scores if texts is None else {"test": texts}
    return artefact.replace(card=artefact.card.replace(seconds=seconds, scores=scores))


def _texts(setting: Setting, artefact: Artefact, journal: Journal) -> SplitScore:
    """The task's metric of what the model writes for report rows, which the budget does not pay for."""
    task, rows = setting.space.task, setting.split.report[:WRITTEN]
    oracle = Oracle(setting.scorer, rows, Budget(UNPAID), journal, own=False)
    written = oracle.ask("texts of the report", lambda: Priced(0, lambda: (_written(setting, artefact, rows), 0, 0)))
    low, high = interval(task, written, rows)
    return SplitScore(value=score(task, written, rows)[task.metric], low=low, high=high, rows=len(rows))


def _written(setting: Setting, artefact: Artefact, rows: Sequence[Example]) -> list[str]:
    """What the model writes for rows with an artefact."""
    forget(setting.scorer.backbone)
    return [str(text) for text in Predictor(artefact, setting.scorer.backbone).predict(rows)]


def _search(algorithm: Algorithm, oracle: Oracle, board: Board, folder: Path | None, tell: Tell) -> str:
    """Propose, score and observe until the budget is spent, nothing is left, or nothing is gained; which of these."""
    idle = 0
    while idle < IDLE_ROUNDS:
        before, curve = oracle.budget.spent, len(board.curve)
        try:
            proposed = algorithm.propose()
            if not proposed:
                return "nothing was left to try"
            scored = race(proposed, oracle, board.best) if algorithm.races else score_all(proposed, oracle)
        except SpentError:
            return "the budget was spent"
        board.add(scored, oracle.budget.spent)
        algorithm.observe(scored)
        if folder is not None and len(board.curve) > curve:
            _keep_best(folder, board)
        tell(oracle.budget.spent, algorithm.name)
        if board.is_stuck(oracle.budget.spent):
            return "nothing more was gained beyond noise"
        idle = 0 if oracle.budget.spent > before else idle + 1
    return "nothing new was proposed any more"


def _keep_best(folder: Path, board: Board) -> None:
    """Write the best so far, with its vectors where it has some."""
    write_text(folder / "best.json", json.dumps(asdict(board.curve[-1]), ensure_ascii=False, indent=1))
    if board.best is not None:
        _keep_vectors(folder / "best.safetensors", board.best.candidate)


def _keep_vectors(path: Path, candidate: Candidate) -> None:
    """Write a candidate's vectors; nothing, and no file of before, where it has none."""
    if candidate.vectors is None:
        path.unlink(missing_ok=True)
        return
    write_bytes(path, save({"prompt": candidate.vectors.values.detach().contiguous()}))


def _judged(setting: Setting, board: Board, budget: Budget, journal: Journal) -> list[tuple[Candidate, Standing]]:
    """The last candidates by the choosing rows, which nothing was scored on before, the best first.

    Raises:
        RunError: none could be scored.
    """
    oracle = Oracle(setting.scorer, setting.split.choosing, budget, journal, own=False)
    rows = range(len(setting.split.choosing))
    judged = []
    for entry in board.finalists(FINALISTS):
        try:
            [scores] = oracle.scores([entry.candidate], rows)
        except SpentError:
            break
        if scores is not None:
            cost = sum(row.cost for row in scores) / len(scores)
            judged.append((judge(setting.space.task, setting.split.choosing, scores), cost, entry.candidate))
    if not judged:
        problem = "no candidate could be scored"
        raise RunError(
            problem, where=setting.space.task.name, do=f"give --passes {setting.least} or more, or a template"
        )
    judged.sort(key=lambda entry: (-entry[0].score, entry[1]))
    return [(candidate, standing) for standing, _, candidate in judged]


def _reported(
    setting: Setting, judged: Sequence[tuple[Candidate, Standing]], journal: Journal
) -> tuple[Candidate, Standing, Standing]:
    """The best candidate, how good it is on the choosing rows, and on the report rows, which the budget does not pay.

    One that leaves no room for the answer of a report row is passed over: that depends on lengths alone.

    Raises:
        RunError: that holds of all.
    """
    oracle = Oracle(setting.scorer, setting.split.report, Budget(UNPAID), journal, own=False)
    for candidate, choosing in judged:
        [scores] = oracle.scores([candidate], range(len(setting.split.report)))
        if scores is not None:
            return candidate, choosing, judge(setting.space.task, setting.split.report, scores)
    raise RunError(oracle.problem(judged[0][0]), where=setting.space.task.name)


def judge(task: Task, rows: tuple[Example, ...], scores: list[RowScore]) -> Standing:
    """How good what a candidate answered to rows is."""
    answers = tuple(row.answer for row in scores)
    merits = tuple(row.merit(written=task.facts.written) for row in scores)
    if task.facts.written:
        return Standing(*mean_with_ends(merits), len(rows), answers, merits)
    predictions = [prediction_of(row, answer, task) for row, answer in zip(rows, answers, strict=True)]
    low, high = interval(task, predictions, rows)
    return Standing(score(task, predictions, rows)["score"], low, high, len(rows), answers, merits)


def plain(found: FoundPrompt) -> dict[str, object]:
    """What was found, as JSON has it."""
    candidate = found.candidate
    shared = {
        "algorithm": found.algorithm,
        "template": candidate.template,
        "text": found.text,
        "verbalizer": candidate.verbalizer,
        "shown": list(candidate.shown),
        "origin": candidate.origin,
        "passes": found.passes,
        "tokens": found.tokens,
        "seconds": found.seconds,
        "stopped": found.stopped,
        "lost": found.lost,
    }
    judged = {
        name: {key: value for key, value in asdict(part).items() if key not in ("answers", "merits")}
        for name, part in (("choosing", found.choosing), ("report", found.report))
    }
    texts = {} if found.texts is None else {"texts": found.texts.model_dump()}
    return {**shared, **judged, **texts, "curve": [asdict(point) for point in found.curve]}
