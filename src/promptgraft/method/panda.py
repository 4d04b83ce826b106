"""PANDA adds distillation from a teacher that knows the source prompt to prompt tuning (Zhong et al., TKDE 2024).

Three readings of it, since paper and released code differ:

| mode     | student starts | readout    | teacher                            | term                                  |
| released | at random      | linear     | finished PoT model on the target,  | 0.1 * beta * MSE of scores / batch,   |
|          |                |            | in train mode (dropout on)         | beta 0.1; rate 0.7 of prompt tuning's |
| paper    | at random      | linear     | source prompt + probe, frozen      | lambda * similarity * KL at T         |
| gated    | at the source  | label text | source prompt + carried readout    | KL weighted by the teacher's          |
|          |                |            |                                    | probability of the true label, its    |
|          |                |            |                                    | gradient a set share of the labels'   |

Placebo teachers take the source's place: `self` (prompt tuning from scratch), `shuffled-in-class`, `shuffled`,
`random`. `weight = 0` is the run without its term, at the mode's own rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, Work, register
from promptgraft.method.options import LabelMap, Options
from promptgraft.method.probe import probe
from promptgraft.method.setup import (
    carried_recipe,
    generator,
    label_text_on,
    make_run,
    new_readout,
    scratch,
    source_tuned,
    training_rows,
)
from promptgraft.prompt.init import Init, initial
from promptgraft.train.data import Data
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Run, Tuned
from promptgraft.train.teacher import Live, Recorded, as_wide, shuffled
from promptgraft.train.terms import Distill, Gated, Match, Term

RELEASED_DROPOUT = 0.1
RELEASED_RATE = 0.7  # 7e-3 for PANDA where prompt tuning has 1e-2 (run_cb_bert-panda.sh)
RELEASED_WEIGHT = 0.1  # beta, which the released scripts leave as it is
LACKS = {
    "self": "the teacher never saw the source: prompt tuning from scratch",
    "shuffled-in-class": "each row is shown the teacher's answer to another row of its class",
    "shuffled": "each row is shown the teacher's answer to another row",
    "random": "the teacher is a random prompt with a random readout",
}
"""What each placebo's teacher lacks."""


class PandaOptions(Options):
    mode: Literal["paper", "released", "gated"] = Field(
        "paper", description="Which version of PANDA: as in the paper, as in its released code, or gated."
    )
    teacher: Literal["source", "self", "shuffled-in-class", "shuffled", "random"] = Field(
        "source", description="The teacher; all but source are placebos."
    )
    weight: float | None = Field(None, ge=0, description="Weight of the distillation term; 0 leaves it out.")
    temperature: float = Field(2.0, gt=0, description="Temperature of the teacher's scores.")
    share: float = Field(0.5, ge=0, description="Share of the term's gradient, in mode gated.")
    similarity: Literal["own", "common", "one"] = Field(
        "own", description="Examples on which the task similarity is measured; one: the similarity is 1."
    )
    embedding: Literal["cls", "mean"] = Field("cls", description="Pooling of the task embeddings.")
    label_map: LabelMap = Field(default_factory=dict)

    @property
    def weighed(self) -> float:
        """The weight of the term, by default that of the mode."""
        if self.weight is not None:
            return self.weight
        return RELEASED_WEIGHT if self.mode == "released" else 1.0

    def placebo(self) -> str:
        return "no teacher: the same run without the term" if self.weighed == 0 else LACKS.get(self.teacher, "")


@dataclass(frozen=True)
class _Lesson:
    """A teacher, the rows it teaches, and the random numbers of its dropout if it has any."""

    tuned: Tuned
    rows: tuple[Data, Data]
    stream: torch.Generator


