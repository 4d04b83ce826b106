"""PANDA (Zhong et al., TKDE 2024): prompt tuning plus distillation from a teacher that knows the source prompt.

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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, Work, number, option, register
from promptgraft.method.probe import probe
from promptgraft.method.setup import (
    PLAIN,
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


@dataclass(frozen=True)
class _Lesson:
    """A teacher, the run's rows it was asked about, and the random numbers of its dropout where it has any."""

    tuned: Tuned
    rows: tuple[Data, Data]
    stream: torch.Generator


@register
class Panda(Method):
    name: ClassVar[str] = "panda"
    summary: ClassVar[str] = "prompt tuning with distillation from a teacher that knows the source prompt"
    needs: ClassVar[frozenset[Need]] = frozenset({"source", "labels", "gradients"})
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mode": ("paper", "released", "gated"),
        "teacher": ("source", "self", "shuffled-in-class", "shuffled", "random"),
        "weight": (),
        "temperature": (),
        "share": (),
        "similarity": ("own", "common", "one"),
        "embedding": ("cls", "mean"),
        "label-map": (),
    }

    def requires(self, job: Job) -> tuple[Job, ...]:
        """PoT on the target for the released teacher; prompt tuning from scratch for `self` and for the similarity."""
        plain = {"readout": "linear"}
        scratch_job = job.replace(method="prompt-tuning", source=None, options=plain, unlabelled=())
        mode, teacher = option(job, "mode"), option(job, "teacher")
        wanted = []
        if teacher == "self" or (mode == "paper" and option(job, "similarity") != "one"):
            wanted.append(scratch_job)
        if mode == "released" and teacher in ("source", "shuffled", "shuffled-in-class"):
            wanted.append(job.replace(method="pot", options={"readout": "new"}, unlabelled=()))
        return tuple(wanted)

    def work(self, job: Job) -> Work:
        terms = 0 if number(job, "weight", 1.0) == 0 else 1
        if option(job, "mode") == "released":
            return Work("dropout", terms, teachers=terms)
        return Work("prompt", terms, probes=1 if option(job, "mode") == "paper" and terms else 0)

    def setup(self, job: Job, view: View) -> Run:
        mode = option(job, "mode")
        start = label_text_on(job, view) if _carries(job, view) else scratch(job, view, PLAIN[view.task.kind])
        rows = training_rows(view, start.readout, start.encoding)
        lesson = _Lesson(self._teacher(job, view, start), rows, generator(job, 6))
        weight = number(job, "weight", 0.1 if mode == "released" else 1.0)
        term = None if weight == 0 else self._term(job, view, lesson, weight)
        return make_run(
            job,
            view,
            start,
            recipe=_recipe(job, view),
            terms=() if term is None else (term,),
            dropout=RELEASED_DROPOUT if mode == "released" else 0.0,
            streams=(lesson.stream,),
            data=rows,
            carried=_carries(job, view),
        )

    def _teacher(self, job: Job, view: View, student: Tuned) -> Tuned:
        """The model whose scores are distilled, before any shuffling."""
        teacher, required = option(job, "teacher"), {one.method: one for one in self.requires(job)}
        if teacher == "self":
            return view.finished(required["prompt-tuning"])
        if teacher == "random":
            recipe = job.recipe
            prompt = initial(Init(), view.backbone, recipe.length, recipe.depth, recipe.placement, generator(job, 4))
            readout = new_readout(job.replace(seed=job.seed + 1), view, type(student.readout).name, student.encoding)
            return Tuned(prompt, readout, student.pooling, student.encoding)
        if option(job, "mode") == "released":
            return view.finished(required["pot"])
        if _carries(job, view):
            return label_text_on(job, view)
        assert job.source is not None
        source = source_tuned(job.source)
        return probe(job, view, source.prompt, source.pooling).tuned

    def _term(self, job: Job, view: View, lesson: _Lesson, weight: float) -> Term:
        mode, temperature = option(job, "mode"), number(job, "temperature", 2.0)
        if mode == "released":
            return Match(_live(job, view, lesson), beta=weight)
        teacher = _recorded(job, view, lesson)
        if mode == "gated":
            return Gated(teacher, weight * number(job, "share", 0.5), temperature)
        similarity = 1.0 if option(job, "similarity") == "one" else self._similarity(job, view)
        return Distill(teacher, weight * max(0.0, similarity), temperature)

    def _similarity(self, job: Job, view: View) -> float:
        """The paper's balance: cosine of the task embeddings of the source's and the target's own prompt."""
        assert job.source is not None
        (target,) = (one for one in self.requires(job) if one.method == "prompt-tuning")
        return view.similarity(job.source, view.finished(target), option(job, "embedding"), option(job, "similarity"))


def _carries(job: Job, view: View) -> bool:
    """Whether student and teacher use the label-text readout (gated, on kinds that have it)."""
    return option(job, "mode") == "gated" and view.task.kind == "classification"


def _recipe(job: Job, view: View) -> Recipe:
    if option(job, "mode") == "released":
        return job.recipe.changed(rate=job.recipe.rate * RELEASED_RATE, readout_rate=job.recipe.readout_rate * 0.7)
    return carried_recipe(job.recipe) if _carries(job, view) else job.recipe


def _groups(job: Job, gold: Tensor) -> Tensor | None:
    """Within which groups a placebo shuffles the teacher's scores; None where it does not."""
    teacher = option(job, "teacher")
    if teacher == "shuffled":
        return torch.zeros(len(gold), dtype=torch.long)
    if teacher != "shuffled-in-class":
        return None
    if gold.is_floating_point() or gold.ndim > 1:
        raise RunError("shuffled-in-class needs classes", where=job.task.name, do="use teacher=shuffled")
    return gold


def _order(job: Job, gold: Tensor) -> Tensor:
    """Whose scores each unit is shown: its own, or another's under a shuffling placebo."""
    own = torch.arange(len(gold))
    groups = _groups(job, gold)
    return own if groups is None else shuffled(own, groups, generator(job, 5))


def _recorded(job: Job, view: View, lesson: _Lesson) -> Recorded:
    """The teacher's scores on all training rows, computed once."""
    scores = view.answers(lesson.tuned, "train")
    if view.task.splits.get("unlabelled"):
        scores = torch.cat(as_wide([scores, view.answers(lesson.tuned, "unlabelled")]))
    return Recorded(scores[_order(job, lesson.rows[0].gold)])


def _live(job: Job, view: View, lesson: _Lesson) -> Live:
    """The teacher as released: run at each step with dropout on."""
    data = lesson.rows[0]
    if len(data.gold) != len(data):
        raise RunError("PANDA as released distils rows, not words", where=job.task.name, do="use mode=paper")
    if lesson.tuned.encoding != "cross" and view.task.kind == "pair":
        tokens = view.tokens("train", lesson.tuned.encoding)
        data = Data(data.task, data.examples, tokens, data.gold, data.units, data.labelled)
    order = _order(job, lesson.rows[0].gold)
    return Live(view.backbone, lesson.tuned, data, order, RELEASED_DROPOUT, lesson.stream)
