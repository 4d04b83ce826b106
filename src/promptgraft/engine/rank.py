"""A ranking orders a bank's prompts for a target, with every measure's scores, their cost, and whether they differ."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from promptgraft.bank.bank import Bank
from promptgraft.engine.choose import POOLINGS
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.view import JobView
from promptgraft.errors import ArtefactError, BankError, RunError, UsageError
from promptgraft.measure.all import make as make_measure
from promptgraft.measure.all import measures as known_measures
from promptgraft.measure.measure import Score, SeenSource, Target, lead
from promptgraft.method.all import find
from promptgraft.method.job import Job, Source, StoredSource
from promptgraft.method.members import neighbours
from promptgraft.model.backbone import Backbone
from promptgraft.prompt.card import Card
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Reading
from promptgraft.readout.restore import check_artefact
from promptgraft.sheet import Sheet
from promptgraft.task.task import Task
from promptgraft.train.run import Fit

STAND_IN = "label-text"
"""The measure that is asked where a probe cannot judge."""


@dataclass(frozen=True)
class Ranked:
    """A source with its score by each measure."""

    source: Source
    scores: Mapping[str, Score]


@dataclass(frozen=True, repr=False)
class Ranking:
    """Sources, best first by the first measure.

    Attributes:
        passes: measure -> examples that went through the backbone, the tuning of a target prompt included
            (a training step counts three passes a row: forward, and backward at twice its cost).
        seconds: measure -> wall time.
        left_out: prompts that are not candidates, and why.
        skipped: measure -> why it could not judge this task.
        graft: which prompts graft would keep and what each would count, in words; empty where it cannot weigh them.
        notes: what was inferred, cut or drawn, and which rows the model can hardly read.
    """

    rows: tuple[Ranked, ...]
    measures: tuple[str, ...]
    passes: Mapping[str, int]
    seconds: Mapping[str, float]
    left_out: tuple[str, ...]
    skipped: Mapping[str, str]
    graft: str = ""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return self._sheet().text()

    def _repr_html_(self) -> str:
        return self._sheet().html()

    def _sheet(self) -> Sheet:
        facts = [f"{self.best.source.name} is first: {self.verdict}", *self.instead]
        facts += [self.graft] if self.graft else []
        facts += [f"left out: {len(self.left_out)} prompts, in .left_out"] if self.left_out else []
        rows = [[row.source.name, *(_scored(row.scores[name]) for name in self.measures)] for row in self.rows]
        heading = f"Ranking of {len(self.rows)} prompts by {self.measures[0]}"
        return Sheet(heading, tuple(facts), ("source", *self.measures), rows)

    @property
    def best(self) -> Ranked:
        return self.rows[0]

    @property
    def instead(self) -> tuple[str, ...]:
        """In words: which measures could not judge the task, and which one sources are ordered by instead."""
        return tuple(f"{reason}; sources are ordered by {self.measures[0]}" for reason in self.skipped.values())

    @property
    def verdict(self) -> str:
        """In words: whether the first source is really ahead of the second."""
        first = self.measures[0]
        if len(self.rows) == 1:
            return "the only candidate"
        ahead = lead(self.rows[0].scores[first], self.rows[1].scores[first])
        difference = f"{ahead.value:+.3f} over {self.rows[1].source.name}"
        if ahead.error is None:
            return difference
        chance = f"which may be chance: the first of {len(self.rows)} leads by luck (standard error {ahead.error:.3f})"
        return f"{difference}, {'more than noise' if ahead.is_clear(len(self.rows)) else chance}"


def _scored(score: Score) -> str:
    """A score as text, with its error where it has one."""
    return f"{score.value:.3f}" if score.error is None else f"{score.value:.3f} +- {score.error:.3f}"


def candidates(bank: Bank, backbone: Backbone, task: Task) -> tuple[list[Source], tuple[str, ...]]:
    """Prompts of the bank that can be carried to a task on this backbone, and why the others cannot.

    Raises:
        BankError: none can.
    """
    sources, left_out = banked(bank, backbone)
    own = [source for source in sources if is_of(task, source.card)]
    sources = [source for source in sources if source not in own]
    left_out += [f"{source.name}: tuned on the target itself" for source in own]
    if not sources:
        reasons = f" ({'; '.join(left_out[:3])})" if left_out else ""
        do = f"tune one with `promptgraft tune TASK --model {backbone.name} --bank ...`"
        raise BankError(f"no prompt for {backbone.name} and {task.name}{reasons}", where=bank.folder, do=do)
    return sources, tuple(left_out)


def weighed(engine: LocalEngine, job: Job, sources: Sequence[Source]) -> str:
    """What graft would make of the sources on a job's training rows, in words; empty where it has no readout for them.

    The states that measures have read are there already.
    """
    graft = job.replace(method="graft", options={}, source=None, bank=tuple(sources))
    try:
        fit = find("graft").setup(graft, engine.view(graft))
    except RunError:
        return ""
    return fit.notes[0] if isinstance(fit, Fit) else ""


def is_of(task: Task, card: Card) -> bool:
    """Whether a prompt was tuned on the task."""
    return card.task.name == task.name or card.task.fingerprint == task.fingerprint


def banked(bank: Bank, backbone: Backbone) -> tuple[list[Source], list[str]]:
    """Prompts of the bank that this backbone can be read under, and why not the others."""
    bank = bank.serving(backbone.fingerprint, backbone.name)
    sources: list[Source] = []
    left_out = []
    services = bank.record().prompts
    for entry in bank.list():
        card = entry.card
        if card.backbone.fingerprint != backbone.fingerprint:
            left_out.append(f"{entry.name}: tuned on {card.backbone.name}")
        elif card.prompt is None:
            left_out.append(f"{entry.name}: has no prompt ({card.method})")
        elif card.others:
            left_out.append(f"{entry.name}: is a graft of other prompts")
        else:
            try:
                artefact = bank.load(entry.name, fingerprint=backbone.fingerprint)
                check_artefact(artefact, backbone)
                read = partial(bank.load, entry.name, fingerprint=backbone.fingerprint)
                sources.append(StoredSource(entry.name, artefact, services.get(artefact.hash), read))
            except ArtefactError as error:
                left_out.append(f"{entry.name}: {error.what}")
    return sources, left_out


def rank_sources(
    engine: LocalEngine, job: Job, sources: Sequence[Source], measures: Sequence[str], left_out: Sequence[str]
) -> Ranking:
    """Score every source by every measure on the job's training rows.

    Validation rows are left for what comes after, the choice of a step and of a method: a source that was chosen on
    them too would look better there than it is.

    Args:
        job: how the target's own prompt is tuned, for the measures that need one.
        measures: each `NAME` or `NAME:OPTION=VALUE:...`.
    Raises:
        RunError: no measure can judge the task.
    """
    measures = [measures] if isinstance(measures, str) else measures
    if not measures:
        raise UsageError("no measure was named", do=f"known: {', '.join(sorted(known_measures()))}")
    view, sources = engine.view(job), neighbours(sources)
    scores: dict[str, list[Score]] = {}
    passes: dict[str, int] = {}
    seconds: dict[str, float] = {}
    skipped: dict[str, str] = {}
    names = list(measures)
    for name in names:  # grows by what stands in for a probe
        began = time.perf_counter()
        try:
            scores[name], passes[name] = _scores(engine, name, sources, view)
        except RunError as error:
            skipped[name] = error.line
            if name.partition(":")[0] == "probe" and STAND_IN not in names:
                names.append(STAND_IN)
        else:
            seconds[name] = time.perf_counter() - began
    if not scores:
        raise RunError(
            "no measure can rank sources for this task", where=job.task.name, do=next(iter(skipped.values()))
        )
    rows = [
        Ranked(source, {name: values[place] for name, values in scores.items()}) for place, source in enumerate(sources)
    ]
    first = next(iter(scores))
    rows.sort(key=lambda row: (-row.scores[first].value, row.source.name))
    return Ranking(tuple(rows), tuple(scores), passes, seconds, tuple(left_out), skipped)


def _scores(engine: LocalEngine, name: str, sources: Sequence[Source], view: JobView) -> tuple[list[Score], int]:
    """The score of every source by a measure, and what all of them cost in passes."""
    measure = make_measure(name)
    prompt, cost = _target_prompt(engine, view) if "target-prompt" in measure.needs else (None, 0)
    labelled = view.task.replace(splits={"train": view.task.train})
    target = Target(labelled, Reading(view.pooling, view.encoding()), prompt)
    engine.teller.begin(dict.fromkeys((source.name for source in sources), 0.0), "prompts")
    engine.teller.now(name)
    scores = []
    for source, score in zip(sources, measure.score_all(map(_as_seen, sources), target, view), strict=True):
        scores.append(score)
        engine.teller.finish(source.name)
    return scores, cost + sum(score.passes for score in scores)


def _as_seen(source: Source) -> SeenSource:
    artefact = source.artefact
    assert artefact.prompt is not None, "candidates have prompts"
    stored = {pooling: artefact.embeddings[pooling] for pooling in POOLINGS if pooling in artefact.embeddings}
    return SeenSource(source.name, artefact.prompt, artefact.reading, stored)


def _target_prompt(engine: LocalEngine, view: JobView) -> tuple[Prompt | None, int]:
    """Tune the target's own prompt; return it with what that costs in passes."""
    (finished,) = engine.run([view.job])
    rows = min(view.job.recipe.batch, len(view.task.train))
    assert finished.tuned is not None, "prompts are always kept"
    return finished.tuned.prompt, 3 * rows * finished.result.steps