@register
class Panda(Method):
    name: ClassVar[str] = "panda"
    summary: ClassVar[str] = "prompt tuning with distillation from a teacher that knows the source prompt"
    needs: ClassVar[frozenset[Need]] = frozenset({"source", "labels", "gradients", "validation"})
    options: ClassVar[type[PandaOptions]] = PandaOptions

    def requires(self, job: Job) -> tuple[Job, ...]:
        """PoT on the target for the released teacher; prompt tuning from scratch for `self` and for the similarity."""
        plain = {"readout": "linear"}
        scratch_job = job.replace(method="prompt-tuning", source=None, options=plain, unlabelled=())
        options = options_of(job)
        jobs = []
        if options.teacher == "self" or (options.mode == "paper" and options.similarity != "one"):
            jobs.append(scratch_job)
        if options.mode == "released" and options.teacher in ("source", "shuffled", "shuffled-in-class"):
            jobs.append(job.replace(method="pot", options={"readout": "new"}, unlabelled=()))
        return tuple(jobs)

    def work(self, job: Job) -> Work:
        options = options_of(job)
        terms = 0 if options.weighed == 0 else 1
        if options.mode == "released":
            return Work("dropout", terms, teachers=terms)
        return Work("prompt", terms, probes=1 if options.mode == "paper" and terms else 0)

    def setup(self, job: Job, view: View) -> Run:
        options, carries = options_of(job), _carries(job, view)
        readout = view.task.facts.readout
        start = label_text_on(job, view, options.label_map) if carries else scratch(job, view, readout)
        rows = training_rows(view, start.readout, start.reading)
        lesson = _Lesson(self._teacher(job, view, start), rows, generator(job, 6))
        term = None if options.weighed == 0 else self._term(job, view, lesson)
        return make_run(
            job,
            view,
            start,
            recipe=_recipe(job, view),
            terms=() if term is None else (term,),
            dropout=RELEASED_DROPOUT if options.mode == "released" else 0.0,
            streams=(lesson.stream,),
            data=rows,
            carried=carries,
        )

    def _teacher(self, job: Job, view: View, student: Tuned) -> Tuned:
        """The model whose scores are distilled, before a placebo shuffles them."""
        options, required = options_of(job), {required_job.method: required_job for required_job in self.requires(job)}
        if options.teacher == "self":
            return view.finished(required["prompt-tuning"])
        if options.teacher == "random":
            recipe = job.recipe
            prompt = initial(Init(), view.backbone, recipe.length, recipe.depth, recipe.placement, generator(job, 4))
            readout = new_readout(job.replace(seed=job.seed + 1), view, type(student.readout).name, student.reading)
            return Tuned(prompt, readout, student.reading)
        if options.mode == "released":
            return view.finished(required["pot"])
        if _carries(job, view):
            return label_text_on(job, view, options.label_map)
        assert job.source is not None
        source = source_tuned(job.source)
        return probe(job, view, source.prompt, source.reading).tuned

    def _term(self, job: Job, view: View, lesson: _Lesson) -> Term:
        options = options_of(job)
        if options.mode == "released":
            return Match(_live(job, view, lesson), beta=options.weighed)
        teacher = _recorded(job, view, lesson)
        if options.mode == "gated":
            return Gated(teacher, options.weighed * options.share, options.temperature)
        similarity = 1.0 if options.similarity == "one" else self._similarity(job, view)
        return Distill(teacher, options.weighed * max(0.0, similarity), options.temperature)

    def _similarity(self, job: Job, view: View) -> float:
        """The cosine of the task embeddings of source and target, by which the paper weights its term."""
        assert job.source is not None
        options = options_of(job)
        (target,) = (required_job for required_job in self.requires(job) if required_job.method == "prompt-tuning")
        return view.similarity(job.source, view.finished(target), options.embedding, options.similarity)


def options_of(job: Job) -> PandaOptions:
    """The job's options."""
    return PandaOptions.read(job.method, job.options)


def _carries(job: Job, view: View) -> bool:
    """Whether student and teacher use the label-text readout (gated, on kinds that have it)."""
    return options_of(job).mode == "gated" and view.task.kind == "classification"


def _recipe(job: Job, view: View) -> Recipe:
    if options_of(job).mode == "released":
        rates = {"rate": job.recipe.rate, "readout_rate": job.recipe.readout_rate}
        return job.recipe.changed(**{name: rate * RELEASED_RATE for name, rate in rates.items()})
    return carried_recipe(job.recipe) if _carries(job, view) else job.recipe


def _groups(job: Job, gold: Tensor) -> Tensor | None:
    """The groups within which a placebo shuffles the teacher's scores; None where nothing is shuffled."""
    teacher = options_of(job).teacher
    if teacher == "shuffled":
        return torch.zeros(len(gold), dtype=torch.long)
    if teacher != "shuffled-in-class":
        return None
    if gold.is_floating_point() or gold.ndim > 1:
        raise RunError("shuffled-in-class needs classes", where=job.task.name, do="use teacher=shuffled")
    return gold


def _order(job: Job, gold: Tensor) -> Tensor:
    """The unit whose scores each unit is taught: itself, or another one under a shuffling placebo."""
    order = torch.arange(len(gold))
    groups = _groups(job, gold)
    return order if groups is None else shuffled(order, groups, generator(job, 5))


def _recorded(job: Job, view: View, lesson: _Lesson) -> Recorded:
    """A teacher whose scores on all training rows are computed once."""
    scores = view.answers(lesson.tuned, "train")
    if view.task.splits.get("unlabelled"):
        scores = torch.cat(as_wide([scores, view.answers(lesson.tuned, "unlabelled")]))
    return Recorded(scores[_order(job, lesson.rows[0].gold)])


def _live(job: Job, view: View, lesson: _Lesson) -> Live:
    """A teacher as in the released code, which runs at each step with dropout on."""
    data = lesson.rows[0]
    if len(data.gold) != len(data):
        raise RunError("PANDA as released distils rows, not words", where=job.task.name, do="use mode=paper")
    if lesson.tuned.reading.encoding != "cross" and view.task.kind == "pair":
        tokens = view.tokens("train", lesson.tuned.reading)
        data = Data(data.task, data.examples, tokens, data.gold, data.units, data.labelled)
    order = _order(job, lesson.rows[0].gold)
    return Live(view.backbone, lesson.tuned, data, order, RELEASED_DROPOUT, lesson.stream)
